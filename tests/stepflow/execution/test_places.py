"""Which item and step the id of a task stands for, as long as somebody waits for it."""

import pytest

from stepflow.execution import places as module
from stepflow.execution.events import InputsClosed, ItemsAdmitted, StepStarted, StepSucceeded
from stepflow.execution.places import Places
from stepflow.execution.state import RunState
from stepflow.flow.read import flow_from_json
from stepflow.plan.compile import build_plan
from stepflow.records import task_id

RUN = "019a0000-0000-7000-8000-000000000001"
FLOW = {
    "steps": [
        {"id": "a", "component": "/x", "input": {"$input": "$"}},
        {"id": "b", "component": "/x", "input": {"$step": "a"}},
    ],
    "output": {"$step": "b"},
}


def begun(count: int) -> RunState:
    """So many items are open, and nothing of them has begun."""
    state = RunState(build_plan(flow_from_json(FLOW)), {})
    state.apply(ItemsAdmitted(0, list(range(count))))
    state.apply(InputsClosed(count))
    while state.open_next() is not None:
        pass
    return state


def test_a_task_has_a_place_from_its_begin_to_its_end() -> None:
    state = begun(2)
    places = Places(RUN, 2, state)
    wanted = task_id(RUN, 1, 0)
    found = [places.of(wanted)]

    state.apply(StepStarted(1, 0, 1, 0))
    found.append(places.of(wanted))
    state.apply(StepSucceeded(1, 0, "done", 0))
    found.append(places.of(wanted))

    assert found == [None, (1, 0), None]


def test_a_task_of_another_run_or_of_no_step_has_none() -> None:
    state = begun(1)
    state.apply(StepStarted(0, 0, 1, 0))
    places = Places(RUN, 2, state)

    assert places.of(task_id(RUN, 0, 0)) == (0, 0)
    assert places.of(task_id("019a0000-0000-7000-8000-000000000002", 0, 0)) is None
    assert places.of(task_id(RUN, 0, 2)) is None
    assert places.of("no id of a task") is None


def test_items_that_are_opened_later_have_their_places_too() -> None:
    state = RunState(build_plan(flow_from_json(FLOW)), {})
    places = Places(RUN, 2, state)
    for item in range(3):
        state.apply(ItemsAdmitted(item, [item]))
        state.open_next()
        state.apply(StepStarted(item, 0, 1, 0))

        assert places.of(task_id(RUN, item, 0)) == (item, 0)


def test_of_items_that_have_ended_few_are_remembered_and_the_open_ones_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_PLACES", 4)
    state = begun(20)
    places = Places(RUN, 2, state)
    for item in range(20):
        state.apply(StepStarted(item, 0, 1, 0))
    first = places.of(task_id(RUN, 19, 0))

    for item in range(18):
        del state.items[item]
    second = [places.of(task_id(RUN, item, 0)) for item in (17, 18, 19)]

    assert first == (19, 0)
    assert second == [None, (18, 0), (19, 0)]
    assert len(places._places) == 4
