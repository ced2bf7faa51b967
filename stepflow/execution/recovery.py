"""Runs that an engine left unfinished: read their journals, apply them, go on. There is no other way to restore one."""

import logging
from collections.abc import Sequence

import msgspec

from stepflow.errors import StoreError
from stepflow.execution.events import Event, RunEnded, RunStarted, StepFailed, decode_events, encode_events
from stepflow.execution.executor import Executor
from stepflow.execution.live import LiveRun
from stepflow.execution.submission import Plans, prepare
from stepflow.execution.tree import Tree
from stepflow.execution.verdict import RetrySettings
from stepflow.flow.read import flow_from_json
from stepflow.plan.model import PENDING
from stepflow.protocols import Backend, Clock
from stepflow.records import ErrorCode, Failed, Lease, RunChange, RunId, RunRecord, RunStatus, Write

logger = logging.getLogger("stepflow.run")


class Recovery:
    """Takes runs over and hands them to the executor."""

    def __init__(
        self,
        *,
        backend: Backend,
        executor: Executor,
        clock: Clock,
        plans: Plans,
        settings: RetrySettings,
        max_concurrency: int,
        output_validation: str,
    ) -> None:
        self._backend = backend
        self._executor = executor
        self._clock = clock
        self._plans = plans
        self._settings = settings
        self._max_concurrency = max_concurrency
        self._output_validation = output_validation

    async def recover(self, owner: str, *, root_id: RunId | None = None) -> Sequence[RunId]:
        """Take over every run that nobody drives, or those of one root, and go on with them. Gives the root runs.

        A run that can't be read is put aside as `recoveryFailed`, with the reason; the others go on.
        """
        claimed = await self._backend.owners.claim(owner, root_id=root_id)
        trees: dict[RunId, list[tuple[RunRecord, Lease]]] = {}
        for record, lease in sorted(claimed, key=lambda claim: claim[0].id):
            trees.setdefault(record.root_id, []).append((record, lease))
        for members in trees.values():
            await self._recover_tree(members)
        return list(trees)

    async def _recover_tree(self, members: Sequence[tuple[RunRecord, Lease]]) -> None:
        runs: dict[RunId, LiveRun] = {}
        tree: Tree[LiveRun] | None = None
        for record, lease in members:
            try:
                events, last = await self._journal(record.id)
                parent = runs.get(record.parent.run_id) if record.parent is not None else None
                if tree is None:
                    started = _started(events)
                    tree = Tree(started.max_concurrency or self._max_concurrency)
                run = await self._restored(record, lease, events, last, tree, parent)
            except StoreError:
                raise  # says nothing of the run
            except Exception as error:
                logger.exception("run %s can't be recovered", record.id)
                await self._put_aside(record, lease, error)
                continue
            runs[record.id] = run
        for run in runs.values():
            self._go_on(run, runs)

    async def _journal(self, run_id: RunId) -> tuple[list[Event], int]:
        """Every event that is kept, and the position of the last."""
        events: list[Event] = []
        last = 0
        while rows := await self._backend.journal.read(run_id, after=last):
            for row in rows:
                events += decode_events(row.payload)
            last = rows[-1].first + rows[-1].count - 1
        return events, last

    async def _restored(
        self,
        record: RunRecord,
        lease: Lease,
        events: Sequence[Event],
        last: int,
        tree: Tree[LiveRun],
        parent: LiveRun | None,
    ) -> LiveRun:
        started = _started(events)
        blob = await self._backend.blobs.get(started.flow_id)
        if blob is None:
            raise ValueError(f"its flow {started.flow_id} is not stored")
        prepared = prepare(
            self._plans,
            flow_from_json(msgspec.json.decode(blob.content)),
            variables=started.variables,
            overrides=started.overrides,
            settings=self._settings,
            validation="off",
        )
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
        run.restore(events, last)
        return run

    def _go_on(self, run: LiveRun, runs: dict[RunId, LiveRun]) -> None:
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
            item = run.state.items[index]
            lost = item.attempts[step] - sum(item.retries.get(step, (0, 0)))
            if lost > self._settings.recovery_max:
                name = run.plan.steps[step].id
                message = f'step "{name}" was running {lost} times when its engine died; it is not started again'
                failed = Failed(ErrorCode.ORCHESTRATOR_ERROR, message, may_retry=False)
                run.apply_item(StepFailed(index, step, failed, at), index)

    async def _put_aside(self, record: RunRecord, lease: Lease, error: Exception) -> None:
        failed = Failed(
            ErrorCode.ORCHESTRATOR_ERROR,
            f"the run can't be recovered: {type(error).__name__}: {error}",
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

    async def _next_position(self, run_id: RunId) -> int:
        last = 0
        while rows := await self._backend.journal.read(run_id, after=last):
            last = rows[-1].first + rows[-1].count - 1
        return last + 1


def _started(events: Sequence[Event]) -> RunStarted:
    if not events or not isinstance(events[0], RunStarted):
        raise ValueError("its journal does not begin with the run's start")
    return events[0]


def _waits(parent: LiveRun, item: int, step: int) -> bool:
    """Whether the step that started a sub-run is still to come to an end."""
    opened = parent.state.items.get(item)
    return opened is not None and opened.outputs[step] is PENDING
