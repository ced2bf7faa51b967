"""From a run's state to the results of its items and its end. Pure."""

from stepflow.execution.events import ItemEnded, RunEnded
from stepflow.execution.state import OpenItem, RunState
from stepflow.plan.model import EvaluationFailedError, Plan
from stepflow.records import ErrorCode, Failed, Outcome, RunStatus, Succeeded


def item_outcome(state: RunState, item: OpenItem) -> Outcome:
    """What the flow's output comes to for an item whose needed steps have all finished."""
    try:
        return Succeeded(state.plan.output.evaluate(item.outputs, item.input, state.variables))
    except EvaluationFailedError as error:
        return error.failed


def next_item_ended(state: RunState, at: int) -> ItemEnded | None:
    """The end of an item that has nothing left to do; None when there is no such item."""
    while state.closing:
        item = state.closing.pop()
        if item.index in state.items:
            return ItemEnded(item.index, item_outcome(state, item), at)
    return None


def run_ended(state: RunState, at: int) -> RunEnded | None:
    """The end of a run whose items have all ended; None before that."""
    if not state.is_over or state.has_ended:
        return None
    return RunEnded(RunStatus.FAILED if state.failed else RunStatus.COMPLETED, at)


def deadlock(plan: Plan, item: OpenItem) -> Failed:
    """Why a run is ended of which nothing will ever move: the steps that wait for one another."""
    waiting = [step.id for step in plan.steps if item.unmet[step.index] > 0]
    message = f"deadlock: in item {item.index} nothing can start; steps {waiting} wait for one another"
    return Failed(ErrorCode.ORCHESTRATOR_ERROR, message, may_retry=False)
