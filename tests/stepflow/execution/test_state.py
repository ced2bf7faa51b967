from typing import Any

import pytest

from stepflow.components import Components, Context
from stepflow.errors import ComponentError
from stepflow.execution.events import (
    Checkpointed,
    Event,
    InputsClosed,
    ItemEnded,
    ItemsAdmitted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
    decode_events,
    encode_events,
)
from stepflow.execution.live import LiveRun
from stepflow.execution.state import RunState
from stepflow.flow.read import flow_from_json
from stepflow.plan.compile import build_plan
from stepflow.records import ErrorCode, Failed, RunStatus, Succeeded

DIAMOND = {
    "steps": [
        {"id": "top", "component": "/x", "input": {"$input": "$"}},
        {"id": "left", "component": "/x", "input": {"$step": "top"}},
        {"id": "right", "component": "/x", "input": {"$if": {"$step": "top"}, "then": {"$step": "left"}}},
        {"id": "end", "component": "/x", "input": [{"$step": "left"}, {"$step": "right"}]},
    ],
    "output": {"$coalesce": [{"$step": "end"}, 0]},
}


def begun(document: dict[str, Any] = DIAMOND, *inputs: Any) -> RunState:
    state = RunState(build_plan(flow_from_json(document)), {})
    state.apply(ItemsAdmitted(0, list(inputs or [1])))
    state.apply(InputsClosed(len(inputs or [1])))
    return state


def taken(state: RunState) -> list[tuple[int, int]]:
    ready, state.ready = state.ready, []
    return ready


def test_what_becomes_ready_is_what_nothing_else_is_needed_for() -> None:
    state = begun()
    state.open_next()

    assert taken(state) == [(0, 0)]
    state.apply(StepSucceeded(0, 0, True, 0))
    assert taken(state) == [(0, 1)]
    state.apply(StepSucceeded(0, 1, "l", 0))
    assert taken(state) == [(0, 2)]
    state.apply(StepSucceeded(0, 2, "r", 0))
    assert taken(state) == [(0, 3)]
    assert not state.closing
    state.apply(StepSucceeded(0, 3, ["l", "r"], 0))
    assert [item.index for item in state.closing] == [0]


def test_a_late_answer_to_a_finished_step_changes_nothing() -> None:
    state = begun()
    state.open_next()
    state.apply(StepSucceeded(0, 0, "first", 0))
    before = state.snapshot()

    state.apply(StepSucceeded(0, 0, "second", 0))
    state.apply(StepFailed(0, 0, Failed(ErrorCode.TIMEOUT, "late"), 0))

    assert state.snapshot() == before


def test_an_event_costs_its_dependents_and_not_the_plan() -> None:
    touched = 0

    class Counting(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            nonlocal touched
            touched += 1
            return super().__getitem__(index)

    steps = [{"id": "a", "component": "/x"}, *({"id": f"b{n}", "component": "/x"} for n in range(500))]
    after = {"id": "z", "component": "/x", "input": {"$step": "a"}}
    output = [{"$step": step["id"]} for step in [*steps, after]]
    state = begun({"steps": [*steps, after], "output": output})
    item = state.open_next()
    assert item is not None
    item.outputs, item.unmet = Counting(item.outputs), Counting(item.unmet)

    state.apply(StepSucceeded(0, 0, 1, 0))

    assert touched <= 6


def test_the_finished_are_a_mark_and_what_lies_above_it() -> None:
    state = begun(DIAMOND, *range(5))

    for index in (3, 0, 1):
        state.apply(ItemEnded(index, Succeeded(None), 0))

    assert (state.low_water, list(state.ended_above)) == (2, [3])
    state.apply(ItemEnded(2, Failed(ErrorCode.TIMEOUT, ""), 0))
    assert (state.low_water, list(state.ended_above)) == (4, [])
    assert (state.succeeded, state.failed) == (3, 1)
    assert not state.is_over


def test_an_input_that_began_is_no_longer_kept() -> None:
    state = begun(DIAMOND, "first", "second")

    state.open_next()

    assert state._backlog[0][1] == [None, "second"]


def test_budgets_are_counted_by_class() -> None:
    state = begun()
    state.open_next()

    state.apply(StepRetried(0, 0, 1, Failed(ErrorCode.TIMEOUT, ""), 1.0, 0))
    state.apply(StepRetried(0, 0, 2, Failed(ErrorCode.COMPONENT_FAILED, ""), 1.0, 0))
    state.apply(StepRetried(0, 0, 3, Failed(ErrorCode.UNREACHABLE, ""), 1.0, 0))

    assert state.items[0].retries == {0: (2, 1)}


def test_a_checkpoint_and_what_follows_it_equal_the_whole_journal() -> None:
    whole = begun(DIAMOND, 1, 2, 3)
    whole.open_next()
    whole.open_next()
    whole.apply(StepStarted(1, 0, 2, 0))
    whole.apply(StepSucceeded(1, 0, True, 0))
    whole.apply(StepStarted(0, 0, 1, 0))
    whole.apply(StepFailed(0, 0, Failed(ErrorCode.INVALID_INPUT, "no"), 0))
    whole.apply(ItemEnded(0, Failed(ErrorCode.INVALID_INPUT, "no"), 0))
    (checkpoint,) = decode_events(encode_events([whole.snapshot()]))

    restored = begun(DIAMOND, 1, 2, 3)
    restored.apply(checkpoint)
    for state in (whole, restored):
        state.apply(StepSucceeded(1, 1, "l", 0))

    assert isinstance(checkpoint, Checkpointed)
    assert restored.snapshot() == whole.snapshot()
    assert (1, 2) in taken(restored)


@pytest.mark.anyio
async def test_a_replay_comes_to_the_live_state_after_every_event(
    make_engine: Any, events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, lived = Components(), []

    @app.component("/x")
    async def x(value: Any, ctx: Context) -> Any:
        if ctx.item == 1 and ctx.step_id == "left":
            raise ComponentError("no")
        return value

    class Watched(LiveRun):
        def apply(self, event: Event) -> None:
            super().apply(event)
            lived.append(encode_events([self.state.snapshot()]))

        def apply_item(self, event: Event, item: int) -> None:
            super().apply_item(event, item)
            lived.append(encode_events([self.state.snapshot()]))

    monkeypatch.setattr("stepflow.execution.intake.LiveRun", Watched)
    flow = {
        **DIAMOND,
        "steps": [{**step, "onError": {"action": "retry", "maxRetries": 1}} for step in DIAMOND["steps"]],
    }
    async with make_engine(app) as engine:
        run = await engine.submit(flow, [True, 1, None])
        record = await run.wait()
        journal: list[Event] = [event async for event in run.events()]

    replayed, told = RunState(build_plan(flow_from_json(flow)), {}), []
    for event in journal:
        replayed.apply(event)
        told.append(encode_events([replayed.snapshot()]))
    assert told == lived
    assert replayed.status is record.status is RunStatus.FAILED
    assert [event for _, event in events.all] == journal
