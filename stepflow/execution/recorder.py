"""What happened becomes durable: the events of all runs, in groups that share one commit."""

import logging
from collections.abc import Callable, Sequence

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup, TaskStatus

from stepflow.execution.events import Event
from stepflow.execution.live import Held, LiveRun
from stepflow.execution.patience import patiently
from stepflow.protocols import Clock, GroupObserver, Observer, Store
from stepflow.records import Committed, ErrorCode, Failed, KeyTaken, LeaseLost, RunId, Verdict, Write

logger = logging.getLogger("stepflow.run")

FLUSH_S = 0.05
"""How long the start of a step may wait for other news to be committed with, where a commit costs something."""

FLUSH_ROUNDS = 3
"""The same in rounds of the loop, where it costs nothing."""


class Recorder:
    """Collects the runs that have news until the loop comes round, then commits them together.

    Args:
        released: told of each run whose events are durable now.
        abandoned: told of each run whose write was refused, because another engine owns it or another run has its key.
        unwritable: ends a run of which something can't be written.
    """

    def __init__(
        self,
        *,
        store: Store,
        is_durable: bool,
        clock: Clock,
        tasks: TaskGroup,
        checkpoint_every: int,
        released: Callable[[Held], None],
        abandoned: Callable[[LiveRun, LeaseLost | KeyTaken], None],
        unwritable: Callable[[LiveRun, Failed], None],
    ) -> None:
        self._store = store
        self._is_durable = is_durable
        self._clock = clock
        self._tasks = tasks
        self._checkpoint_every = checkpoint_every
        self._released = released
        self._abandoned = abandoned
        self._unwritable = unwritable
        self._dirty: list[LiveRun] = []
        self._unflushed: list[LiveRun] = []
        self._news = anyio.Event()
        self._event = type(self._news)  # that of the backend that runs, which need not be looked for each time
        self._is_closing = False
        self._served = anyio.Event()  # nobody commits any more
        self.failure: Exception | None = None  # what ended it, if anything but closing did
        self.asked_at: float | None = None  # when the store was asked for the commit that is under way

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Commit for as long as the engine is open. It says when it has begun: from then on, it will say that it ends.

        Raises: what a store raises besides that it is away, and what is a bug. The engine ends with it.
        """
        try:
            task_status.started()
            while not self._is_closing:
                await self._news.wait()
                self._news = self._event()
                await self._commit_all()
        except Exception as error:
            self.failure = error
            raise
        finally:
            self._served.set()

    async def _commit_all(self) -> None:
        while (self._dirty or (self._unflushed and not self._is_durable)) and not self._is_closing:
            if self._dirty:
                await self._commit_dirty()
            else:
                await self._flush_when_idle()

    async def close(self) -> None:
        """Commit what is left, once nobody else does.

        What a commit that was cut off had stays as it is: how that ended is not known, so nothing may follow it. And
        where one failed for good, nothing more is tried.
        """
        self._is_closing = True
        self._news.set()
        await self._served.wait()
        if self.failure is not None:
            return
        self._dirty = [run for run in self._dirty if not run.is_committing]
        if self._dirty:
            await self._commit_dirty()

    def add(self, run: LiveRun) -> None:
        """A run has events for the next commit, and is not among those that it takes yet."""
        run.is_dirty = True
        self._dirty.append(run)
        self._news.set()

    def add_later(self, run: LiveRun) -> None:
        """See to it that starts are stored soon, even where nothing else happens for long."""
        run.is_flushed_later = True
        self._unflushed.append(run)
        if not self._is_durable:
            self._news.set()
        elif len(self._unflushed) == 1:
            self._tasks.start_soon(self._flush_in_time)

    async def durable(self, run: LiveRun) -> None:
        """Wait until all that was applied to a run so far is stored."""
        if not (run.has_pending or run.is_committing):
            return
        stored = anyio.Event()
        run.commit_waiters.append(stored)
        if not run.is_dirty:
            self.add(run)
        await stored.wait()

    async def lasting(self, run: LiveRun) -> None:
        """Wait until all that was applied so far outlives this process, where anything of the run can."""
        if self._is_durable:
            await self.durable(run)

    async def _flush_in_time(self) -> None:
        await self._clock.sleep(FLUSH_S)
        self._flush()

    async def _flush_when_idle(self) -> None:
        if any(run.has_pending for run in self._unflushed):
            for _ in range(FLUSH_ROUNDS):
                await anyio.lowlevel.checkpoint()
                if self._dirty:
                    return
        self._flush()

    def _flush(self) -> None:
        unflushed, self._unflushed = self._unflushed, []
        for run in unflushed:
            run.is_flushed_later = False
            if not run.ended.is_set() and run.has_pending and not run.is_dirty:
                self.add(run)

    async def _commit_dirty(self) -> None:
        dirty, self._dirty = self._dirty, []
        writes: list[Write] = []
        held: list[Held] = []
        for run in dirty:
            run_writes, run_held = self._writes_of(run)
            run.is_dirty = False
            run.is_committing = True
            writes += run_writes
            held.append(run_held)
        verdicts = iter(await self._commit(writes))
        for part in held:
            mine = [next(verdicts) for _ in range(part.writes)]
            lost = next((verdict for verdict in mine if type(verdict) is not Committed), None)
            if lost is None:
                self._released(part)
            elif not part.run.is_abandoned:
                assert not isinstance(lost, Committed)
                self._abandoned(part.run, lost)

    def _writes_of(self, run: LiveRun) -> tuple[list[Write], Held]:
        """What to write of a run. One of which something can't be written is ended, and harms no other."""
        try:
            return run.take_writes(self._checkpoint_every)
        except (RecursionError, TypeError, ValueError) as error:
            logger.exception("run %s: what happened can't be recorded", run.id)
            what = "a value is nested too deeply" if isinstance(error, RecursionError) else str(error)
            failed = Failed(ErrorCode.ORCHESTRATOR_ERROR, f"what happened can't be recorded: {what}", may_retry=False)
        run.drop_unwritable()
        self._unwritable(run, failed)
        return run.take_writes(self._checkpoint_every)

    async def _commit(self, writes: list[Write]) -> Sequence[Verdict]:
        self.asked_at = self._clock.now()
        try:
            return await patiently(self._clock, lambda: self._store.commit(writes))
        finally:
            self.asked_at = None


def tell(observer: Observer, run_id: RunId, events: Sequence[Event]) -> None:
    """Show an observer what became durable; its faults are its own."""
    try:
        if isinstance(observer, GroupObserver):
            observer.on_events(run_id, events)
            return
        for event in events:
            observer.on_event(run_id, event)
    except Exception:
        logger.exception("an observer failed; the run goes on")
