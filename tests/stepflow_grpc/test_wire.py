import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.records import (
    ComponentInfo,
    ErrorCode,
    Failed,
    ItemResult,
    ParentLink,
    RunRecord,
    RunStatus,
    Succeeded,
    Task,
)
from stepflow_grpc import wire
from stepflow_grpc.messages import MESSAGES, NUMBERS, Value, new

RUN = "01933f2c-0000-7000-8000-000000000001"

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


def test_the_task_of_an_answer_is_in_its_first_bytes() -> None:
    whole = wire.complete(RUN, RUN, Succeeded("x" * 1_000)).SerializeToString()

    assert [wire.task_id_in(whole[:size]) for size in (0, 1, 2, 37, 38, 256)] == ["", "", "", "", RUN, RUN]
    assert wire.task_id_in(new("CompleteTaskRequest", run_id=RUN).SerializeToString()) == ""


@given(plain)
def test_a_value_comes_back_equal(value: Any) -> None:
    arrived = Value.FromString(wire.to_value(value).SerializeToString())

    assert wire.from_value(arrived) == value


@pytest.mark.parametrize(
    ("sent", "arrived"), [(5.0, 5), (-0.0, 0), (1.5, 1.5), (math.nan, None), (math.inf, None), (1e300, 1e300)]
)
def test_numbers_come_in_as_the_reference_reads_them(sent: float, arrived: Any) -> None:
    value = wire.from_value(wire.to_value(sent))

    assert value == arrived
    assert type(value) is type(arrived)


def test_keys_come_in_sorted() -> None:
    assert list(wire.from_struct(wire.to_struct({"b": 1, "ä": 2, "a": {"d": 1, "c": 2}}))) == ["a", "b", "ä"]


@pytest.mark.parametrize("empty", [{}, [], None, "", 0, False])
def test_an_empty_value_is_not_an_absent_one(empty: Any) -> None:
    response = new("ComponentExecuteResponse")
    wire.to_value(empty, response.output)

    arrived = MESSAGES["ComponentExecuteResponse"].FromString(response.SerializeToString())

    assert arrived.HasField("output")
    assert wire.from_value(arrived.output) == empty


def task(**given: Any) -> Task:
    return Task(
        **{
            "run_id": RUN,
            "root_run_id": RUN,
            "flow_id": "f" * 64,
            "item": 3,
            "step": 1,
            "step_id": "embed",
            "component": "/ml/embed",
            "target": "embed",
            "input": {"text": "hi"},
            "attempt": 2,
            "path_params": {"rest": "a/b"},
            **given,
        }
    )


def test_an_assignment_says_all_that_a_worker_needs() -> None:
    message = wire.assignment(task(), url="10.0.0.1:7840", trace_id="a" * 32, span_id="b" * 16)

    execute = message.execute
    assert message.task_id == task().id
    assert message.heartbeat_interval_secs == 1
    assert (message.context.orchestrator_service_url, message.context.root_run_id) == ("10.0.0.1:7840", RUN)
    assert (execute.component_id, execute.attempt, dict(execute.path_params)) == ("embed", 2, {"rest": "a/b"})
    assert wire.from_value(execute.input) == {"text": "hi"}
    seen = execute.observability
    assert (seen.run_id, seen.flow_id, seen.step_id) == (RUN, "f" * 64, "embed")
    assert (seen.trace_id, seen.span_id) == ("a" * 32, "b" * 16)


def test_a_step_without_an_input_has_a_null_one() -> None:
    message = wire.assignment(task(input=None), url="h:1", trace_id="", span_id="")

    assert message.execute.HasField("input")
    assert message.execute.input.WhichOneof("kind") == "null_value"


def test_a_question_for_components_needs_no_heartbeat() -> None:
    message = wire.discovery("discovery-1", url="h:1")

    assert message.WhichOneof("task") == "list_components"
    assert (message.heartbeat_interval_secs, message.context.root_run_id) == (0, "")


@pytest.mark.parametrize(
    "outcome",
    [
        Succeeded({"a": [1, None]}),
        Succeeded(None),
        Failed(ErrorCode.TIMEOUT, "late"),
        Failed(ErrorCode.COMPONENT_FAILED, "bad", data={"type": "ValueError", "line": 3}),
    ],
)
def test_an_outcome_comes_back_equal(outcome: Any) -> None:
    sent = wire.complete("t", RUN, outcome)

    arrived = MESSAGES["CompleteTaskRequest"].FromString(sent.SerializeToString())

    assert (arrived.task_id, arrived.run_id) == ("t", RUN)
    assert wire.outcome_of(arrived) == outcome


def test_an_answer_without_a_result_or_an_output_is_none() -> None:
    empty = new("CompleteTaskRequest", task_id="t")
    unset = new("CompleteTaskRequest", task_id="t")
    unset.response.SetInParent()

    assert wire.outcome_of(empty) is None
    assert wire.outcome_of(unset) is None


def test_a_code_that_nobody_knows_is_the_workers_own() -> None:
    request = new("CompleteTaskRequest", task_id="t")
    request.error.code = 99
    request.error.message = "?"

    assert wire.outcome_of(request) == Failed(ErrorCode.WORKER_ERROR, "?")


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_its_number(code: ErrorCode) -> None:
    assert wire.CODE_OF[wire.CODE[code]] is code
    assert wire.CODE[code] == NUMBERS[f"TASK_ERROR_CODE_{code}"]


def test_a_component_comes_back_equal() -> None:
    info = ComponentInfo(id="embed", path="/e/{x}", description="d", input_schema={"type": "object"})
    result = new("ListComponentsResult", components=[wire.component_message(info)])

    assert wire.components_of(result) == [info]


def test_a_schema_that_is_no_json_is_left_out() -> None:
    result = new("ListComponentsResult", components=[new("ComponentInfo", component_id="a", input_schema="{")])

    assert wire.components_of(result)[0].input_schema is None


def test_a_run_comes_back_as_far_as_it_is_told() -> None:
    record = RunRecord(
        id=RUN,
        root_id=RUN,
        flow_id="f" * 64,
        flow_name="label",
        status=RunStatus.FAILED,
        created_at=1_767_225_600.25,
        ended_at=1_767_225_601.5,
        total=3,
        succeeded=2,
        failed=1,
    )

    assert wire.record_of(wire.summary(record, orchestrator_id="o")) == record


def test_a_sub_run_names_its_parent() -> None:
    link = ParentLink(run_id="parent", item=0, step=0, key="k")
    record = RunRecord(id=RUN, root_id="root", flow_id="f", parent=link, total=2)

    message = wire.summary(record)

    assert (message.root_run_id, message.parent_run_id) == ("root", "parent")
    assert (message.items.total, message.items.running) == (2, 2)
    assert not message.HasField("completed_at")


def test_items_without_a_result_are_told_as_running() -> None:
    response = new("GetRunItemsResponse")
    known = [ItemResult(1, Succeeded(7)), ItemResult(2, Failed(ErrorCode.CANCELLED, "stopped"))]

    wire.fill_results(known, 3, response.results)

    assert [result.status for result in response.results] == [
        wire.STATUS[RunStatus.RUNNING],
        wire.STATUS[RunStatus.COMPLETED],
        wire.STATUS[RunStatus.CANCELLED],
    ]
    assert wire.item_of(response.results[1]) == known[0]
    assert wire.item_of(response.results[2]) == known[1]


def nested(depth: int) -> Any:
    value: Any = {}
    for number in range(depth):
        value = [value] if number % 3 else {"a": value}
    return value


def test_what_fits_below_two_messages_is_read_again_and_one_level_more_is_refused() -> None:
    deepest = next(depth for depth in range(100) if not fits(nested(depth + 1)))
    response: Any = new("GetRunItemsResponse")
    wire.item_message(0, Succeeded(nested(deepest)), response.results.add())

    assert deepest > 35
    assert MESSAGES["GetRunItemsResponse"].FromString(response.SerializeToString()) == response


def fits(value: Any) -> bool:
    try:
        wire.to_value(value)
    except wire.UnfitError:
        return False
    return True


@pytest.mark.parametrize("output", [nested(60), 10**400, {"a": [-(10**400)]}])
def test_an_output_that_no_message_carries_is_answered_as_a_failure(output: Any) -> None:
    request = wire.complete("t", "r", Succeeded(output))

    assert request.error.code == NUMBERS["TASK_ERROR_CODE_COMPONENT_FAILED"]
    assert request.error.message.startswith("the output can't be sent: ")


def test_data_of_a_failure_that_no_message_carries_is_left_out() -> None:
    request = wire.complete("t", "r", Failed(ErrorCode.TIMEOUT, "late", data={"a": nested(60)}))

    assert (request.error.message, request.error.HasField("data")) == ("late", False)
