"""The executor against a model of the language that has no scheduler."""

from collections import Counter
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_flows import flows, play, registry, values, variables
from reference_model import Item

import stepflow
from stepflow.execution.events import Event, StepDefaulted, StepFailed, StepSucceeded
from stepflow.testing.clock import TurnedClock, turned_backend

QUICK = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
THOROUGH = settings(QUICK, max_examples=3_000)

inputs = st.lists(values, min_size=1, max_size=3)


class Played:
    """A batch, run by the engine in virtual time."""

    def __init__(self, backend: str, flow: Any, inputs: Any, **options: Any) -> None:
        self.calls: list[tuple[int, str, int]] = []
        self.events: list[Event] = []
        name, backend_options = turned_backend(backend)
        main = partial(self._main, flow, inputs, **options)
        self.results = anyio.run(main, backend=name, backend_options=backend_options)

    async def _main(self, flow: Any, inputs: Any, **options: Any) -> list[stepflow.ItemResult]:
        engine = stepflow.Engine(registry(self.calls), clock=TurnedClock(), observers=[self])
        with anyio.fail_after(1_000_000):  # virtual: a run that hangs is told at once
            async with engine:
                run = await engine.submit(flow, inputs, **options)
                return [result async for result in run.results()]

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
                found[flow["steps"][event.step]["id"]] = _failed(event.error)
        return found


def _failed(error: stepflow.Failed) -> Any:
    code = error.code.value
    return "failed", (code, None if code == "EXPRESSION_FAILURE" else error.message)


def _outcome(result: stepflow.ItemResult) -> Any:
    return ("ok", result.output) if result.error is None else _failed(result.error)


def _same(one: Any, other: Any) -> bool:
    return repr(_ordered(one)) == repr(_ordered(other))  # True is not 1 here


def _ordered(value: Any) -> Any:
    match value:
        case dict():
            return {key: _ordered(value[key]) for key in sorted(value)}
        case list() | tuple():
            return [_ordered(item) for item in value]
        case _:
            return value


def check_against_the_model(backend: str, flow: Any, inputs: Any, variables: Any, max_concurrency: int | None) -> None:
    played = Played(backend, flow, inputs, variables=variables, max_concurrency=max_concurrency)

    for index, input in enumerate(inputs):
        model = Item(flow, input, variables, play)
        assert _same(_outcome(played.results[index]), model.result)
        assert _same(played.ended(flow, index), model.ended)
        called = Counter((step, attempt) for item, step, attempt in played.calls if item == index)
        assert called == Counter(model.dispatched)


limits = st.none() | st.integers(1, 5)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@QUICK
@given(flow=flows(), inputs=inputs, variables=variables, max_concurrency=limits)
def test_a_run_gives_what_the_model_gives(backend: str, **drawn: Any) -> None:
    check_against_the_model(backend, **drawn)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@THOROUGH
@given(flow=flows(max_steps=10), inputs=inputs, variables=variables, max_concurrency=limits)
def test_many_runs_give_what_the_model_gives(backend: str, **drawn: Any) -> None:
    check_against_the_model(backend, **drawn)


@QUICK
@given(flow=flows(max_steps=4), inputs=st.lists(values, max_size=12), limits=st.tuples(limits, limits))
def test_results_are_the_same_however_many_tasks_run_at_once(flow: Any, inputs: Any, limits: Any) -> None:
    one, other = [Played("asyncio", flow, inputs, max_concurrency=limit) for limit in limits]

    assert [result.index for result in one.results] == list(range(len(inputs)))
    assert [_outcome(result) for result in one.results] == [_outcome(result) for result in other.results]
    assert Counter(one.calls) == Counter(other.calls)


@QUICK
@given(flow=flows(max_steps=4), inputs=st.lists(values, max_size=12), max_concurrency=limits)
def test_streamed_inputs_and_lists_give_the_same(flow: Any, inputs: Any, max_concurrency: int | None) -> None:
    listed = Played("asyncio", flow, inputs, max_concurrency=max_concurrency)
    streamed = Played("asyncio", flow, iter(inputs), max_concurrency=max_concurrency)

    assert [_outcome(result) for result in listed.results] == [_outcome(result) for result in streamed.results]
