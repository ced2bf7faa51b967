"""Who answers for components, what it may ask of the engine, and who watches."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import msgspec

from stepflow.protocols.clock import Clock
from stepflow.protocols.store import Blobs
from stepflow.records import BlobId, ComponentInfo, Json, Outcome, RunId, RunStatus, Task


class SubRun(msgspec.Struct, frozen=True):
    """A finished sub-run."""

    id: RunId
    status: RunStatus
    results: tuple[Outcome, ...]  # in item order


class Host(Protocol):
    """What a plugin may ask of the engine while it performs a task."""

    @property
    def clock(self) -> Clock:
        """The engine's clock: whatever waits, waits on it."""
        ...

    @property
    def blobs(self) -> Blobs:
        """The engine's blobs."""
        ...

    async def run_flow(
        self,
        task: Task,
        flow: "BlobId | Mapping[str, Json]",
        inputs: Sequence[Json],
        *,
        key: str | None = None,
        variables: Mapping[str, Json] | None = None,
        overrides: Json = None,
        max_concurrency: int | None = None,
    ) -> SubRun:
        """Run a flow as a sub-run of the task's run and wait for its end; the task's slot is free meanwhile.

        The flow is a stored flow's id or a document. Submitting again with the same key (of this item and step)
        finds the first submission; without a key they are numbered in the order of the calls. Variables that the
        flow declares and that are not given are passed down from the task's run.

        Raises:
            FlowInvalidError, InputInvalidError: the flow or its inputs are refused; nothing was started.
            BlobNotFoundError: no flow has this id.
            ComponentError: sub-runs are nested too deeply.
        """
        ...

    def waiting(self, task: Task, reason: str) -> AbstractAsyncContextManager[None]:
        """While inside, the task only waits: its slot is given back, and taken again at the end."""
        ...

    def queued(self, task: Task, seconds: float) -> None:
        """Tell how long the task waited until a worker began with it, just before its outcome. Recorded with that."""
        ...

    def report(self, task: Task, progress: Json) -> None:
        """Tell whoever watches how far the task is. Not recorded."""
        ...


class Plugin(Protocol):
    """Who answers for components.

    A plugin is opened when a step first needs it and stays open until the engine closes. One whose tasks leave this
    process, so that they may be answered when it is gone, has an attribute `leaves_process` that is true.
    """

    def open(self) -> AbstractAsyncContextManager[None]:
        """Entered and left by one and the same task."""
        ...

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo] | None:
        """What can be called through a route with these params; None while that is not known yet. Must be cheap."""
        ...

    async def wait_components(self, params: Mapping[str, Json]) -> None:
        """Return once `components(params)` is known. An `Explaining` plugin may also once that says another thing."""
        ...

    async def perform(self, task: Task, host: Host) -> Outcome:
        """Do the work. Whatever goes wrong is a `Failed`; only cancellation and bugs come out as exceptions.

        The output is plain JSON and the caller's own (see `stepflow.plugins.normal`).
        """
        ...


@runtime_checkable
class Explaining(Protocol):
    """A plugin that knows why nobody has told it which components there are."""

    def lacking(self, params: Mapping[str, Json]) -> str:
        """What a step waits for, such as "no worker serves queue 'gpu'"."""
        ...


class Observer(Protocol):
    """Watches what happens. Called after the event is durable, on the engine's loop; must not block or raise.

    The values in an event are those of the run itself: whoever wants to change one takes a copy.
    """

    def on_event(self, run_id: RunId, event: object) -> None:
        """An event of `stepflow.execution.events`."""
        ...

    def on_progress(self, task: Task, progress: Json) -> None:
        """What a component reported of its own work."""
        ...


@runtime_checkable
class GroupObserver(Protocol):
    """An observer that is shown at once what became durable at once: called instead of `on_event`, and just like it."""

    def on_events(self, run_id: RunId, events: Sequence[object]) -> None:
        """Events of one run, in their order."""
        ...
