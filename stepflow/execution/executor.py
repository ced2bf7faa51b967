"""The loop: take a ready step, perform it, record what came of it, start what that made ready.

Runners are tasks of the engine that are shared by all runs; there is no task per step. What they learn is applied to
the run's state at once, in the journal's order, and put into the next commit of all runs; what follows from it (steps
that became ready, results that somebody waits for) is held until that commit is durable.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from math import inf

import anyio
from anyio.abc import TaskGroup, TaskStatus

from stepflow.errors import LeaseLostError
from stepflow.execution.dispatch import Dispatcher, Way
from stepflow.execution.events import (
    Event,
    RunEnded,
    RunPaused,
    RunReleased,
    RunResumed,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
    StepWaiting,
)
from stepflow.execution.exchange import EngineExchange
from stepflow.execution.live import Held, LiveRun
from stepflow.execution.recorder import Recorder, tell
from stepflow.execution.references import Opening
from stepflow.execution.result import deadlock, next_item_ended, run_ended
from stepflow.execution.sealing import Vault
from stepflow.execution.state import OpenItem
from stepflow.execution.tree import Entry, Tree
from stepflow.execution.verdict import TakeDefault, TryAgain, judge
from stepflow.execution.waits import Waits
from stepflow.plan.model import PENDING, EvaluationFailedError
from stepflow.protocols import Chance, Clock, Host, Observer, Store
from stepflow.records import (
    ErrorCode,
    Failed,
    Json,
    KeyTaken,
    LeaseLost,
    Outcome,
    RunId,
    RunRecord,
    RunStatus,
    Succeeded,
    Task,
    TaskId,
    task_id,
)

logger = logging.getLogger("stepflow.run")

WHOLE_RUN = -1
"""Stands for item and step where all of a run waits."""

FEED_BELOW = 128
"""A streamed run asks for more inputs when fewer than these wait to begin."""

_NOT_SERVED = frozenset({ErrorCode.ORCHESTRATOR_ERROR, ErrorCode.COMPONENT_NOT_FOUND, ErrorCode.UNREACHABLE})


class _Runner:
    """One task that performs steps, and the step it is busy with."""

    __slots__ = ("is_cancelled", "is_spent", "item", "run", "scope", "step")

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.run: LiveRun | None = None
        self.item = self.step = 0
        self.is_cancelled = False
        self.is_spent = False  # a component cancelled the very task that ran it

    def cancel(self) -> None:
        self.is_cancelled = True
        self.scope.cancel()


class Executor:
    """Drives every run of an engine. All of it happens on one event loop, so it needs no locks."""

    def __init__(
        self,
        *,
        store: Store,
        is_durable: bool,
        dispatcher: Dispatcher,
        clock: Clock,
        chance: Chance,
        tasks: TaskGroup,
        checkpoint_every: int,
        observers: Sequence[Observer] = (),
        vault: Vault | None = None,
    ) -> None:
        self.vault = vault
        self.host: Host  # set by whoever builds the host, which needs the executor
        self.exchange: EngineExchange  # set with it
        self.lease_until: float | None = None  # where engines share a store: how long this one is sure of its runs
        self.confirmed: Callable[[], Awaitable[None]]  # set with it: wait until it is sure again
        self.trees: dict[str, Tree[LiveRun]] = {}
        self.lost: dict[RunId, Exception] = {}  # runs that can be neither driven nor put aside, and why
        self._recorder = Recorder(
            store=store,
            is_durable=is_durable,
            clock=clock,
            tasks=tasks,
            checkpoint_every=checkpoint_every,
            released=self._release,
            abandoned=self._abandon,
            unwritable=self._end_unwritable,
        )
        self._dispatcher = dispatcher
        self._clock = clock
        self._chance = chance
        self._tasks = tasks
        self.observers = tuple(observers)
        self._waits = Waits(clock, tasks, self.note_waiting)
        self._runnable: deque[Tree[LiveRun]] = deque()
        self._runners: dict[_Runner, None] = {}
        self._event = type(anyio.Event())  # that of the backend that runs, which need not be looked for each time
        self._idle: list[anyio.Event] = []
        self._waking = 0  # runners that were woken and have not looked for work yet

    def observe(self, observer: Observer) -> None:
        """Let somebody more watch."""
        self.observers = (*self.observers, observer)

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Record what the runners learn, for as long as the engine is open."""
        await self._recorder.serve(task_status=task_status)

    @property
    def failure(self) -> Exception | None:
        """Why nothing more can be recorded; None: it can."""
        return self._recorder.failure

    def live(self, run_id: RunId) -> LiveRun | None:
        """The run of this id, if it is being driven here."""
        for tree in self.trees.values():
            for run in tree.runs.values():
                if run.id == run_id:
                    return run
        return None

    def begin(self, run: LiveRun) -> None:
        """Drive a run whose first events were applied."""
        self.trees[run.record.root_id] = run.tree
        self._conclude(run)
        self.mark_dirty(run)
        self._heed_deadline(run)

    def adopt(self, run: LiveRun, unfinished: list[tuple[int, int]]) -> None:
        """Drive a run that was restored from its journal, beginning with these steps, each at its time."""
        self.trees[run.record.root_id] = run.tree
        now = self._clock.now()
        for item, step in unfinished:
            wait_s = run.due(item, step) - now
            if wait_s > 0:
                self._sleep(run, item, step, wait_s)
            else:
                run.tree.push(run, [(item, step)])
        self._conclude(run)
        self.mark_dirty(run)
        self._heed_deadline(run)
        self.kick(run.tree)

    def opening(self, record: RunRecord) -> Opening | None:
        """What opens a run's events and results; None: they hold no references."""
        return None if self.vault is None or not record.is_sealed else self.vault.opening()

    def hold(self, run: LiveRun, reason: str) -> None:
        """Keep a run whose secrets can't be had here: nothing of it begins, and it can be ended."""
        self.trees[run.record.root_id] = run.tree
        self.note_blocked(run, reason)
        self._heed_deadline(run)

    def note_blocked(self, run: LiveRun, reason: str) -> None:
        """Write down which secrets can't be had here."""
        logger.warning("run %s waits: %s", run.id, reason)
        run.blocked = reason
        run.apply(StepWaiting(WHOLE_RUN, WHOLE_RUN, reason, run.elapsed_ms(self._clock.now())))
        self.mark_dirty(run)

    def hand_over(self, tree: Tree[LiveRun]) -> None:
        """Drive a tree no further: its runs were read anew, and go on under the same leases."""
        for run in list(tree.runs.values()):
            self._give_up(run)

    def begin_again(self, run: LiveRun) -> None:
        """A run's inputs were closed, which may have been all that its end waited for."""
        self._conclude(run)
        self.mark_dirty(run)

    def pause(self, run: LiveRun) -> None:
        """Let no more steps of the run's tree begin. What has ended, or is paused, stays as it is."""
        root = self._root(run)
        if not root.state.has_ended and not root.state.is_paused:
            root.tree.is_held = True
            root.apply(RunPaused(root.elapsed_ms(self._clock.now())))
            self.mark_dirty(root)

    def resume(self, run: LiveRun) -> None:
        """Go on with a tree that was paused."""
        root = self._root(run)
        if not root.state.has_ended and root.state.is_paused:
            root.apply(RunResumed(root.elapsed_ms(self._clock.now())))
            self.mark_dirty(root)
            self.go_on(root.tree)

    def go_on(self, tree: Tree[LiveRun]) -> None:
        """Let steps begin in a tree that was held: as many as may at once, so that their starts share a commit."""
        tree.is_held = False
        self.kick(tree)
        for _ in range(min(tree.free, tree.ready_count) - self._waking):
            self._wake()

    def _root(self, run: LiveRun) -> LiveRun:
        return next((each for each in run.tree.runs.values() if each.record.parent is None), run)

    async def durable(self, run: LiveRun) -> None:
        """Wait until all that was applied to a run so far is stored, or the run is not driven here any more."""
        with run.until_ended():
            await self._recorder.durable(run)

    async def release(self) -> None:
        """Write down that what is under way ends with this engine, and not by its death. Nothing begins any more."""
        runs = [run for tree in self.trees.values() for run in tree.runs.values() if not run.state.has_ended]
        for run in runs:
            run.tree.is_held = True
        for run in runs:
            run.apply(RunReleased(run.elapsed_ms(self._clock.now())))
            self.mark_dirty(run)
        await self._recorder.close()

    def abandon_all(self) -> None:
        """Another engine has taken over what this one had: write nothing more of it."""
        for tree in list(self.trees.values()):
            for run in list(tree.runs.values()):
                self._give_up(run)

    def close(self, reason: Exception) -> None:
        """Tell everybody who waits for a run that it will not be driven any further here."""
        for tree in list(self.trees.values()):
            for run in list(tree.runs.values()):
                run.lost = run.lost or reason
                self._retire(run)

    def mark_dirty(self, run: LiveRun) -> None:
        """Have a run's pending events committed with the next group."""
        if not run.is_dirty and run.has_pending:
            self._recorder.add(run)

    def kick(self, tree: Tree[LiveRun]) -> None:
        """Look whether something may be taken from this tree again."""
        if not tree.is_listed and tree.free > 0 and not tree.is_held:
            if not tree.has_ready and tree.admitting() is None:
                if not tree.performing:
                    self._end_if_stuck(tree)
                return
            tree.is_listed = True
            self._runnable.append(tree)
        if self._runnable:
            self._wake_one()

    def end(self, run: LiveRun, status: RunStatus, error: Failed) -> None:
        """End a run and its sub-runs before their items did. What is already terminal stays as it is."""
        if run.state.has_ended:
            return
        for child in list(run.tree.runs.values()):
            if child.record.parent is not None and child.record.parent.run_id == run.id:
                self.end(child, status, error)
        run.apply(RunEnded(status, run.elapsed_ms(self._clock.now()), error))
        self.mark_dirty(run)

    def answered(self, run: LiveRun, task_id: TaskId, outcome: Outcome, attempt: int | None) -> bool:
        """Take an answer that did not come by the way that the step's plugin waits on. False: nobody wants it.

        A success of any attempt ends a step that has not finished, a failure only where no later attempt has begun.
        """
        place = run.place_of(task_id)
        if place is None or run.state.has_ended:
            return False
        index, step = place
        latest = run.state.items[index].attempts[step]
        runner = next((each for each in self._runners if (each.run, each.item, each.step) == (run, index, step)), None)
        if isinstance(outcome, Failed):
            is_latest = (attempt or 1) == latest
            if not is_latest or (runner is None and not self._is_final(run, index, step, outcome)):
                return True
        if runner is not None:
            runner.cancel()
        self._finish(run, index, step, latest, outcome)
        return True

    def _is_final(self, run: LiveRun, index: int, step: int, failed: Failed) -> bool:
        """Whether a failure ends a step whose only start broke off; one that does not leaves it standing in line."""
        if run.state.items[index].retries.get(step) is not None:
            return False
        return type(judge(failed, run.policies[step], transport=0, component=0, draw=lambda: 0.0)) is not TryAgain

    @asynccontextmanager
    async def waiting(self, run: LiveRun, item: int, step: int, reason: str) -> AsyncIterator[None]:
        """While inside, the step that is being performed gives its slot back. A wait that lasts is written down."""
        tree = run.tree
        tree.give_back(run)
        self.kick(tree)
        try:
            with self._waits.of(run, item, step, reason):
                yield
        finally:
            with anyio.CancelScope(shield=True):
                await tree.take_again(run)

    def _end_unwritable(self, run: LiveRun, failed: Failed) -> None:
        if run.state.has_ended:
            run.apply(RunEnded(RunStatus.FAILED, run.elapsed_ms(self._clock.now()), failed))  # the other was dropped
        else:
            self.end(run, RunStatus.FAILED, failed)

    def _abandon(self, run: LiveRun, refused: LeaseLost | KeyTaken) -> None:
        if isinstance(refused, KeyTaken):
            run.key_taken = refused.run_id
        else:
            logger.warning("run %s was taken over by another engine (lease %d)", run.id, refused.current)
        for each in list(run.tree.runs.values()):  # a tree has one owner
            self._give_up(each)

    def _give_up(self, run: LiveRun) -> None:
        run.is_abandoned = True
        if run.is_fed:  # nobody else has the rest of its inputs
            run.lost = run.lost or LeaseLostError(run.id, held=run.lease.epoch, current=run.lease.epoch + 1)
        run.state.apply(RunEnded(RunStatus.CANCELLED, 0))
        self._retire(run)

    def note_waiting(self, run: LiveRun, item: int, step: int, reason: str) -> None:
        """Write down what a step waits for."""
        if not run.state.has_ended:
            run.apply_item(StepWaiting(item, step, reason, run.elapsed_ms(self._clock.now())), item)
            self.mark_dirty(run)

    def _release(self, held: Held) -> None:
        run, tree = held.run, held.run.tree
        self._dispatcher.refresh()
        run.is_committing = False
        if held.ready:
            tree.push(run, held.ready)
        for retry in held.retries:
            self._sleep(run, retry.item, retry.step, retry.delay_s)
        run.durable_low_water = held.low_water
        if self.exchange.is_used:
            self._tell_exchange(run, held.events)
        for observer in self.observers:
            tell(observer, run.id, held.events)
        if not run.accepted.is_set():
            run.accepted.set()
        for waiter in held.waiters:
            waiter.set()
        run.notify()
        if held.events and type(held.events[-1]) is RunEnded:
            self._retire(run)
        self.kick(tree)

    def _tell_exchange(self, run: LiveRun, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, StepSucceeded | StepFailed | StepDefaulted | StepRetried):
                self.exchange.recorded(task_id(run.id, event.item, event.step))

    def _retire(self, run: LiveRun) -> None:
        run.tree.remove(run)
        if run.id == run.record.root_id and run.state.has_ended and not run.is_abandoned:
            for child in list(run.tree.runs.values()):  # whoever began them did not wait for them
                self.end(child, RunStatus.CANCELLED, Failed(ErrorCode.CANCELLED, "its parent run has ended"))
        run.ended.set()
        run.accepted.set()
        run.hungry.set()
        run.notify()
        for scope in run.scopes:
            scope.cancel()
        root_id = run.record.root_id
        if (run.id == root_id or not run.tree.runs) and self.trees.get(root_id) is run.tree:
            del self.trees[root_id]
        for runner in self._runners:
            if runner.run is run:
                runner.cancel()

    def _sleep(self, run: LiveRun, item: int, step: int, delay_s: float) -> None:
        run.tree.sleeping += 1
        self._tasks.start_soon(self._again_later, run, item, step, delay_s)

    async def _again_later(self, run: LiveRun, item: int, step: int, delay_s: float) -> None:
        with run.until_ended():
            await self._clock.sleep(delay_s)
            run.tree.push(run, [(item, step)])
        run.tree.sleeping -= 1
        self.kick(run.tree)

    def _heed_deadline(self, run: LiveRun) -> None:
        if run.started.deadline is not None and run.record.parent is None:  # a sub-run ends with its root
            self._tasks.start_soon(self._end_at_deadline, run, run.started.deadline)

    async def _end_at_deadline(self, run: LiveRun, deadline: float) -> None:
        with run.until_ended():
            await self._clock.sleep(max(0.0, deadline - self._clock.now()))
            late = round(deadline - run.began, 3)
            error = Failed(ErrorCode.TIMEOUT, f"the run's deadline of {late:g} s is over", may_retry=False)
            self.end(run, RunStatus.FAILED, error)

    def _wake_one(self) -> None:
        if not self._waking:
            self._wake()

    def _wake(self) -> None:
        self._waking += 1
        if self._idle:
            self._idle.pop().set()
        else:
            self._tasks.start_soon(self._run_steps)

    async def _run_steps(self) -> None:
        """A runner's life: take a step, perform it, take the next; wait where there is none."""
        runner = _Runner()
        self._runners[runner] = None
        self._waking -= 1
        while not runner.is_spent:
            with runner.scope:
                await self._take_and_perform(runner)
            runner.run = None
            runner.scope = anyio.CancelScope()
            runner.is_cancelled = False
        del self._runners[runner]

    async def _take_and_perform(self, runner: _Runner) -> None:
        while not (runner.is_cancelled or runner.is_spent):
            taken = self._take()
            if taken is None:
                await self._wait_for_work()
                continue
            item, step, _, run = taken
            tree = run.tree
            if self._runnable and (not self._idle or self._has_more(tree)):
                self._wake_one()
            tree.performing += 1
            try:
                if self.lease_until is not None:
                    await self._be_sure()
                await self._perform(runner, run, item, step)
            finally:
                tree.performing -= 1
                tree.give_back(run)
                if not tree.is_listed:
                    self.kick(tree)

    async def _be_sure(self) -> None:
        """Wait where this engine may have been replaced: stopped for a while, its steps may be somebody else's."""
        if self.lease_until is not None and self._clock.now() > self.lease_until:
            await self.confirmed()

    def _has_more(self, tree: Tree[LiveRun]) -> bool:
        """Whether another runner may find something, after a step was taken from this tree."""
        return len(self._runnable) > 1 or tree.has_ready or tree.admitting() is not None

    async def _wait_for_work(self) -> None:
        event = self._event()
        self._idle.append(event)
        try:
            await event.wait()
        finally:
            self._waking = max(0, self._waking - 1)

    def _take(self) -> Entry[LiveRun] | None:
        runnable = self._runnable
        while runnable:
            tree = runnable[0]
            if tree.free > 0:
                taken = tree.take() or self._open_item(tree)
                if taken is not None:
                    if len(runnable) > 1:
                        runnable.rotate(-1)
                    return taken
            runnable.popleft()
            tree.is_listed = False
            if not tree.performing:
                self._end_if_stuck(tree)
        return None

    def _open_item(self, tree: Tree[LiveRun]) -> Entry[LiveRun] | None:
        """Begin the next item, and take its first step. Items begin only when no open one has a step to start."""
        while (run := tree.admitting()) is not None:
            state = run.state
            held = len(state.ready)
            state.open_next()
            if run.is_fed and state.admitted - state.opened < FEED_BELOW:
                run.hungry.set()
            ready = state.ready[held:]
            del state.ready[held:]
            if state.closing:
                self._conclude(run)
                self.mark_dirty(run)
            if ready:
                tree.push(run, ready)
                taken = tree.take()
                if taken is not None:
                    return taken
        return None

    def _end_if_stuck(self, tree: Tree[LiveRun]) -> None:
        """A run with open items of which nothing will ever move is ended, with the reason."""
        if tree.is_held or tree.sleeping or tree.has_ready or any(run.has_news for run in tree.runs.values()):
            return
        for run in list(tree.runs.values()):
            stuck = next((item for item in run.state.items.values() if item.open or not item.output_is_ready), None)
            if stuck is not None and not run.parked and not run.state.ready:
                self.end(run, RunStatus.FAILED, deadlock(run.plan, stuck))
                return

    async def _perform(self, runner: _Runner, run: LiveRun, index: int, step: int) -> None:
        started = self._start(run, index, step)
        if started is None:
            return
        attempt, input = started
        runner.run, runner.item, runner.step = run, index, step
        try:
            if run.is_recovered:
                await self._recorder.durable(run)  # a start that kills the process is counted
            way = run.ways[step]
            if way is None or way.version != self._dispatcher.version:
                way = await self._find_way(run, index, step, attempt, input)
                if way is None:
                    return
            if way.leaves_process:
                await self._recorder.lasting(run)
            if self.lease_until is not None:
                await self._be_sure()  # once more: what was waited for may have taken as long
            task = run.task(way, index, step, attempt, input)
            if task.timeout_s is None:
                outcome = await way.plugin.perform(task, self.host)
            else:
                outcome = await self._perform_in_time(way, task, task.timeout_s)
        except anyio.get_cancelled_exc_class():
            if runner.is_cancelled or anyio.current_effective_deadline() == -inf:
                raise
            runner.is_spent = True
            outcome = Failed(ErrorCode.COMPONENT_FAILED, "the component cancelled the task that ran it")
        except Exception as error:
            shows = run.redactor is None  # the error's text may hold a secret
            logger.error("the plugin failed at step %d of run %s, item %d", step, run.id, index, exc_info=shows)
            outcome = Failed(ErrorCode.ORCHESTRATOR_ERROR, f"the plugin failed: {type(error).__name__}: {error}")
        finally:
            runner.run = None
        self._finish(run, index, step, attempt, outcome)

    def _start(self, run: LiveRun, index: int, step: int) -> tuple[int, Json] | None:
        """Begin an attempt: its number and input. None: there is nothing to dispatch."""
        item = run.state.items.get(index)
        if item is None or item.outputs[step] is not PENDING:
            return None  # the run has ended meanwhile, or the answer to an earlier attempt came
        attempt = item.attempts[step] + 1
        at = int((self._clock.now() - run.began) * 1_000)
        run.apply_item(StepStarted(index, step, attempt, at), index)
        if not run.is_flushed_later:
            self._recorder.add_later(run)
        try:
            return attempt, run.plan.steps[step].input.evaluate(item.outputs, item.input, run.variables)
        except EvaluationFailedError as error:
            run.apply_item(StepFailed(index, step, error.failed, at), index)
            self._settle(run)
            return None

    async def _wait_for_service(self, run: LiveRun, item: int, step: int, failed: Failed) -> None:
        """A run that was taken over may need components that only its former engine had: that is no failure."""
        component = run.plan.steps[step].component
        reason = f"no live engine serves {component}"
        if reason not in run.told:
            run.told[reason] = None
            logger.warning("run %s waits: %s (%s)", run.id, reason, failed.message)
        async with self.waiting(run, item, step, reason):
            await anyio.sleep_forever()

    async def _find_way(self, run: LiveRun, index: int, step: int, attempt: int, input: Json) -> Way | None:
        """The way to a step's component; None: there is none, and the step's failure is recorded."""
        component = run.plan.steps[step].component
        found = await self._dispatcher.way(component, input, partial(self.waiting, run, index, step))
        if isinstance(found, Failed):
            if run.is_recovered and found.code in _NOT_SERVED:
                await self._wait_for_service(run, index, step, found)
            self._finish(run, index, step, attempt, found)
            return None
        run.ways[step] = found
        return found

    async def _perform_in_time(self, way: Way, task: Task, timeout_s: float) -> Outcome:
        with self._clock.timeout(timeout_s):
            return await way.plugin.perform(task, self.host)
        return Failed(ErrorCode.TIMEOUT, f"no answer within {timeout_s:g} s")

    def _finish(self, run: LiveRun, index: int, step: int, attempt: int, outcome: Outcome) -> None:
        """Record what came of an attempt."""
        item = run.state.items.get(index)
        if item is None or item.outputs[step] is not PENDING or run.state.has_ended:
            return
        at = int((self._clock.now() - run.began) * 1_000)
        if isinstance(outcome, Succeeded):
            run.apply_item(StepSucceeded(index, step, outcome.output, at), index)
        else:
            self._record_failure(run, item, step, attempt, run.redacted(outcome, item, step), at)
        self._settle(run)

    def _record_failure(self, run: LiveRun, item: OpenItem, step: int, attempt: int, failed: Failed, at: int) -> None:
        transport, component = item.retries.get(step, (0, 0))
        policy = run.policies[step]
        judgement = judge(failed, policy, transport=transport, component=component, draw=self._chance.random)
        if type(judgement) is TryAgain:
            run.apply_retry(StepRetried(item.index, step, attempt, failed, judgement.delay_s, at))
        elif type(judgement) is TakeDefault:
            run.apply_item(StepDefaulted(item.index, step, judgement.output, failed, at), item.index)
        else:
            run.apply_item(StepFailed(item.index, step, failed, at), item.index)

    def _settle(self, run: LiveRun) -> None:
        if run.state.closing:
            self._conclude(run)
        if not run.is_dirty:
            self._recorder.add(run)

    def _conclude(self, run: LiveRun) -> None:
        """End the items that have nothing left to do, and the run after its last one."""
        at = run.elapsed_ms(self._clock.now())
        while (ended := next_item_ended(run.state, at)) is not None:
            run.apply_end(run.checked(ended))
        end = run_ended(run.state, at)
        if end is not None:
            run.apply(end)
