"""The executor against a model of the language that has no scheduler."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from played import QUICK, THOROUGH, Played, outcome
from random_flows import flows, play, values, variables
from reference_model import Item

from stepflow.execution.events import ItemEnded
from stepflow.records import outcome_to_json

inputs = st.lists(values, min_size=1, max_size=3)


def _same(one: Any, other: Any) -> bool:
    return repr(_ordered(one)) == repr(_ordered(other))  # True is not 1 here


def _ordered(value: Any) -> Any:
    match value:
        case dict():
            return {key: _ordered(value[key]) for key in sorted(value)}
        case list() | tuple():
            return [_ordered(item) for item in value]
        case _:
            return value


def check_against_the_model(backend: str, flow: Any, inputs: Any, variables: Any, max_concurrency: int | None) -> None:
    played = Played(backend, flow, inputs, variables=variables, max_concurrency=max_concurrency)

    for index, input in enumerate(inputs):
        model = Item(flow, input, variables, play)
        assert _same(outcome(played.results[index]), model.result)
        assert _same(played.ended(flow, index), model.ended)
        called = Counter((step, attempt) for item, step, attempt in played.calls if item == index)
        assert called == Counter(model.dispatched)


limits = st.none() | st.integers(1, 5)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@QUICK
@given(flow=flows(), inputs=inputs, variables=variables, max_concurrency=limits)
def test_a_run_gives_what_the_model_gives(backend: str, **drawn: Any) -> None:
    check_against_the_model(backend, **drawn)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@THOROUGH
@given(flow=flows(max_steps=10), inputs=inputs, variables=variables, max_concurrency=limits)
def test_many_runs_give_what_the_model_gives(backend: str, **drawn: Any) -> None:
    check_against_the_model(backend, **drawn)


@QUICK
@given(flow=flows(max_steps=4), inputs=st.lists(values, max_size=12), limits=st.tuples(limits, limits))
def test_results_are_the_same_however_many_tasks_run_at_once(flow: Any, inputs: Any, limits: Any) -> None:
    one, other = [Played("asyncio", flow, inputs, max_concurrency=limit) for limit in limits]

    assert [result.index for result in one.results] == list(range(len(inputs)))
    assert [outcome(result) for result in one.results] == [outcome(result) for result in other.results]
    assert Counter(one.calls) == Counter(other.calls)


@QUICK
@given(flow=flows(max_steps=4), inputs=st.lists(values, max_size=12), max_concurrency=limits)
def test_streamed_inputs_and_lists_give_the_same(flow: Any, inputs: Any, max_concurrency: int | None) -> None:
    listed = Played("asyncio", flow, inputs, max_concurrency=max_concurrency)
    streamed = Played("asyncio", flow, iter(inputs), max_concurrency=max_concurrency)

    assert [outcome(result) for result in listed.results] == [outcome(result) for result in streamed.results]


@QUICK
@given(flow=flows(max_steps=4), inputs=st.lists(values, max_size=6), max_concurrency=limits)
def test_results_come_in_the_order_in_which_items_end(flow: Any, inputs: Any, max_concurrency: int | None) -> None:
    by_item = Played("asyncio", flow, inputs, max_concurrency=max_concurrency)
    by_end = Played("asyncio", flow, inputs, order="completion", max_concurrency=max_concurrency)

    ends = [event.item for event in by_end.events if isinstance(event, ItemEnded)]
    assert [result.index for result in by_end.results] == ends
    assert sorted(by_end.results, key=lambda result: result.index) == by_item.results


@QUICK
@given(flow=flows(max_steps=4), inputs=inputs)
def test_a_sub_run_gives_what_the_flow_gives_by_itself(flow: Any, inputs: Any) -> None:
    around = {
        "steps": [
            {
                "id": "map",
                "component": "/builtin/map",
                "input": {"workflow": {"$literal": flow}, "items": {"$input": "$"}},
            }
        ],
        "output": {"$step": "map", "path": "$.results"},
    }

    (inner,) = Played("asyncio", around, [inputs]).results
    direct = Played("asyncio", flow, inputs)

    assert inner.output == [outcome_to_json(result.outcome) for result in direct.results]
