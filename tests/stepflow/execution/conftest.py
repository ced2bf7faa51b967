"""What the tests of a run share: virtual time, and an engine over a few components."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from secret_shop import KEY, OUTSIDE, Shop

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.execution.events import Event
from stepflow.protocols import Observer
from stepflow.records import Task
from stepflow.stores.memory import MemoryBackend
from stepflow.testing.clock import TurnedClock, turned_backend


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return turned_backend(request.param)


class Events(Observer):
    """Keeps every event of every run."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Event]] = []

    def on_event(self, run_id: str, event: Any) -> None:
        self.all.append((run_id, event))

    def on_progress(self, task: Task, progress: Any) -> None:
        pass

    def of(self, *kinds: type) -> list[Any]:
        return [event for _, event in self.all if isinstance(event, kinds)]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def make_engine(events: Events) -> Callable[..., Engine]:
    def make(components: Components, **options: Any) -> Engine:
        options.setdefault("store", MemoryBackend(keep_events=True))
        return Engine(components, clock=TurnedClock(), observers=[events], **options)

    return make


def chain(*components: str, on_error: dict[str, Any] | None = None) -> dict[str, Any]:
    """A flow that hands the input from step to step."""
    steps: list[dict[str, Any]] = []
    source: dict[str, Any] = {"$input": "$"}
    for number, component in enumerate(components):
        step = {"id": f"s{number}", "component": component, "input": source}
        steps.append(step if on_error is None else {**step, "onError": on_error})
        source = {"$step": f"s{number}"}
    return {"steps": steps, "output": source}


@pytest.fixture
def chained() -> Callable[..., dict[str, Any]]:
    return chain


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be."""
    return tmp_path / "runs.db"


@pytest.fixture
def sealing_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key to seal with, and the secret that a variable is read from."""
    monkeypatch.setenv("STEPFLOW_SECRET_KEY", KEY)
    monkeypatch.setenv("SHOP_KEY", OUTSIDE)
