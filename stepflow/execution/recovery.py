"""Runs that an engine left unfinished: read their journals, apply them, go on. There is no other way to restore one."""

import logging
from collections.abc import Callable, Mapping, Sequence

import anyio
import msgspec
from anyio.abc import TaskGroup

from stepflow.errors import StoreError, StoreUnavailableError
from stepflow.execution.blocked import BlockedRuns
from stepflow.execution.events import (
    Checkpointed,
    Event,
    RunClaimed,
    RunEnded,
    RunStarted,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
    SubRunLinked,
    decode_events,
    encode_events,
)
from stepflow.execution.executor import Executor
from stepflow.execution.live import LiveRun
from stepflow.execution.patience import patiently
from stepflow.execution.submission import Plans, prepare, unprepared
from stepflow.execution.tree import Tree
from stepflow.execution.verdict import RetrySettings
from stepflow.flow.read import flow_from_json
from stepflow.plan.model import PENDING
from stepflow.protocols import Backend, Clock
from stepflow.records import (
    ErrorCode,
    Failed,
    Lease,
    Message,
    RunChange,
    RunId,
    RunRecord,
    RunStatus,
    Write,
)

logger = logging.getLogger("stepflow.run")

AT_ONCE = 8
"""Trees that are read at the same time."""

TRY_AGAIN_S = (0.2, 1.0)
"""The waits before a run that could not be restored is tried again; after the last it is put aside."""

Claimed = tuple[RunRecord, Lease]

_OF_STEPS = (StepStarted, StepSucceeded, StepFailed, StepDefaulted, StepRetried, SubRunLinked)


class Recovery:
    """Takes runs over and hands them to the executor.

    Args:
        heed: does what a message asks for, of a run that is driven here now.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        executor: Executor,
        clock: Clock,
        tasks: TaskGroup,
        plans: Plans,
        settings: RetrySettings,
        max_concurrency: int,
        output_validation: str,
        heed: Callable[[LiveRun, Message], None],
    ) -> None:
        self._backend = backend
        self._executor = executor
        self._clock = clock
        self._tasks = tasks
        self._plans = plans
        self._settings = settings
        self._max_concurrency = max_concurrency
        self._output_validation = output_validation
        self._heed = heed
        self.blocked = BlockedRuns(
            executor=executor, clock=clock, tasks=tasks, read=self._read_again, begin=self._begin_again
        )

    async def recover(
        self,
        owner: str,
        name: str,
        *,
        root_id: RunId | None = None,
        limit: int = 100,
        is_held: bool = False,
    ) -> Sequence[RunId]:
        """Take over runs that nobody drives, oldest first, or those of one root, and go on with them.

        A run that can't be read, also when tried again, is put aside as `recoveryFailed`, with the reason; the others
        go on.

        Args:
            owner, name: of this engine.
            is_held: let nothing begin in them.

        Returns: the root runs.
        """
        claimed = await self._backend.owners.claim(owner, root_id=root_id, limit=limit)
        if not claimed:
            return []
        trees: dict[RunId, list[Claimed]] = {}
        for record, lease in sorted(claimed, key=lambda claim: claim[0].id):
            trees.setdefault(record.root_id, []).append((record, lease))
        messages: dict[RunId, list[Message]] = {}
        for message in await patiently(self._clock, lambda: self._backend.inbox.receive(owner)):
            messages.setdefault(message.run_id, []).append(message)
        waiting = list(reversed(trees.values()))

        async def restore() -> None:
            while waiting:
                await self._recover_tree(waiting.pop(), name, messages, is_held=is_held)

        async with anyio.create_task_group() as readers:
            for _ in range(min(AT_ONCE, len(trees))):
                readers.start_soon(restore)
        return list(trees)

    async def _recover_tree(
        self, members: Sequence[Claimed], name: str, messages: Mapping[RunId, Sequence[Message]], *, is_held: bool
    ) -> None:
        try:
            runs, failures = await self._restore(members)
        except StoreUnavailableError:
            logger.warning("run %s can't be read now; it is tried again", members[0][0].id)
            runs, failures = {}, {}
        if failures or not runs:
            self._tasks.start_soon(self._try_again, members, name, is_held)
        else:
            self._begin(runs, name, messages, is_held=is_held)

    async def _try_again(self, members: Sequence[Claimed], name: str, is_held: bool) -> None:
        """What can't be read may be readable in a moment; whatever still can't is put aside, and the rest goes on."""
        for delay_s in TRY_AGAIN_S:
            await self._clock.sleep(delay_s)
            runs, failures = await patiently(self._clock, lambda: self._restore(members))
            if not failures:
                break
        for record, lease in members:
            if record.id in failures:
                await self._try_to_put_aside(record, lease, failures[record.id])
        self._begin(runs, name, {}, is_held=is_held)

    async def _try_to_put_aside(self, record: RunRecord, lease: Lease, error: Exception) -> None:
        try:
            await patiently(self._clock, lambda: self._put_aside(record, lease, error))
        except StoreError as failure:
            logger.error("run %s can be neither recovered nor put aside: %s", record.id, failure)
            self._executor.lost[record.id] = failure

    async def _restore(self, members: Sequence[Claimed]) -> tuple[dict[RunId, LiveRun], dict[RunId, Exception]]:
        """The runs of a tree as their journals tell them, and why some can't be told.

        Raises:
            StoreUnavailableError: which says nothing of the runs.
        """
        runs: dict[RunId, LiveRun] = {}
        failures: dict[RunId, Exception] = {}
        tree: Tree[LiveRun] | None = None
        for record, lease in members:
            try:
                self._check_claims(record)
                runs[record.id] = run = await self._restored(record, lease, tree, runs)
                tree = run.tree
            except StoreUnavailableError:
                raise
            except Exception as error:
                logger.warning("run %s can't be recovered", record.id, exc_info=not record.is_sealed)
                failures[record.id] = error
        return runs, failures

    def _begin(
        self,
        runs: dict[RunId, LiveRun],
        name: str,
        messages: Mapping[RunId, Sequence[Message]],
        *,
        is_held: bool,
    ) -> None:
        """Hand restored runs to the executor. Nothing of them begins before what was asked for meanwhile is done."""
        for run in runs.values():
            run.tree.is_held = True
        for run in runs.values():
            run.apply(RunClaimed(run.lease.owner, name, run.elapsed_ms(self._clock.now())))
            self._go_on(run, runs)
        for run in runs.values():
            for message in messages.get(run.id, ()):
                self._heed(run, message)
        for run in runs.values():
            if not (is_held or _is_paused(run)):
                self._executor.go_on(run.tree)
        if any(run.blocked is not None for run in runs.values()):
            self.blocked.watch(name)

    async def _read_again(self, tree: Tree[LiveRun]) -> dict[RunId, LiveRun] | None:
        """The runs of a tree as their journals tell them now; None: not all can be read."""
        runs, failures = await self._restore([(run.record, run.lease) for run in tree.runs.values()])
        return None if failures else runs

    def _begin_again(self, runs: dict[RunId, LiveRun], name: str) -> None:
        self._begin(runs, name, {}, is_held=False)

    def _check_claims(self, record: RunRecord) -> None:
        """A run that ends every engine before it can write anything is not tried for ever."""
        if record.claims > self._settings.recovery_max:
            raise ValueError(f"it was taken over {record.claims} times, and each time its engine died at once")

    async def _journal(self, record: RunRecord) -> tuple[list[Event], int, str | None]:
        """Every event that is kept, the position of the last, and why secrets of it can't be had here, if so."""
        events: list[Event] = []
        last = 0
        opening = self._executor.opening(record)
        decode = decode_events if opening is None else opening.decode
        while rows := await self._backend.journal.read(record.id, after=last):
            for row in rows:
                events += decode(row.payload)
            last = rows[-1].first + rows[-1].count - 1
        return events, last, None if opening is None else opening.missing

    async def _restored(
        self, record: RunRecord, lease: Lease, tree: Tree[LiveRun] | None, runs: Mapping[RunId, LiveRun]
    ) -> LiveRun:
        events, last, missing = await self._journal(record)
        started = _started(events)
        blob = await self._backend.blobs.get(started.flow_id)
        if blob is None:
            raise ValueError(f"its flow {started.flow_id} is not stored")
        parent = runs.get(record.parent.run_id) if record.parent is not None else None
        blocked = missing or (None if parent is None else parent.blocked)
        flow = flow_from_json(msgspec.json.decode(blob.content))
        if blocked is not None:
            prepared, events = unprepared(self._plans, flow), _counted(events)
        else:
            prepared = prepare(
                self._plans,
                flow,
                variables=started.variables,
                overrides=started.overrides,
                settings=self._settings,
                validation="off",
            )
        if tree is None:
            tree = Tree(started.max_concurrency or self._max_concurrency, Lease(lease.owner, 1))
        run = LiveRun(
            record=record,
            started=started,
            plan=prepared.plan,
            variables=prepared.variables,
            policies=prepared.policies,
            tree=tree,
            lease=lease,
            depth=0 if parent is None else parent.depth + 1,
            max_concurrency=None if record.parent is None else started.max_concurrency,
        )
        run.guard(prepared, parent, self._output_validation)
        try:
            run.restore(events, last)
            run.seal_with(self._executor.vault, prepared, parent, events)
        except BaseException:
            tree.remove(run)
            raise
        run.blocked = blocked
        return run

    def _go_on(self, run: LiveRun, runs: Mapping[RunId, LiveRun]) -> None:
        if run.blocked is not None:
            self._executor.hold(run, run.blocked)
            return
        link = run.record.parent
        parent = runs.get(link.run_id) if link is not None else None
        if link is not None and (parent is None or not _waits(parent, link.item, link.step)):
            self._executor.adopt(run, [])
            self._executor.end(run, RunStatus.CANCELLED, Failed(ErrorCode.CANCELLED, "its parent step has ended"))
            return
        self._fail_the_deadly(run)
        self._executor.adopt(run, run.unfinished())

    def _fail_the_deadly(self, run: LiveRun) -> None:
        """Steps whose starts ended with their engine's death too often are not tried again."""
        at = run.elapsed_ms(self._clock.now())
        for index, step in run.unfinished():
            deaths = run.state.items[index].deaths(step)
            if deaths > self._settings.recovery_max:
                name = run.plan.steps[step].id
                message = f'step "{name}" was running {deaths} times when its engine died; it is not started again'
                failed = Failed(ErrorCode.ORCHESTRATOR_ERROR, message, may_retry=False)
                run.apply_item(StepFailed(index, step, failed, at), index)

    async def _put_aside(self, record: RunRecord, lease: Lease, error: Exception) -> None:
        failed = Failed(
            ErrorCode.ORCHESTRATOR_ERROR,
            f"the run can't be recovered: {_said(record, error)}",
            may_retry=False,
        )
        now = self._clock.now()
        end = RunEnded(RunStatus.RECOVERY_FAILED, int((now - record.created_at) * 1_000), failed)
        change = RunChange(status=end.status, ended_at=now, error=failed)
        write = Write(
            run_id=record.id,
            lease=lease,
            first=await self._next_position(record.id),
            count=1,
            payload=encode_events([end]),
            change=change,
        )
        await self._backend.journal.commit([write])
        logger.error("run %s is put aside: %s", record.id, failed.message)

    async def _next_position(self, run_id: RunId) -> int:
        last = 0
        while rows := await self._backend.journal.read(run_id, after=last):
            last = rows[-1].first + rows[-1].count - 1
        return last + 1


def _is_paused(run: LiveRun) -> bool:
    return any(each.state.is_paused for each in run.tree.runs.values())


def _started(events: Sequence[Event]) -> RunStarted:
    if not events or not isinstance(events[0], RunStarted):
        raise ValueError("its journal does not begin with the run's start")
    return events[0]


def _counted(events: Sequence[Event]) -> list[Event]:
    """What the events say of items and of the run, without any step: that needs no value."""
    counted = [event for event in events if not isinstance(event, _OF_STEPS)]
    return [msgspec.structs.replace(event, open=[]) if isinstance(event, Checkpointed) else event for event in counted]


def _waits(parent: LiveRun, item: int, step: int) -> bool:
    """Whether the step that started a sub-run is still to come to an end."""
    opened = parent.state.items.get(item)
    return opened is not None and opened.outputs[step] is PENDING


def _said(record: RunRecord, error: Exception) -> str:
    """What may be shown of an error: that of a run with secrets may hold one."""
    kind = type(error).__name__
    return f"{kind}; what it says may hold a secret and is left out" if record.is_sealed else f"{kind}: {error}"
