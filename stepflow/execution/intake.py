"""From a submission to a run under way: what is checked, what is stored, and who feeds it."""

import logging
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from math import inf

import anyio
import msgspec
from anyio.abc import TaskGroup

from stepflow.errors import InputInvalidError, Problem, RunNotFoundError, SecretKeyError
from stepflow.execution.again import again_options, begin_again, finished_part
from stepflow.execution.events import RunStarted
from stepflow.execution.executor import Executor
from stepflow.execution.feeding import Feeder, whole_inputs
from stepflow.execution.handle import STREAM_WINDOW, Run
from stepflow.execution.host import begin_with
from stepflow.execution.live import LiveRun
from stepflow.execution.membership import Membership
from stepflow.execution.options import FlowLike, SubmitOptions
from stepflow.execution.resume import Source, journal_start, refuse_other_inputs, refuse_other_run, stored_inputs
from stepflow.execution.submission import (
    Plans,
    Prepared,
    input_checker,
    prepare,
)
from stepflow.execution.tree import Tree
from stepflow.execution.verdict import RetrySettings
from stepflow.flow.identity import canonical_flow
from stepflow.flow.model import Flow
from stepflow.flow.schema import SchemaValidator
from stepflow.protocols import Backend, Chance, Clock
from stepflow.records import BlobId, BlobType, Json, RunId, RunRecord

logger = logging.getLogger("stepflow.engine")

TOUCH_AFTER_S = 3_600.0
"""A flow that is used is put again after so long, which tells the store that it is not to be deleted."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine holds for every run, unless its submission says otherwise."""

    retry: RetrySettings
    max_concurrency: int
    validation: str
    output_validation: str


class Intake:
    """Takes submissions.

    Args:
        plain: copies a value as plain JSON, and raises ValueError where it is none.
    """

    def __init__(
        self,
        *,
        backend: Backend,
        executor: Executor,
        membership: Membership,
        clock: Clock,
        chance: Chance,
        tasks: TaskGroup,
        plans: Plans,
        plain: Callable[[Json], Json],
        rules: Rules,
    ) -> None:
        self._backend = backend
        self._executor = executor
        self._membership = membership
        self._clock = clock
        self._chance = chance
        self._tasks = tasks
        self._plans = plans
        self._plain = plain
        self._rules = rules
        self._stored_flows: dict[BlobId, float] = {}

    async def submit(self, flow: FlowLike, inputs: Iterable[Json] | AsyncIterable[Json], options: SubmitOptions) -> Run:
        """See `Engine.submit`."""
        rules = self._rules
        mode = options.get("validation") or rules.validation
        prepared = self._prepared(flow, options, mode)
        checker = input_checker(prepared.plan.flow, mode)
        whole: list[Json] | None = None
        if isinstance(inputs, Sequence):
            whole = whole_inputs(inputs, self._plain, checker, is_strict=mode == "strict")
        if self._executor.vault is not None:
            self._executor.vault.refuse(prepared)
        source = inputs if isinstance(inputs, Source) else Source(inputs if whole is None else whole, self._clock)
        await self.store_flow(prepared.plan.flow_id, prepared.flow)
        while True:
            known = await self._known(prepared, source, checker, options)
            if isinstance(known, Run):
                return known
            live = self._live_run(prepared, options, None if whole is None else len(whole))
            live.supersedes = known
            run = await self._begin(live, whole, source, checker, is_strict=mode == "strict")
            if not live.is_abandoned:
                return run
            if live.key_taken is None:
                await self._membership.renewed(live.lease.owner)

    async def _begin(
        self,
        live: LiveRun,
        whole: list[Json] | None,
        source: Source,
        checker: SchemaValidator | None,
        *,
        is_strict: bool,
    ) -> Run:
        """Start a run, and return once it is stored, or refused."""
        if whole is not None:
            begin_with(live, whole)
        else:
            live.apply(live.started)
        self._executor.begin(live)
        run = self._run(live.record, live)
        try:
            await live.accepted.wait()
        except anyio.get_cancelled_exc_class():
            run.cancel_now()  # nobody has a handle on it
            raise
        if whole is None and not live.is_abandoned:
            live.is_fed = True
            self._feed(live, source, checker, is_strict=is_strict)
        return run

    async def again(self, former: RunId, options: SubmitOptions) -> Run:
        """See `Engine.retry`."""
        record = await self._backend.runs.get(former)
        if record is None:
            raise RunNotFoundError(former)
        known = await self._same_again(former, options.get("key"))
        if known is not None:
            return known
        began = await finished_part(self._backend, record, self._executor.opening(record))
        prepared = prepare(
            self._plans,
            began.flow,
            variables=began.started.variables,
            overrides=began.started.overrides,
            settings=self._rules.retry,
            validation=began.started.validation,
        )
        options = {**again_options(began.started), **options}
        live = self._live_run(prepared, options, began.total, retry_of=former)
        begin_again(live, began)
        self._executor.begin(live)
        await live.accepted.wait()
        return self._run(live.record, live)

    async def _same_again(self, former: RunId, key: str | None) -> Run | None:
        """The run that was submitted as a retry of the same one under the same key."""
        record = None if key is None else await self._backend.runs.find_key(key)
        if record is None:
            return None
        if record.retry_of != former:
            message = f"the key {key!r} belongs to run {record.id}, which is no retry of run {former}"
            raise InputInvalidError([Problem(message=message, remedy="take another key")])
        return self._run(record, self._executor.live(record.id))

    def _run(self, record: RunRecord, live: LiveRun | None) -> Run:
        return Run(self._backend, self._executor, self._membership, record, live)

    async def store_flow(self, flow_id: BlobId, flow: Flow) -> None:
        now = self._clock.now()
        if now - self._stored_flows.get(flow_id, -inf) >= TOUCH_AFTER_S:
            await self._backend.blobs.put(canonical_flow(flow).encode(), BlobType.FLOW)
            self._stored_flows[flow_id] = now

    def _feed(
        self, live: LiveRun, source: Source, checker: SchemaValidator | None, *, is_strict: bool, admitted: int = 0
    ) -> None:
        feeder = Feeder(
            live,
            executor=self._executor,
            clock=self._clock,
            plain=self._plain,
            checker=checker,
            is_strict=is_strict,
            may_go_on=live.record.key is not None and self._backend.is_durable,
            admitted=admitted,
        )
        self._tasks.start_soon(feeder.feed, source)

    async def _known(
        self, prepared: Prepared, source: Source, checker: SchemaValidator | None, options: SubmitOptions
    ) -> Run | RunId | None:
        """The run that was submitted under the key before; one that was left unfinished goes on.

        Its id alone where a new one is to take its place; None: there is none.
        """
        key = options.get("key")
        record = None if key is None else await self._backend.runs.find_key(key)
        if key is None or record is None:
            return None
        if options.get("new", False):
            return record.id
        opening = self._executor.opening(record)
        started = await journal_start(self._backend.journal, record.id, opening)
        refuse_other_run(key, started, prepared)
        if not record.status.is_terminal and self._executor.live(record.id) is None:
            await self._membership.recover(root_id=record.id)
            record = await self._backend.runs.get(record.id) or record
        live = self._executor.live(record.id)
        if live is not None and live.blocked is not None:
            raise SecretKeyError(f"run {record.id} waits: {live.blocked}")
        is_open = record.total is None if live is None else live.state.total is None
        admitted = await self._admitted(record) if live is None else live.state.admitted
        if live is None or not live.is_fed:
            await refuse_other_inputs(
                key, self._backend.journal, record.id, source, admitted, is_closed=not is_open, opening=opening
            )
        if live is not None:
            live.gate = None if options.get("keep_results", True) else STREAM_WINDOW
            if is_open and not live.is_fed:
                live.is_fed = True
                live.broken_off = None
                self._feed(live, source, checker, is_strict=started.validation == "strict", admitted=admitted)
            self._executor.kick(live.tree)
        return self._run(record, live)

    async def _admitted(self, record: RunRecord) -> int:
        """How many inputs a run has that is not driven here."""
        if record.total is not None:
            return record.total
        admitted = 0
        async for chunk in stored_inputs(self._backend.journal, record.id):
            admitted = chunk.first + len(chunk.inputs)
        return admitted

    def _prepared(self, source: FlowLike, options: SubmitOptions, mode: str) -> Prepared:
        prepared = prepare(
            self._plans,
            self._plans.flow(source),
            variables=self._plain_object(options.get("variables") or {}, "variables"),
            overrides=self._named(options.get("overrides"), "overrides"),
            settings=self._rules.retry,
            validation=mode,
        )
        for warning in prepared.warnings:
            logger.warning("%s", warning)
        return prepared

    def _live_run(
        self, prepared: Prepared, options: SubmitOptions, total: int | None, *, retry_of: RunId | None = None
    ) -> LiveRun:
        now = self._clock.now()
        plan, lease = prepared.plan, self._membership.lease
        asked = options.get("max_concurrency")
        limit = asked or self._rules.max_concurrency
        deadline_s = options.get("deadline_s")
        run_id = self._chance.run_id(now)
        record = RunRecord(
            id=run_id,
            root_id=run_id,
            flow_id=plan.flow_id,
            flow_name=plan.flow.name,
            key=options.get("key"),
            created_at=now,
            total=total,
            group=self._membership.identity.group,
            retry_of=retry_of,
        )
        started = RunStarted(
            run_id=run_id,
            root_id=run_id,
            flow_id=plan.flow_id,
            started_at=now,
            flow_name=plan.flow.name,
            variables=prepared.given,
            overrides=prepared.overrides,
            max_concurrency=asked,
            deadline=None if deadline_s is None else now + deadline_s,
            key=options.get("key"),
            validation=options.get("validation") or self._rules.validation,
            owner=lease.owner,
            retry_of=retry_of,
        )
        live = LiveRun(
            record=record,
            started=started,
            plan=plan,
            variables=prepared.variables,
            policies=prepared.policies,
            tree=Tree(limit, lease),
            lease=lease,
        )
        live.guard(prepared, None, self._rules.output_validation)
        live.seal_with(self._executor.vault, prepared, None)
        live.gate = None if options.get("keep_results", True) else STREAM_WINDOW
        return live

    def _named(self, value: Json, what: str) -> Json:
        """A copy that nobody else changes, of plain JSON."""
        try:
            return self._plain(value)
        except ValueError as error:
            raise InputInvalidError([Problem(message=f"{what}: {error}")]) from None

    def _plain_object(self, values: Mapping[str, Json], what: str) -> dict[str, Json]:
        plain = self._named(dict(values), what)
        assert isinstance(plain, dict)
        return plain
