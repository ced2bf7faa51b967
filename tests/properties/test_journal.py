"""A run is its journal: whatever the flow, and wherever it is cut."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from played import QUICK, Played
from random_flows import flows, values, variables

from stepflow.execution.events import Event, ItemsAdmitted, RunStarted, decode_events, encode_events
from stepflow.execution.state import RunState
from stepflow.flow.read import flow_from_json
from stepflow.plan.compile import build_plan

inputs = st.lists(values, min_size=1, max_size=3)
limits = st.none() | st.integers(1, 5)


def replayed(flow: Any, variables: Any, events: list[Event]) -> RunState:
    state = RunState(build_plan(flow_from_json(flow)), variables)
    for event in events:
        state.apply(event)
    return state


@QUICK
@given(flow=flows(), inputs=inputs, variables=variables, limit=limits, where=st.floats(0, 1))
def test_a_checkpoint_anywhere_and_what_follows_it_is_the_whole_journal(
    flow: Any, inputs: Any, variables: Any, limit: int | None, where: float
) -> None:
    events = Played("asyncio", flow, inputs, variables=variables, max_concurrency=limit).events
    begin = [event for event in events if isinstance(event, RunStarted | ItemsAdmitted)]
    cut = max(len(begin), round(where * (len(events) - 1)))  # RunEnded is the last of them

    whole = replayed(flow, variables, events)
    checkpoint = decode_events(encode_events([replayed(flow, variables, events[:cut]).snapshot()]))
    resumed = replayed(flow, variables, [*begin, *checkpoint, *events[cut:]])

    assert events[: len(begin)] == begin
    assert resumed.snapshot() == whole.snapshot()
    assert resumed.status is whole.status


@QUICK
@given(flow=flows(), inputs=inputs, variables=variables)
def test_events_come_back_from_the_journal_as_they_were(flow: Any, inputs: Any, variables: Any) -> None:
    events = Played("trio", flow, inputs, variables=variables).events

    assert decode_events(encode_events(events)) == events
