"""From a submission to a run under way: what is checked, what is stored, and who feeds it."""

import logging
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence

import anyio
import msgspec
from anyio.abc import TaskGroup

from stepflow.errors import InputInvalidError, Problem
from stepflow.execution.events import RunStarted
from stepflow.execution.executor import Executor
from stepflow.execution.feeding import Feeder, whole_inputs
from stepflow.execution.handle import STREAM_WINDOW, Run
from stepflow.execution.host import begin_with
from stepflow.execution.live import LiveRun
from stepflow.execution.options import FlowLike, SubmitOptions
from stepflow.execution.recovery import Recovery
from stepflow.execution.resume import Source, journal_start, refuse_other_inputs, refuse_other_run
from stepflow.execution.submission import (
    Plans,
    Prepared,
    input_checker,
    prepare,
    refuse_stored_secrets,
)
from stepflow.execution.tree import Tree
from stepflow.execution.verdict import RetrySettings
from stepflow.flow.identity import canonical_flow
from stepflow.flow.model import Flow
from stepflow.flow.schema import SchemaValidator
from stepflow.protocols import Backend, Chance, Clock
from stepflow.records import BlobId, BlobType, Json, Lease, RunRecord

logger = logging.getLogger("stepflow.engine")


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine holds for every run, unless its submission says otherwise."""

    lease: Lease  # under which its own runs are written
    retry: RetrySettings
    max_concurrency: int
    validation: str
    output_validation: str
    refuses_secrets: bool


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
        recovery: Recovery,
        clock: Clock,
        chance: Chance,
        tasks: TaskGroup,
        plans: Plans,
        plain: Callable[[Json], Json],
        rules: Rules,
    ) -> None:
        self._backend = backend
        self._executor = executor
        self._recovery = recovery
        self._clock = clock
        self._chance = chance
        self._tasks = tasks
        self._plans = plans
        self._plain = plain
        self._rules = rules
        self._stored_flows: dict[BlobId, None] = {}

    async def submit(self, flow: FlowLike, inputs: Iterable[Json] | AsyncIterable[Json], options: SubmitOptions) -> Run:
        """See `Engine.submit`."""
        rules = self._rules
        mode = options.get("validation") or rules.validation
        prepared = self._prepared(flow, options, mode)
        checker = input_checker(prepared.plan.flow, mode)
        whole: list[Json] | None = None
        if isinstance(inputs, Sequence):
            whole = whole_inputs(inputs, self._plain, checker, is_strict=mode == "strict")
        if rules.refuses_secrets:
            refuse_stored_secrets(prepared)
        source = inputs if isinstance(inputs, Source) else Source(inputs if whole is None else whole, self._clock)
        key = options.get("key")
        if key is not None and not options.get("new", False):
            known = await self._known(key, prepared, source, checker, options)
            if known is not None:
                return known
        live = self._live_run(prepared, options, None if whole is None else len(whole))
        await self.store_flow(prepared.plan.flow_id, prepared.flow)
        if whole is not None:
            begin_with(live, whole)
        else:
            live.apply(live.started)
            live.is_fed = True
        self._executor.begin(live)
        if whole is None:
            self._feed(live, source, checker, is_strict=mode == "strict")
        run = Run(self._backend, self._executor, live.record, live)
        try:
            await live.accepted.wait()
        except anyio.get_cancelled_exc_class():
            run.cancel_now()  # nobody has a handle on it
            raise
        return run

    async def store_flow(self, flow_id: BlobId, flow: Flow) -> None:
        if flow_id not in self._stored_flows:
            await self._backend.blobs.put(canonical_flow(flow).encode(), BlobType.FLOW)
            self._stored_flows[flow_id] = None

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
            admitted=admitted,
        )
        self._tasks.start_soon(feeder.feed, source)

    async def _known(
        self,
        key: str,
        prepared: Prepared,
        source: Source,
        checker: SchemaValidator | None,
        options: SubmitOptions,
    ) -> Run | None:
        """The run that was submitted under this key before; one that was left unfinished goes on."""
        record = await self._backend.runs.find_key(key)
        if record is None:
            return None
        started = await journal_start(self._backend.journal, record.id)
        refuse_other_run(key, started, prepared)
        if not record.status.is_terminal and self._executor.live(record.id) is None:
            await self._recovery.recover(self._rules.lease.owner, root_id=record.id)
        live = self._executor.live(record.id)
        is_open = live is not None and live.state.total is None
        admitted = live.state.admitted if live is not None else record.total or 0
        if live is None or not live.is_fed:
            await refuse_other_inputs(key, self._backend.journal, record.id, source, admitted, is_closed=not is_open)
        if live is not None:
            live.gate = None if options.get("keep_results", True) else STREAM_WINDOW
            if is_open and not live.is_fed:
                live.is_fed = True
                self._feed(live, source, checker, is_strict=started.validation == "strict", admitted=admitted)
            self._executor.kick(live.tree)
        return Run(self._backend, self._executor, record, live)

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

    def _live_run(self, prepared: Prepared, options: SubmitOptions, total: int | None) -> LiveRun:
        now = self._clock.now()
        plan = prepared.plan
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
        )
        live = LiveRun(
            record=record,
            started=started,
            plan=plan,
            variables=prepared.variables,
            policies=prepared.policies,
            tree=Tree(limit),
            lease=self._rules.lease,
        )
        live.guard(prepared, None, self._rules.output_validation)
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
