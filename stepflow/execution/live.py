"""A run while it is being driven: its state, and what is not yet durable."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import anyio
import msgspec

from stepflow.execution.dispatch import Way
from stepflow.execution.events import (
    Event,
    ItemEnded,
    RunStarted,
    StepRetried,
)
from stepflow.execution.places import Places
from stepflow.execution.sealing import Sealer, Vault
from stepflow.execution.state import APPLY, OpenItem, RunState
from stepflow.execution.submission import Prepared, output_checker
from stepflow.execution.tree import Tree
from stepflow.execution.unwritten import Unwritten
from stepflow.execution.verdict import Policy
from stepflow.flow.schema import SecretMarks
from stepflow.plan.model import Plan
from stepflow.plan.variables import Redactor, without
from stepflow.records import (
    ErrorCode,
    Failed,
    Json,
    Lease,
    Outcome,
    RunId,
    RunRecord,
    Task,
    TaskId,
    Write,
)

logger = logging.getLogger("stepflow.run")


class Resumed(msgspec.Struct, frozen=True):
    """Where a run stood that goes on."""

    ended: int  # items that had ended
    in_flight: int  # steps that were under way, and run again


class Held(msgspec.Struct):
    """What a commit, once it is durable, lets happen."""

    run: "LiveRun"
    events: list[Event]
    ready: list[tuple[int, int]]
    retries: list[StepRetried]
    writes: int  # how many of the commit's writes are this run's
    low_water: int  # every item below it will have a result
    waiters: list[anyio.Event]


class LiveRun:
    """One run on its way. Only the executor changes it."""

    resumed: Resumed | None = None
    first_outcome: Outcome | None = None  # of item 0: of many runs it is the only one
    is_fed = False  # inputs are streamed in
    is_output_strict = False
    lost: BaseException | None = None  # why it can't be driven any further
    broken_off: Exception | None = None  # what ended its inputs; submitted again, it goes on with them
    is_abandoned = False  # another engine owns it now
    supersedes: RunId | None = None  # the run that had its key before
    key_taken: RunId | None = None  # the run that got its key first: this one was never stored

    def __init__(
        self,
        *,
        record: RunRecord,
        started: RunStarted,
        plan: Plan,
        variables: Mapping[str, Json],
        policies: tuple[Policy, ...],
        tree: "Tree[LiveRun]",
        lease: Lease,
        depth: int = 0,
        max_concurrency: int | None = None,
    ) -> None:
        self.id: RunId = record.id
        self.record = record
        self.started = started
        self.began = started.started_at
        self.plan = plan
        self.variables = variables
        self.policies = policies
        self.tree = tree
        self.lease = lease
        self.depth = depth
        self.state = RunState(plan, variables)
        self.ways: list[Way | None] = [None] * len(plan.steps)
        self.window = max(2 * tree.limit, 100) if max_concurrency is None else max_concurrency
        self.free = max_concurrency  # slots of its own, within the tree's; None: only the tree's
        self.is_dirty = False  # it has events that the next commit takes
        self.is_flushed_later = False  # its events will be committed soon in any case
        self.is_committing = False  # a commit of its events is under way
        self.gate: int | None = None  # where set, items from this one on wait until their results are wanted
        self.blocked: str | None = None  # why its secrets can't be had here: nothing of it begins
        self.is_recovered = False  # each start is made durable before the step is performed
        self.durable_low_water = 0  # the results of all items below it are stored
        self.changed: anyio.Event | None = None
        self.redactor: Redactor | None = None  # where the flow marks secrets
        self.check_output: Callable[[Json], str | None] | None = None  # what is wrong with an item's output
        self.sealer: Sealer | None = None  # where they are sealed in what is written
        self.parked: list[Any] = []
        self.sub_run_calls: dict[int, dict[tuple[int, int], int]] = {}  # by item, then step and attempt
        self.number = tree.add(self)
        self.accepted = anyio.Event()  # the run is stored
        self.ended = anyio.Event()  # the run's end is stored
        self.cut_off: set[tuple[int, int]] = set()  # items and steps that ran when their engine ended, till they begin
        self.commit_waiters: list[anyio.Event] = []
        self.hungry = anyio.Event()  # few of its inputs wait to begin
        self.told: dict[str, None] = {}  # reasons of waits that were logged
        self.scopes: dict[anyio.CancelScope, None] = {}  # around tasks that only serve this run
        self._places = Places(self.id, len(plan.steps), self.state)
        self._unwritten = Unwritten(self.id, lease, self.began, self.state)

    @property
    def has_news(self) -> bool:
        """Something may follow from events that are not durable yet."""
        return self.is_dirty or self.is_committing or bool(self._unwritten.events)

    @property
    def is_idle(self) -> bool:
        """All that came in has ended, durably."""
        return self.state.succeeded + self.state.failed == self.state.admitted and not self.has_news

    @property
    def has_pending(self) -> bool:
        return bool(self._unwritten.events)

    def stands_where(self, other: "LiveRun") -> bool:
        """Whether the journal tells of this run as much as of the other one, which is the same run and goes on."""
        return self._unwritten.first == other._unwritten.first and not other.has_news

    def elapsed_ms(self, now: float) -> int:
        return int((now - self.began) * 1_000)

    def may_open(self) -> bool:
        """Whether another item may begin.

        While results wait to be committed, which may make steps of open items ready, only as many are open as have
        slots; so an item that can go on is pushed forward before another begins.
        """
        state = self.state
        return (
            state.opened < state.admitted
            and len(state.items) < (self.tree.limit if self.is_dirty else self.window)
            and (self.gate is None or state.opened < self.gate)
            and self.blocked is None
            and not state.has_ended
        )

    def openable(self) -> int:
        """How many items may begin one after the other, of those before whose results somebody wants."""
        state = self.state
        room = (self.tree.limit if self.is_dirty else self.window) - len(state.items)
        last = state.admitted if self.gate is None else min(state.admitted, self.gate)
        return min(room, last - state.opened)

    def apply(self, event: Event) -> None:
        """Let an event change the state, and keep it for the next commit."""
        self.state.apply(event)
        self._unwritten.add(event)

    def apply_item(self, event: Any, item: int) -> None:
        """The same for an event that speaks of one item."""
        APPLY[type(event)](self.state, event)
        self._unwritten.add_of_item(event, item)

    def guard(self, prepared: Prepared, parent: "LiveRun | None", output_validation: str) -> None:
        """Hold outputs against the flow's schema, and keep secrets, also those of the parent, out of messages."""
        self.redactor = prepared.redactor
        if parent is not None and parent.redactor is not None:
            own = prepared.redactor or Redactor(prepared.plan.flow, prepared.variables)
            self.redactor = own.beside(parent.redactor)
        self.check_output = output_checker(prepared.plan.flow, output_validation)
        self.is_output_strict = output_validation == "strict"

    def seal_with(
        self, vault: Vault | None, prepared: Prepared, parent: "LiveRun | None", events: Sequence[Event] = ()
    ) -> None:
        """Let no secret be written in clear. A run that was restored, from these events, stays sealed or not."""
        if vault is None:
            return
        link, inherited = self.record.parent, None if parent is None else parent.sealer
        was_sealed = self.record.is_sealed if self.is_recovered else None
        self.sealer = self._unwritten.sealer = vault.sealer(
            prepared, inherited, -1 if link is None else link.item, is_sealed=was_sealed
        )
        if self.sealer is not None:
            self.sealer.learn(events)
            self.record = msgspec.structs.replace(self.record, is_sealed=True)

    def restore(self, events: Iterable[Event], last: int) -> None:
        """Become what a journal tells, its last entry at position `last`."""
        for event in events:
            self.state.apply(event)
        self.state.ready.clear()
        self._unwritten.restored(last)
        self.is_recovered = True
        self.durable_low_water = self.state.low_water
        self.accepted.set()
        items = self.state.items
        self.cut_off = {(index, step) for index, step in self.unfinished() if items[index].was_cut_off(step)}
        self.resumed = Resumed(self.state.succeeded + self.state.failed, len(self.cut_off))

    def unfinished(self) -> list[tuple[int, int]]:
        """The steps of open items that could start, or could have, and have not finished."""
        return [
            (item.index, step)
            for item in sorted(self.state.items.values(), key=lambda item: item.index)
            for step in self.state.startable(item)
        ]

    def place_of(self, wanted: TaskId) -> tuple[int, int] | None:
        """Item and step of a task that has begun and not finished; None: it has finished, or is none of this run."""
        return self._places.of(wanted)

    def due(self, index: int, step: int) -> float:
        """When the next attempt of a step may begin, in seconds since the epoch; 0 where nothing delays it."""
        due = self.state.items[index].due
        return 0.0 if due is None else self.began + due.get(step, 0) / 1_000

    def leaves_process(self, step: int) -> bool:
        """Whether a step is performed elsewhere, as far as that is known yet."""
        way = self.ways[step]
        return way is not None and way.leaves_process

    def task(self, way: Way, item: int, step: int, attempt: int, input: Json) -> Task:
        """An attempt of a step, as its plugin gets it."""
        planned = self.plan.steps[step]
        was_cut_off = (item, step) in self.cut_off
        if was_cut_off:
            self.cut_off.remove((item, step))
        return Task(
            run_id=self.id,
            root_run_id=self.record.root_id,
            flow_id=self.plan.flow_id,
            item=item,
            step=step,
            step_id=planned.id,
            component=planned.component,
            target=way.target,
            input=input,
            attempt=attempt,
            was_cut_off=was_cut_off,
            path_params=way.path_params,
            params=way.params,
            timeout_s=self.policies[step].timeout_s,
            deadline=self.started.deadline,
        )

    def redacted(self, failed: Failed, item: OpenItem, step: int) -> Failed:
        """A step's failure with no secret in its message, nor in that of its cause."""
        secrets = self._secrets_of(item, step)
        if self.redactor is not None:
            secrets += self.redactor.secrets(item.input)
        if not secrets:
            return failed
        message, data = without(failed.message, secrets), failed.data
        cause = data.get("cause") if isinstance(data, dict) else None
        if isinstance(data, dict) and isinstance(cause, dict):
            data = {**data, "cause": {**cause, "message": without(str(cause.get("message")), secrets)}}
        return msgspec.structs.replace(failed, message=message, data=data)

    def _secrets_of(self, item: OpenItem, step: int) -> list[Json]:
        """What the component that was called marks as secret in its input."""
        way = self.ways[step]
        schema = None if way is None else way.input_schema()
        marks = SecretMarks(schema)
        if not marks.any:
            return []
        return marks.scalars(self.plan.steps[step].input.evaluate(item.outputs, item.input, self.variables))

    def checked(self, ended: ItemEnded) -> ItemEnded:
        """The end of an item, its output held against the flow's schema where there is one."""
        outcome = ended.outcome
        if self.check_output is None or isinstance(outcome, Failed):
            return ended
        wrong = self.check_output(outcome.output)
        if wrong is None:
            return ended
        message = f"the output of item {ended.item} does not fit the flow's output schema: {wrong}"
        item = self.state.items.get(ended.item)
        if self.redactor is not None:
            message = self.redactor.redact(message, None if item is None else item.input)
        if not self.is_output_strict:
            logger.warning("run %s: %s", self.id, message)
            return ended
        return ItemEnded(ended.item, Failed(ErrorCode.INVALID_INPUT, message), ended.at)

    def apply_retry(self, event: StepRetried) -> None:
        self.apply_item(event, event.item)
        self._unwritten.retries.append(event)

    def apply_end(self, event: ItemEnded) -> None:
        self.apply_item(event, event.item)
        self._unwritten.add_result(event)
        if not event.item:
            self.first_outcome = event.outcome
        if self.sub_run_calls:
            self.sub_run_calls.pop(event.item, None)

    def take_writes(self, checkpoint_every: int) -> tuple[list[Write], Held]:
        """Everything that is not durable yet as writes, and what will follow from it.

        Args:
            checkpoint_every: events between two checkpoints; 0: none is made.

        Raises:
            RecursionError, TypeError, ValueError: an event holds what JSON can't say; nothing was taken.
        """
        unwritten = self._unwritten
        rows = unwritten.rows()
        events = unwritten.events
        ready, self.state.ready = self.state.ready, []
        retries, unwritten.retries = unwritten.retries, []
        writes = unwritten.take(rows, checkpoint_every, self.record, self.supersedes)
        waiters, self.commit_waiters = self.commit_waiters, []
        return writes, Held(self, events, ready, retries, len(writes), self.state.low_water, waiters)

    def drop_unwritable(self) -> None:
        """Forget the pending events that can't be encoded, and an end that counted on them."""
        self._unwritten.drop_unwritable()

    @contextmanager
    def until_ended(self) -> Iterator[None]:
        """Around what is waited for only as long as the run goes on: its end cancels the body."""
        scope = anyio.CancelScope()
        self.scopes[scope] = None
        if self.ended.is_set():
            scope.cancel()
        try:
            with scope:
                yield
        finally:
            del self.scopes[scope]

    def notify(self) -> None:
        """Wake whoever waits for results."""
        if self.changed is not None:
            self.changed.set()
            self.changed = None

    async def wait_changed(self) -> None:
        if self.changed is None:
            self.changed = anyio.Event()
        await self.changed.wait()
