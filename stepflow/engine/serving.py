"""What a server asks of the engine that it stands around."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Unpack

import anyio
import anyio.lowlevel
import msgspec

from stepflow.engine.listing import made, routes_to
from stepflow.engine.opening import OpenedEngine
from stepflow.errors import (
    RunNotFoundError,
)
from stepflow.execution.handle import Run
from stepflow.execution.options import (
    SubRunOptions,
)
from stepflow.protocols import Exchange, Observer, Plugin
from stepflow.records import (
    BlobId,
    Json,
    Outcome,
    Ownership,
    RunId,
    Task,
    TaskId,
)

SLOW_STORE_S = 2.0
"""A store that takes less for an answer keeps nobody waiting who looks."""

PASSED_ON_ROUNDS = 10
"""Rounds of the loop that an answer may take from a plugin to the run's state."""


class ServedEngine(OpenedEngine):
    """An engine whose tasks are done by workers: it is told what they say, and asked what they want to know."""

    @property
    def exchange(self) -> Exchange:
        """Where this engine's tasks meet the workers of all engines that share its store. Open while the engine is."""
        return self._parts.executor.exchange

    def plugins(self) -> dict[str, Plugin]:
        """The plugins that can be made here, by name."""
        return made(self._parts.dispatcher, self._setup.sources)

    def routes_to(self, plugin: str) -> list[tuple[str, Mapping[str, Json]]]:
        """The routes that lead to a plugin, each with its params."""
        return routes_to(self._setup.table, plugin)

    def plugins_behind(self, component: str) -> list[tuple[str, Mapping[str, Json]]]:
        """The plugins that may answer for a component's path, each with the params of the route to it."""
        found = self._setup.table.candidates(component)
        return [(rule.plugin, rule.params) for candidate in found for rule in candidate.route.rules]

    def is_driving(self, run_id: RunId) -> bool:
        """Whether this engine drives the run now."""
        return self._parts.live(run_id) is not None

    @property
    def unanswered_since(self) -> float | None:
        """Since when the store has not answered what is to be recorded; None: it has, or soon enough."""
        since = self._parts.executor.unanswered_since
        return None if since is None or self._setup.clock.now() - since < SLOW_STORE_S else since

    async def ownership(self, run_id: RunId) -> Ownership | None:
        """Who has a run; of this engine also since when its store has not answered. None: there is no such run."""
        found = await self.backend.owners.ownership(run_id)
        if found is None or found.owner != self.owner:
            return found
        return msgspec.structs.replace(found, unanswered_since=self.unanswered_since)

    def observe(self, observer: Observer) -> None:
        """Let somebody more watch what happens, for as long as the engine is open."""
        self._parts.executor.observe(observer)

    @property
    def owner(self) -> str:
        """As whom this engine owns its runs: another name on each start, and after it was taken for dead."""
        return self._parts.membership.owner

    def note_waiting(self, task: Task, reason: str) -> None:
        """Have a step that is under way say what it waits for; an empty text: it does not wait any more."""
        live = self._parts.live(task.run_id)
        if live is not None and live.state.is_open(task.item, task.step):
            self._parts.executor.note_waiting(live, task.item, task.step, reason)

    def has_begun(self, run_id: RunId, task_id: TaskId) -> bool:
        """Whether this engine drives the run, and the step of this task has begun and not finished."""
        live = self._parts.live(run_id)
        return live is not None and live.place_of(task_id) is not None

    async def until_recorded(self, task: Task) -> None:
        """Return once an answer that the task's plugin was just given is stored, where this engine drives the run.

        Also when the plugin keeps it to itself, which is not waited for.
        """
        live = self._parts.live(task.run_id)
        if live is None or not self.backend.is_durable:
            return
        for _ in range(PASSED_ON_ROUNDS):
            if not live.state.is_open(task.item, task.step):
                break
            await anyio.lowlevel.checkpoint()
        await self._parts.executor.durable(live)

    async def announce(self, url: str) -> None:
        """Tell the other engines of the store where this one can be reached from now on."""
        await self._parts.membership.announce(url)

    async def answer(self, run_id: RunId, task_id: TaskId, outcome: Outcome, *, attempt: int | None = None) -> bool:
        """Take what came of a task of any run, from whoever did it: for servers, where a worker's answer finds nobody
        who waits for it. Durable when it returns; a run that another engine drives gets it from the store.

        Args:
            attempt: which one this is the answer to; None: that is not known.

        Returns: False where nobody wants it: the step has finished, or the run has ended.

        Raises:
            StoreUnavailableError: it may or may not have been kept; say it again.
            SecretKeyError: the run has secrets, and nothing here can seal the answer on its way to its owner.
        """
        return await self._parts.membership.answers.take(run_id, task_id, outcome, attempt)

    async def submit_sub_run(
        self,
        run_id: RunId,
        item: int,
        step: int,
        flow: BlobId | Mapping[str, Json],
        inputs: Sequence[Json],
        *,
        key: str | None = None,
        **options: Unpack[SubRunOptions],
    ) -> Run:
        """Start a sub-run for a step of a run that is driven here and done elsewhere, by a worker. It is stored then.

        The sub-run ends with its root. A key that the step gave before finds the sub-run that was begun for it, also
        after the run was taken over; without one, calls are numbered by attempt.

        Raises:
            RunNotFoundError: no such run is driven here.
            ComponentError: the step has ended.
            FlowInvalidError, InputInvalidError, BlobNotFoundError: see `submit`.
        """
        parent = self._parts.live(run_id)
        if parent is None:
            raise RunNotFoundError(run_id)
        record = await self._parts.host.begin_flow(parent, item, step, key, flow, inputs, options)
        return Run(self.backend, self._parts.executor, self._parts.membership, record, self._parts.live(record.id))

    @asynccontextmanager
    async def lending(self, run_id: RunId, item: int, step: int) -> AsyncIterator[None]:
        """While inside, a step of a run that is driven here waits for sub-runs of its own, and lends them its slot."""
        parent = self._parts.live(run_id)
        if parent is None:
            yield
            return
        async with self._parts.host.lending(parent, item, step):
            yield
