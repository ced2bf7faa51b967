"""The loop: take a ready step, perform it, record what came of it, start what that made ready.

What the runners learn is applied to the run's state at once, in the journal's order, and put into the next commit of
all runs; what follows from it (steps that became ready, results that somebody waits for) is held until that commit is
durable.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup, TaskStatus

from stepflow.errors import LeaseLostError
from stepflow.execution.dispatch import Dispatcher
from stepflow.execution.events import (
    Event,
    RunEnded,
    RunPaused,
    RunReleased,
    RunResumed,
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepSucceeded,
    StepWaiting,
)
from stepflow.execution.exchange import EngineExchange
from stepflow.execution.live import Held, LiveRun
from stepflow.execution.recorder import Recorder, tell
from stepflow.execution.references import Opening
from stepflow.execution.result import deadlock
from stepflow.execution.runners import Runners
from stepflow.execution.sealing import Vault
from stepflow.execution.steps import Steps
from stepflow.execution.term import Term
from stepflow.execution.tree import Tree
from stepflow.execution.verdict import TryAgain, judge
from stepflow.execution.waits import Waits
from stepflow.protocols import Chance, Clock, Observer, Store
from stepflow.records import (
    ErrorCode,
    Failed,
    KeyTaken,
    LeaseLost,
    Outcome,
    RunId,
    RunRecord,
    RunStatus,
    TaskId,
    task_id,
)

logger = logging.getLogger("stepflow.run")

WHOLE_RUN = -1
"""Stands for item and step where all of a run waits."""


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
        self.exchange: EngineExchange  # set by whoever builds it, which needs the executor
        self.term = Term(clock)
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
        self.steps = Steps(
            recorder=self._recorder,
            dispatcher=dispatcher,
            clock=clock,
            chance=chance,
            term=self.term,
            waiting=self.waiting,
        )
        self._runners = Runners(
            tasks, self.term, perform=self.steps.perform, settle=self.steps.settle, stuck=self._end_if_stuck
        )
        self._dispatcher = dispatcher
        self._clock = clock
        self._tasks = tasks
        self.observers = tuple(observers)
        self._waits = Waits(clock, tasks, self.note_waiting)

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

    @property
    def unanswered_since(self) -> float | None:
        """When the store was asked to record what it has not answered yet; None: it has answered."""
        return self._recorder.asked_at

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
        self.steps.conclude(run)
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
        self.steps.conclude(run)
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
        self.steps.conclude(run)
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
        self._runners.kick_all(tree)

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
        self._runners.kick(tree)

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
        runner = self._runners.busy_with(run, index, step)
        if isinstance(outcome, Failed):
            is_latest = (attempt or 1) == latest
            if not is_latest or (runner is None and not self._is_final(run, index, step, outcome)):
                return True
        if runner is not None:
            runner.cancel()
        self.steps.finish(run, index, step, latest, outcome)
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
        elif run.lost is None:  # else this engine has closed meanwhile, and let it go itself
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
        if held.ready and run.leaves_process(held.ready[0][1]):
            self._runners.kick_all(tree)
        else:
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
        self._runners.cancel(run)

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

    def _end_if_stuck(self, tree: Tree[LiveRun]) -> None:
        """A run with open items of which nothing will ever move is ended, with the reason."""
        if tree.is_held or tree.sleeping or tree.has_ready or any(run.has_news for run in tree.runs.values()):
            return
        for run in list(tree.runs.values()):
            stuck = next((item for item in run.state.items.values() if item.open or not item.output_is_ready), None)
            if stuck is not None and not run.parked and not run.state.ready:
                self.end(run, RunStatus.FAILED, deadlock(run.plan, stuck))
                return
