"""RunState: what the events of one run amount to. Pure: no clock, no I/O, nothing but `apply`."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from stepflow.execution.events import (
    Checkpointed,
    Event,
    InputsClosed,
    ItemEnded,
    ItemsAdmitted,
    OpenItemSnapshot,
    RunClaimed,
    RunEnded,
    RunPaused,
    RunReleased,
    RunResumed,
    RunStarted,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
    StepWaiting,
    SubRunLinked,
)
from stepflow.plan.model import NOT_NEEDED, PENDING, Plan, StaticNeeds
from stepflow.records import TRANSPORT_CODES, Failed, Json, RunStatus, Succeeded


class OpenItem:
    """An item on its way: what its steps came to, and who waits for whom."""

    __slots__ = (
        "attempts",
        "broken",
        "dependents",
        "due",
        "index",
        "input",
        "needed",
        "open",
        "output_is_ready",
        "outputs",
        "retries",
        "unmet",
    )

    def __init__(self, index: int, input: Json, steps: int) -> None:
        self.index = index
        self.input = input
        self.outputs: list[Any] = [PENDING] * steps
        self.attempts = [0] * steps
        self.retries: dict[int, tuple[int, int]] = {}  # step → (transport, component)
        self.broken: dict[int, tuple[int, int]] | None = None  # step → (starts that ended with their engine, by death)
        self.due: dict[int, int] | None = None  # step → when its next attempt may begin, in milliseconds of the run
        self.open = 0  # needed steps that have not finished
        self.output_is_ready = False
        self.unmet: list[int] = []  # as in StaticNeeds
        self.dependents: Any = ()  # by step: who waits for it
        self.needed: list[bool] = []  # only where needs depend on values

    def under_way(self, step: int) -> int:
        """How many starts of a step are not accounted for: 1 while it runs; of one that has ended it says nothing."""
        broken = 0 if self.broken is None else self.broken.get(step, (0, 0))[0]
        return self.attempts[step] - sum(self.retries.get(step, (0, 0))) - broken

    def was_cut_off(self, step: int) -> bool:
        """Of a step that has not finished: whether a start of it ended, or would end now, with its engine."""
        return self.attempts[step] > sum(self.retries.get(step, (0, 0)))

    def deaths(self, step: int) -> int:
        """How many starts of a step ended with the death of their engine."""
        return 0 if self.broken is None else self.broken.get(step, (0, 0))[1]


class RunState:
    """One run, as its events tell it.

    `ready` and `closing` collect what an event made possible: steps that may start, and items whose every needed step
    has finished. Whoever drives the run empties them.
    """

    def __init__(self, plan: Plan, variables: Mapping[str, Json]) -> None:
        self.plan = plan
        self.variables = variables
        self.status = RunStatus.RUNNING
        self.has_ended = False
        self.is_paused = False
        self.error: Failed | None = None
        self.items: dict[int, OpenItem] = {}
        self.admitted = 0
        self.opened = 0  # the next item to open
        self.total: int | None = None
        self.low_water = 0
        self.ended_above: dict[int, None] = {}
        self.succeeded = 0
        self.failed = 0
        self.ready: list[tuple[int, int]] = []
        self.closing: list[OpenItem] = []
        self._backlog: deque[tuple[int, list[Json]]] = deque()
        self._output = len(plan.steps)

    @property
    def is_over(self) -> bool:
        """Every item has ended, and no more will come."""
        return self.total is not None and self.succeeded + self.failed >= self.total

    def is_done(self, index: int) -> bool:
        """Whether an item has ended."""
        return index < self.low_water or index in self.ended_above

    def is_open(self, index: int, step: int) -> bool:
        """Whether a step has not finished. One that its item's output does not need counts as open until the end."""
        if self.has_ended or self.is_done(index) or not 0 <= step < self._output:
            return False
        item = self.items.get(index)
        return item is None or item.outputs[step] is PENDING

    def can_open(self) -> bool:
        return self.opened < self.admitted and not self.has_ended

    def open_next(self) -> OpenItem | None:
        """Begin the next admitted item; None when there is none. Which items are open is no fact of the journal."""
        while self.opened < self.admitted:
            index = self.opened
            self.opened += 1
            first, inputs = self._backlog[0]
            given, inputs[index - first] = inputs[index - first], None
            if index - first + 1 == len(inputs):
                self._backlog.popleft()
            if not self.is_done(index):
                return self._open(index, given)
        return None

    def apply(self, event: Event) -> None:
        """Change as the event says. Events of a step or item that has finished change nothing."""
        APPLY[type(event)](self, event)

    def _open(self, index: int, input: Json) -> OpenItem:
        item = OpenItem(index, input, self._output)
        self.items[index] = item
        static = self.plan.static
        if static is not None:
            self._begin_static(item, static)
        else:
            self._begin(item)
        if item.output_is_ready and not item.open:
            self.closing.append(item)
        return item

    def _begin_static(self, item: OpenItem, static: StaticNeeds) -> None:
        item.unmet = list(static.unmet)
        item.dependents = static.dependents
        item.open = static.open
        item.output_is_ready = not static.unmet[self._output]
        index = item.index
        for step in static.ready:
            self.ready.append((index, step))

    def _begin(self, item: OpenItem) -> None:
        item.unmet = [NOT_NEEDED] * (self._output + 1)
        item.needed = [False] * (self._output + 1)
        item.dependents = [[] for _ in range(self._output)]
        self._require(item, [self._output, *self.plan.must_execute])

    def _require(self, item: OpenItem, steps: list[int]) -> None:
        """Make steps needed, and whatever their inputs need in turn."""
        todo = list(reversed(steps))
        while todo:
            step = todo.pop()
            if item.needed[step]:
                continue
            item.needed[step] = True
            if step != self._output:
                item.open += 1
            todo.extend(reversed(self._wait(item, step)))

    def _wait(self, item: OpenItem, step: int) -> tuple[int, ...]:
        """Let a step wait for what its expression needs next, or be ready. Gives what it waits for."""
        plan = self.plan
        expression = plan.output if step == self._output else plan.steps[step].input
        needs = expression.needs(item.outputs, item.input, self.variables)
        item.unmet[step] = len(needs)
        for need in needs:
            item.dependents[need].append(step)
        if not needs:
            self._become_ready(item, step)
        return needs

    def _become_ready(self, item: OpenItem, step: int) -> None:
        if step == self._output:
            item.output_is_ready = True
        else:
            self.ready.append((item.index, step))

    def _finish(self, index: int, step: int, value: Json | Failed) -> None:
        item = self.items.get(index) or self._item(index)
        if item is None or item.outputs[step] is not PENDING:
            return
        item.outputs[step] = value
        item.open -= 1
        unmet = item.unmet
        for waiter in item.dependents[step]:
            unmet[waiter] -= 1
            if not unmet[waiter]:
                if self.plan.static is None:
                    self._require(item, list(self._wait(item, waiter)))
                else:
                    self._become_ready(item, waiter)
        if not item.open and item.output_is_ready:
            self.closing.append(item)

    def _run_started(self, event: RunStarted) -> None:
        pass

    def _items_admitted(self, event: ItemsAdmitted) -> None:
        if not self._backlog:
            self.opened = max(self.opened, event.first)  # a store may have dropped the inputs of ended items
        self._backlog.append((event.first, list(event.inputs)))
        self.admitted = event.first + len(event.inputs)

    def _inputs_closed(self, event: InputsClosed) -> None:
        self.total = event.count

    def startable(self, item: OpenItem) -> list[int]:
        """The steps of an item that wait for nothing and have not finished."""
        return [step for step, value in enumerate(item.outputs) if value is PENDING and not item.unmet[step]]

    def may_finish(self, index: int, step: int) -> bool:
        """Whether an outcome of this step would count now. Begins the item if it has not begun."""
        item = self._item(index)
        return item is not None and item.outputs[step] is PENDING and not item.unmet[step]

    def _step_started(self, event: StepStarted) -> None:
        item = self.items.get(event.item) or self._item(event.item)
        if item is not None:
            item.attempts[event.step] = event.attempt

    def _step_succeeded(self, event: StepSucceeded) -> None:
        self._finish(event.item, event.step, event.output)

    def _step_failed(self, event: StepFailed) -> None:
        self._finish(event.item, event.step, event.error)

    def _step_defaulted(self, event: StepDefaulted) -> None:
        self._finish(event.item, event.step, event.output)

    def _step_retried(self, event: StepRetried) -> None:
        item = self._item(event.item)
        if item is not None:
            transport, component = item.retries.get(event.step, (0, 0))
            if event.error.code in TRANSPORT_CODES:
                transport += 1
            else:
                component += 1
            item.retries[event.step] = (transport, component)
            item.due = {**(item.due or {}), event.step: event.at + int(event.delay_s * 1_000)}

    def _sub_run_linked(self, event: SubRunLinked) -> None:
        pass

    def _item_ended(self, event: ItemEnded) -> None:
        index = event.item
        if self.is_done(index):
            return
        self.items.pop(index, None)
        if type(event.outcome) is Succeeded:
            self.succeeded += 1
        else:
            self.failed += 1
        if index != self.low_water:
            self.ended_above[index] = None
            return
        self.low_water += 1
        while self.ended_above and self.low_water in self.ended_above:
            del self.ended_above[self.low_water]
            self.low_water += 1

    def _run_claimed(self, event: RunClaimed) -> None:
        self._break_off(deaths=1)

    def _run_released(self, event: RunReleased) -> None:
        self._break_off(deaths=0)

    def _break_off(self, *, deaths: int) -> None:
        """What was under way ended with the engine that did it."""
        for item in self.items.values():
            for step, value in enumerate(item.outputs):
                if value is PENDING and (starts := item.under_way(step)) > 0:
                    item.broken = item.broken or {}
                    before, dead = item.broken.get(step, (0, 0))
                    item.broken[step] = (before + starts, dead + deaths * starts)

    def _run_paused(self, event: RunPaused) -> None:
        self.is_paused = True
        self.status = RunStatus.PAUSED

    def _run_resumed(self, event: RunResumed) -> None:
        self.is_paused = False
        self.status = RunStatus.RUNNING

    def _step_waiting(self, event: StepWaiting) -> None:
        pass

    def _run_ended(self, event: RunEnded) -> None:
        self.status = event.status
        self.has_ended = True
        self.error = event.error
        if self.total is None:
            self.total = self.admitted  # whatever else was to come is no item of this run
        if event.status is RunStatus.FAILED:
            self.failed = self.total - self.succeeded  # those without a result take the run's error
        self.items.clear()
        self.ready.clear()
        self.closing.clear()
        self._backlog.clear()

    def _checkpointed(self, event: Checkpointed) -> None:
        self.low_water = event.low_water
        self.ended_above = dict.fromkeys(event.ended_above)
        self.admitted = event.admitted
        self.total = event.total
        self.succeeded = event.succeeded
        self.failed = event.failed
        self.is_paused = event.is_paused
        for snapshot in event.open:
            self._restore(snapshot)

    def _restore(self, snapshot: OpenItemSnapshot) -> None:
        item = self._item(snapshot.index)
        if item is None:
            return
        for step, attempt in snapshot.attempts:
            item.attempts[step] = attempt
        for step, transport, component in snapshot.retries:
            item.retries[step] = (transport, component)
        item.broken = {step: (starts, deaths) for step, starts, deaths in snapshot.broken} or None
        item.due = dict(snapshot.due) or None
        for step, succeeded, value in snapshot.outputs:
            self._finish(snapshot.index, step, value if succeeded else msgspec.convert(value, Failed))

    def _item(self, index: int) -> OpenItem | None:
        """The open item; opened now where the journal tells of it before this state began it."""
        item = self.items.get(index)
        while item is None and self.opened <= index and self.can_open():
            self.open_next()
            item = self.items.get(index)
        return item

    def snapshot(self) -> Checkpointed:
        """The state as one event. Items that nothing happened to yet are left out: their inputs say all."""
        touched = [item for item in self.items.values() if any(item.attempts)]
        return Checkpointed(
            low_water=self.low_water,
            ended_above=sorted(self.ended_above),
            admitted=self.admitted,
            total=self.total,
            succeeded=self.succeeded,
            failed=self.failed,
            open=[_snapshot(item) for item in sorted(touched, key=lambda item: item.index)],
            is_paused=self.is_paused,
        )


def _snapshot(item: OpenItem) -> OpenItemSnapshot:
    return OpenItemSnapshot(
        index=item.index,
        outputs=[
            (step, type(value) is not Failed, value) for step, value in enumerate(item.outputs) if value is not PENDING
        ],
        attempts=[(step, attempt) for step, attempt in enumerate(item.attempts) if attempt],
        retries=[(step, *counts) for step, counts in sorted(item.retries.items())],
        broken=[(step, *counts) for step, counts in sorted((item.broken or {}).items())],
        due=sorted((item.due or {}).items()),
    )


APPLY: dict[type, Callable[[RunState, Any], None]] = {  # what `RunState.apply` does, for who can't spare the call
    RunStarted: RunState._run_started,
    ItemsAdmitted: RunState._items_admitted,
    InputsClosed: RunState._inputs_closed,
    StepStarted: RunState._step_started,
    StepSucceeded: RunState._step_succeeded,
    StepFailed: RunState._step_failed,
    StepDefaulted: RunState._step_defaulted,
    StepRetried: RunState._step_retried,
    SubRunLinked: RunState._sub_run_linked,
    ItemEnded: RunState._item_ended,
    RunClaimed: RunState._run_claimed,
    RunReleased: RunState._run_released,
    RunPaused: RunState._run_paused,
    RunResumed: RunState._run_resumed,
    StepWaiting: RunState._step_waiting,
    RunEnded: RunState._run_ended,
    Checkpointed: RunState._checkpointed,
}
