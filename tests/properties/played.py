"""Batches run by the engine in virtual time, and what they came to."""

import asyncio
from functools import partial
from typing import Any

import anyio
import trio
from hypothesis import HealthCheck, settings
from random_flows import registry

import stepflow
from stepflow.execution.events import Event, StepDefaulted, StepFailed, StepSucceeded
from stepflow.testing.clock import TurnedClock, turned_backend

QUICK = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
THOROUGH = settings(QUICK, max_examples=3_000)


class Played:
    """A batch, run by the engine in virtual time."""

    def __init__(self, backend: str, flow: Any, inputs: Any, *, order: str = "item", **options: Any) -> None:
        self.order = order
        self.calls: list[tuple[int, str, int]] = []
        self.events: list[Event] = []
        _, turned = turned_backend(backend)
        main = partial(self._main, flow, inputs, **options)
        if backend == "trio":
            self.results = trio.run(main, **turned)
            return
        with asyncio.Runner(**turned) as runner:
            self.results = runner.run(main())

    async def _main(self, flow: Any, inputs: Any, **options: Any) -> list[stepflow.ItemResult]:
        engine = stepflow.Engine(registry(self.calls), clock=TurnedClock(), observers=[self])
        with anyio.fail_after(1_000_000):  # virtual: a run that hangs is told at once
            async with engine:
                run = await engine.submit(flow, inputs, **options)
                return [result async for result in run.results(order=self.order)]

    def on_event(self, run_id: str, event: Any) -> None:
        self.events.append(event)

    def on_progress(self, task: Any, progress: Any) -> None:
        """None is reported."""

    def ended(self, flow: Any, item: int) -> dict[str, Any]:
        """What became of each step that ran, as the model says it."""
        found = {}
        for event in self.events:
            if isinstance(event, StepSucceeded | StepDefaulted) and event.item == item:
                found[flow["steps"][event.step]["id"]] = ("ok", event.output)
            elif isinstance(event, StepFailed) and event.item == item:
                found[flow["steps"][event.step]["id"]] = failed(event.error)
        return found


def failed(error: stepflow.Failed) -> Any:
    code = error.code.value
    return "failed", (code, None if code == "EXPRESSION_FAILURE" else error.message)


def outcome(result: stepflow.ItemResult) -> Any:
    return ("ok", result.output) if result.error is None else failed(result.error)
