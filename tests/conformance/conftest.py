"""A real engine over a few components, on both loops, with virtual time and every event kept."""

from collections.abc import Callable
from typing import Any

import pytest

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.errors import ComponentError
from stepflow.protocols import Observer
from stepflow.records import ErrorCode, Json, Task
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.clock import TurnedClock, turned_backend


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return turned_backend(request.param)


class Seen(Observer):
    """What happened: every event with its run, and every call of a component with its attempt."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.attempts: list[int] = []
        self.task_ids: list[str] = []

    def on_event(self, run_id: str, event: Any) -> None:
        self.events.append((run_id, event))

    def on_progress(self, task: Task, progress: Json) -> None:
        self.task_ids.append(task.id)

    def of(self, *kinds: type) -> list[Any]:
        return [event for _, event in self.events if isinstance(event, kinds)]

    def kinds(self) -> list[str]:
        return [type(event).__name__ for _, event in self.events]


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def app(seen: Seen) -> Components:
    """`/echo` gives its input back, `/fail` fails with the code that it is given."""
    app = Components()

    @app.component("/echo")
    async def echo(value: Any) -> Any:
        return value

    @app.component("/fail")
    async def fail(code: str, ctx: Context) -> None:
        seen.attempts.append(ctx.attempt)
        ctx.progress(None)
        raise ComponentError(f"{code}, as asked", code=ErrorCode(code))

    return app


@pytest.fixture
def make_engine(app: Components, seen: Seen) -> Callable[..., Engine]:
    def make(**options: Any) -> Engine:
        return Engine(app, store=MemoryBackend(keep_events=True), clock=TurnedClock(), observers=[seen], **options)

    return make


@pytest.fixture
def one_step() -> Callable[..., dict[str, Any]]:
    """A flow of one step, `it`, whose output is the flow's."""

    def flow(component: str, **step: Any) -> dict[str, Any]:
        return {"steps": [{"id": "it", "component": component, **step}], "output": {"$step": "it"}}

    return flow
