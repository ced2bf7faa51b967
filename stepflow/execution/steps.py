"""One attempt of a step: begun, performed by its plugin, and what came of it applied to the run."""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from math import ceil, inf

import anyio

from stepflow.execution.dispatch import Dispatcher, Way
from stepflow.execution.events import StepDefaulted, StepFailed, StepRetried, StepStarted, StepSucceeded
from stepflow.execution.live import LiveRun
from stepflow.execution.recorder import Recorder
from stepflow.execution.result import next_item_ended, run_ended
from stepflow.execution.runners import Runner
from stepflow.execution.state import OpenItem
from stepflow.execution.term import Term
from stepflow.execution.verdict import TakeDefault, TryAgain, judge
from stepflow.plan.model import PENDING, EvaluationFailedError
from stepflow.protocols import Chance, Clock, Host
from stepflow.records import ErrorCode, Failed, Json, Outcome, RunId, Succeeded, Task

logger = logging.getLogger("stepflow.run")

LOOK_S = 1.0
"""How often to look whether somebody serves by now what nobody did."""

_NOT_SERVED = frozenset({ErrorCode.ORCHESTRATOR_ERROR, ErrorCode.COMPONENT_NOT_FOUND, ErrorCode.UNREACHABLE})


class Steps:
    """Performs steps for the runners. What it learns is applied to the run's state at once, in the journal's order.

    Args:
        waiting: a context in which a step of a run only waits, for a reason, and holds no slot.
    """

    def __init__(
        self,
        *,
        recorder: Recorder,
        dispatcher: Dispatcher,
        clock: Clock,
        chance: Chance,
        term: Term,
        waiting: Callable[[LiveRun, int, int, str], AbstractAsyncContextManager[None]],
    ) -> None:
        self.host: Host  # set by whoever builds the host, which needs the executor
        self._recorder = recorder
        self._dispatcher = dispatcher
        self._clock = clock
        self._chance = chance
        self._term = term
        self._waiting = waiting
        self._queued_ms: dict[tuple[RunId, int, int], int] = {}  # of tasks whose outcomes follow

    async def perform(self, runner: Runner, run: LiveRun, index: int, step: int) -> None:
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
            if self._term.until is not None:
                await self._term.be_sure()  # once more: what was waited for may have taken as long
            task = run.task(way, index, step, attempt, input)
            if task.timeout_s is None:
                outcome = await way.plugin.perform(task, self.host)
            else:
                outcome = await self._perform_in_time(way, task, task.timeout_s)
        except anyio.get_cancelled_exc_class():
            self._queued_ms.pop((run.id, index, step), None)
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
        self.finish(run, index, step, attempt, outcome)

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
            self.settle(run)
            return None

    async def _wait_for_service(self, run: LiveRun, item: int, step: int, failed: Failed) -> None:
        """A run that was taken over may need components that only its former engine had: that is no failure.

        Returns once other components are known than before, as when workers come back one by one.
        """
        component = run.plan.steps[step].component
        reason = f"no live engine serves {component}"
        if reason not in run.told:
            run.told[reason] = None
            logger.warning("run %s waits: %s (%s)", run.id, reason, failed.message)
        known = self._dispatcher.router.version
        async with self._waiting(run, item, step, reason):
            while self._dispatcher.router.version == known:
                await self._clock.sleep(LOOK_S)

    async def _find_way(self, run: LiveRun, index: int, step: int, attempt: int, input: Json) -> Way | None:
        """The way to a step's component; None: there is none, and the step's failure is recorded."""
        component = run.plan.steps[step].component
        waiting = partial(self._waiting, run, index, step)
        found = await self._dispatcher.way(component, input, waiting)
        while isinstance(found, Failed) and run.is_recovered and found.code in _NOT_SERVED:
            await self._wait_for_service(run, index, step, found)
            found = await self._dispatcher.way(component, input, waiting)
        if isinstance(found, Failed):
            self.finish(run, index, step, attempt, found)
            return None
        run.ways[step] = found
        return found

    async def _perform_in_time(self, way: Way, task: Task, timeout_s: float) -> Outcome:
        with self._clock.timeout(timeout_s):
            return await way.plugin.perform(task, self.host)
        return Failed(ErrorCode.TIMEOUT, f"no answer within {timeout_s:g} s")

    def note_queued(self, task: Task, seconds: float) -> None:
        """A worker began with the task only so long after it was dispatched; its outcome follows."""
        self._queued_ms[task.run_id, task.item, task.step] = ceil(seconds * 1_000)  # 0 is no queue

    def finish(self, run: LiveRun, index: int, step: int, attempt: int, outcome: Outcome) -> None:
        """Record what came of an attempt."""
        queued = self._queued_ms.pop((run.id, index, step), 0) if self._queued_ms else 0
        item = run.state.items.get(index)
        if item is None or item.outputs[step] is not PENDING or run.state.has_ended:
            return
        at = int((self._clock.now() - run.began) * 1_000)
        if isinstance(outcome, Succeeded):
            run.apply_item(StepSucceeded(index, step, outcome.output, at, queued), index)
        else:
            self._record_failure(run, item, step, attempt, run.redacted(outcome, item, step), at, queued)
        self.settle(run)

    def _record_failure(
        self, run: LiveRun, item: OpenItem, step: int, attempt: int, failed: Failed, at: int, queued: int
    ) -> None:
        transport, component = item.retries.get(step, (0, 0))
        policy = run.policies[step]
        judgement = judge(failed, policy, transport=transport, component=component, draw=self._chance.random)
        if type(judgement) is TryAgain:
            run.apply_retry(StepRetried(item.index, step, attempt, failed, judgement.delay_s, at, queued))
        elif type(judgement) is TakeDefault:
            run.apply_item(StepDefaulted(item.index, step, judgement.output, failed, at, queued), item.index)
        else:
            run.apply_item(StepFailed(item.index, step, failed, at, queued), item.index)

    def settle(self, run: LiveRun) -> None:
        if run.state.closing:
            self.conclude(run)
        if not run.is_dirty:
            self._recorder.add(run)

    def conclude(self, run: LiveRun) -> None:
        """End the items that have nothing left to do, and the run after its last one."""
        at = run.elapsed_ms(self._clock.now())
        while (ended := next_item_ended(run.state, at)) is not None:
            run.apply_end(run.checked(ended))
        end = run_ended(run.state, at)
        if end is not None:
            run.apply(end)
