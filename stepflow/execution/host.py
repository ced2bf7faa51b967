"""What plugins may ask of the engine while they perform a task."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import msgspec

from stepflow.errors import BlobNotFoundError, ComponentError, FlowInvalidError, InvalidInputError, Problem
from stepflow.execution.blocked import LOOK_S
from stepflow.execution.events import InputsClosed, ItemEnded, ItemsAdmitted, RunStarted, SubRunLinked
from stepflow.execution.executor import Executor
from stepflow.execution.live import LiveRun
from stepflow.execution.options import SubRunOptions, check_options
from stepflow.execution.patience import PatientBlobs, patiently
from stepflow.execution.references import Opening
from stepflow.execution.sealing import Sealer, Vault
from stepflow.execution.submission import (
    Plans,
    Prepared,
    chunks,
    input_checker,
    input_problem,
    passed_down,
    prepare,
    refusal,
)
from stepflow.execution.verdict import RetrySettings
from stepflow.execution.waits import SUB_RUN
from stepflow.flow.identity import canonical_flow
from stepflow.flow.model import Flow
from stepflow.flow.read import flow_from_json
from stepflow.plan.model import PENDING
from stepflow.protocols import Blobs, Chance, Clock, Runs, SubRun
from stepflow.records import (
    BlobId,
    BlobType,
    ErrorCode,
    Failed,
    Json,
    Outcome,
    ParentLink,
    RunRecord,
    RunStatus,
    Task,
)

logger = logging.getLogger("stepflow.run")

DEEPEST = 200
"""Levels of sub-runs below a root run. A flow that starts itself without end is stopped here."""


class EngineHost:
    """The engine, as plugins see it."""

    def __init__(
        self,
        *,
        executor: Executor,
        runs: Runs,
        blobs: Blobs,
        clock: Clock,
        chance: Chance,
        plans: Plans,
        settings: RetrySettings,
        output_validation: str,
    ) -> None:
        self.clock = clock
        self.blobs: Blobs = PatientBlobs(blobs, clock)
        self._executor = executor
        self._runs = runs
        self._chance = chance
        self._plans = plans
        self._settings = settings
        self._output_validation = output_validation
        self._flows: dict[BlobId, Flow] = {}

    def queued(self, task: Task, seconds: float) -> None:
        self._executor.steps.note_queued(task, seconds)

    def report(self, task: Task, progress: Json) -> None:
        for observer in self._executor.observers:
            try:
                observer.on_progress(task, progress)
            except Exception:
                logger.exception("an observer failed; the run goes on")

    @asynccontextmanager
    async def waiting(self, task: Task, reason: str) -> AsyncIterator[None]:
        async with self._executor.waiting(self._live(task), task.item, task.step, reason):
            yield

    async def run_flow(
        self,
        task: Task,
        flow: BlobId | Mapping[str, Json],
        inputs: Sequence[Json],
        *,
        key: str | None = None,
        variables: Mapping[str, Json] | None = None,
        overrides: Json = None,
        max_concurrency: int | None = None,
    ) -> SubRun:
        parent = self._live(task)
        key = key or self._next_key(parent, task.item, task.step, task.attempt)
        link = ParentLink(run_id=parent.id, item=task.item, step=task.step, key=key)
        asked: SubRunOptions = {"variables": variables, "overrides": overrides, "max_concurrency": max_concurrency}
        child = await self._sub_run(parent, link, task.attempt, flow, inputs, asked)
        if isinstance(child, RunRecord):
            return await self._finished(task, child)
        try:
            async with self.waiting(task, SUB_RUN):
                await child.ended.wait()
        except BaseException:
            self._executor.end(child, RunStatus.CANCELLED, Failed(ErrorCode.CANCELLED, "the parent step was cancelled"))
            raise
        if child.is_abandoned:
            await anyio.sleep_forever()  # the parent is abandoned with it, which cancels this
        record = await patiently(self.clock, lambda: self._runs.get(child.id))
        return await self._finished(task, record or child.record)

    async def begin_flow(
        self,
        parent: LiveRun,
        item: int,
        step: int,
        key: str | None,
        flow: BlobId | Mapping[str, Json],
        inputs: Sequence[Json],
        options: SubRunOptions,
    ) -> RunRecord:
        """Start a sub-run for a step that is done elsewhere, and give its record once it is stored.

        Raises: ComponentError, where the step has ended; FlowInvalidError, InputInvalidError, BlobNotFoundError.
        """
        opened = parent.state.items.get(item)
        if opened is None or not 0 <= step < len(opened.outputs) or opened.outputs[step] is not PENDING:
            raise ComponentError(f"step {step} of item {item} of run {parent.id} has ended", code=ErrorCode.CANCELLED)
        attempt = opened.attempts[step]
        key = key or self._next_key(parent, item, step, attempt)
        link = ParentLink(run_id=parent.id, item=item, step=step, key=key)
        child = await self._sub_run(parent, link, attempt, flow, inputs, options)
        if isinstance(child, RunRecord):
            return child
        await child.accepted.wait()
        return child.record

    @asynccontextmanager
    async def lending(self, parent: LiveRun, item: int, step: int) -> AsyncIterator[None]:
        """While inside, a step that is done elsewhere waits for sub-runs, and its slot is free for others."""
        place, tree = (parent.number, item, step), parent.tree
        if place not in tree.lent:
            tree.give_back(parent)
            self._executor.kick(tree)
        tree.lent[place] = tree.lent.get(place, 0) + 1
        try:
            yield
        finally:
            tree.lent[place] -= 1
            if not tree.lent[place]:
                del tree.lent[place]
                with anyio.CancelScope(shield=True):
                    await tree.take_again(parent)

    async def _sub_run(
        self,
        parent: LiveRun,
        link: ParentLink,
        attempt: int,
        flow: BlobId | Mapping[str, Json],
        inputs: Sequence[Json],
        options: SubRunOptions,
    ) -> LiveRun | RunRecord:
        """The sub-run of this link, begun now unless it was before; its record where it has ended."""
        variables = options.get("variables") or {}
        check_options({"key": link.key, "max_concurrency": options.get("max_concurrency")})
        known = await patiently(self.clock, lambda: self._runs.find_child(link))
        if known is not None and known.status.is_terminal and _may_reuse(known, attempt):
            return known
        child = self._child(parent, link)
        if child is None:
            prepared = await self._prepared(parent, link.item, flow, variables, options.get("overrides"))
            if self._executor.vault is not None:
                self._executor.vault.refuse_sub_run(prepared, variables, inputs, parent.sealer, link.item)
            meanwhile = self._child(parent, link)  # somebody may have asked for the same while the flow was read
            child = meanwhile or self._start(parent, link, prepared, inputs, options.get("max_concurrency"))
        return child

    def _live(self, task: Task) -> LiveRun:
        tree = self._executor.trees.get(task.root_run_id)
        for run in tree.runs.values() if tree is not None else ():
            if run.id == task.run_id:
                return run
        raise ComponentError(f"run {task.run_id} has ended", code=ErrorCode.CANCELLED)

    def _child(self, parent: LiveRun, link: ParentLink) -> LiveRun | None:
        return next((run for run in parent.tree.runs.values() if run.record.parent == link), None)

    @staticmethod
    def _next_key(parent: LiveRun, item: int, step: int, attempt: int) -> str:
        """Calls without a key are numbered, so that a step that is run again asks for the same sub-runs."""
        calls = parent.sub_run_calls.setdefault(item, {})
        place = (step, attempt)
        number = calls.get(place, 0)
        calls[place] = number + 1
        return f"#{number}"

    async def _flow(self, flow: BlobId | Mapping[str, Json]) -> Flow:
        if not isinstance(flow, str):
            return flow_from_json(flow)
        if flow not in self._flows:
            blob = await self.blobs.get(flow)
            if blob is None:
                raise BlobNotFoundError(flow)
            try:
                document = msgspec.json.decode(blob.content)
            except msgspec.DecodeError as error:
                raise FlowInvalidError([Problem(message=f"blob {flow} is not a flow: {error}")]) from None
            self._flows[flow] = flow_from_json(document)
        return self._flows[flow]

    async def _prepared(
        self,
        parent: LiveRun,
        item: int,
        source: BlobId | Mapping[str, Json],
        variables: Mapping[str, Json] | None,
        overrides: Json,
    ) -> Prepared:
        if parent.depth + 1 > DEEPEST:
            raise ComponentError(
                f"sub-runs are nested more than {DEEPEST} deep: does the flow start itself without end?",
                code=ErrorCode.ORCHESTRATOR_ERROR,
            )
        flow = await self._flow(source)
        prepared = prepare(
            self._plans,
            flow,
            variables=passed_down(flow, variables or {}, parent.variables),
            overrides=overrides,
            settings=self._settings,
            validation=parent.started.validation,
        )
        text = canonical_flow(flow).encode()
        if parent.sealer is not None:
            _refuse_shown(parent.sealer, parent.plan.flow, item, text)
        await self.blobs.put(text, BlobType.FLOW)
        return prepared

    def _start(
        self,
        parent: LiveRun,
        link: ParentLink,
        prepared: Prepared,
        inputs: Sequence[Json],
        max_concurrency: int | None,
    ) -> LiveRun:
        plan = prepared.plan
        refused = _refused(plan.flow, inputs, parent.started.validation)
        now = self.clock.now()
        record = RunRecord(
            id=self._chance.run_id(now),
            root_id=parent.record.root_id,
            flow_id=plan.flow_id,
            flow_name=plan.flow.name,
            parent=link,
            group=parent.record.group,
            created_at=now,
            total=len(inputs),
        )
        started = RunStarted(
            run_id=record.id,
            root_id=record.root_id,
            flow_id=plan.flow_id,
            started_at=now,
            flow_name=plan.flow.name,
            variables=prepared.given,
            overrides=prepared.overrides,
            max_concurrency=max_concurrency,
            deadline=parent.started.deadline,
            parent=link,
            validation=parent.started.validation,
            owner=parent.lease.owner,
        )
        child = LiveRun(
            record=record,
            started=started,
            plan=plan,
            variables=prepared.variables,
            policies=prepared.policies,
            tree=parent.tree,
            lease=parent.tree.lease,
            depth=parent.depth + 1,
            max_concurrency=max_concurrency,
        )
        child.guard(prepared, parent, self._output_validation)
        child.seal_with(self._executor.vault, prepared, parent)
        begin_with(child, inputs, refused)
        parent.apply_item(SubRunLinked(link.item, link.step, child.id, link.key, parent.elapsed_ms(now)), link.item)
        self._executor.mark_dirty(parent)
        self._executor.begin(child)
        return child

    async def _finished(self, task: Task, record: RunRecord) -> SubRun:
        vault = self._executor.vault
        if vault is None or not record.is_sealed:
            return await self._read(record, None)
        seen = vault.renewed({})
        sub_run, missing = await self._read_sealed(record, vault)
        if missing is None:
            return sub_run
        async with self.waiting(task, missing):
            while missing is not None:
                await self.clock.sleep(LOOK_S)
                before, seen = seen, vault.renewed(seen)
                if before != seen:
                    sub_run, missing = await self._read_sealed(record, vault)
        return sub_run

    async def _read(self, record: RunRecord, opening: Opening | None) -> SubRun:
        """What came of a sub-run, as far as it can be opened here."""
        outcomes: list[Outcome] = []
        missing = record.error or Failed(ErrorCode.CANCELLED, "the sub-run was cancelled")
        after = -1
        while page := await patiently(self.clock, partial(self._runs.results, record.id, after=after)):
            for result in page:
                outcomes.extend([missing] * (result.index - len(outcomes)))
                outcomes.append(result.outcome if opening is None else opening.outcome(result.outcome))
            after = page[-1].index
        outcomes.extend([missing] * ((record.total or 0) - len(outcomes)))
        return SubRun(record.id, record.status, tuple(outcomes))

    async def _read_sealed(self, record: RunRecord, vault: Vault) -> tuple[SubRun, str | None]:
        """The same, and what can't be had here."""
        opening = vault.opening()
        return await self._read(record, opening), opening.missing


def _may_reuse(known: RunRecord, attempt: int) -> bool:
    """Another attempt of a step finds what succeeded, and tries again what did not."""
    return known.status is RunStatus.COMPLETED or attempt == 1


def _refuse_shown(sealer: Sealer, flow: Flow, item: int, text: bytes) -> None:
    """A flow that an expression has put a secret into can't be stored: its id is made of its text."""
    if sealer.is_in(text, item) and not sealer.is_in(canonical_flow(flow).encode(), item):
        message = (
            "the flow of a sub-run holds a secret, and flows are stored in clear: pass it as a variable or an input"
        )
        raise InvalidInputError(message)


def _refused(flow: Flow, inputs: Sequence[Json], validation: str) -> dict[int, Failed]:
    """The items of a sub-run whose input does not fit the flow: each fails by itself, since nobody can mend it now."""
    checker = input_checker(flow, validation)
    refused: dict[int, Failed] = {}
    for index, input in enumerate(inputs if checker is not None else ()):
        problem = input_problem(index, input, checker) if checker is not None else None
        if problem is not None and validation == "strict":
            refused[index] = Failed(ErrorCode.INVALID_INPUT, refusal(problem))
        elif problem is not None:
            logger.warning("%s", refusal(problem))
    return refused


def begin_with(run: LiveRun, inputs: Sequence[Json], refused: Mapping[int, Failed] = {}) -> None:
    """Let a run begin with all its inputs, admitted in one commit; some may have failed already."""
    run.apply(run.started)
    for first, chunk in chunks(inputs):
        run.apply(ItemsAdmitted(first, chunk))
    for index, failed in refused.items():
        run.apply_end(ItemEnded(index, failed, 0))
    run.apply(InputsClosed(len(inputs)))
