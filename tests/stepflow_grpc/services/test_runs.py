"""Flows and runs through the protocol, as a client that knows only the protocol sees them."""

import asyncio
from typing import Any

import anyio
import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.records import RunStatus
from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.server import Server
from stepflow_grpc.wire import from_value, to_struct, to_value

pytestmark = pytest.mark.anyio

DOUBLE = {
    "name": "double",
    "steps": [{"id": "d", "component": "/double", "input": {"$input": "$"}}],
    "output": {"$step": "d"},
}
RUNNING, COMPLETED, FAILED, CANCELLED = (
    NUMBERS[f"EXECUTION_STATUS_{name}"] for name in ("RUNNING", "COMPLETED", "FAILED", "CANCELLED")
)


@pytest.fixture
def app() -> Components:
    components = Components()

    @components.component("/nest")
    async def nest(depth: int) -> Any:
        """So many lists in one another; of 0 a number of 401 digits."""
        value: Any = 1 if depth else 10**400
        for _ in range(depth):
            value = [value]
        return value

    @components.component("/double")
    async def double(n: Any) -> Any:
        """Twice the number."""
        if n == "wait":
            await anyio.sleep_forever()
        if isinstance(n, str):
            raise ValueError(f"{n} is no number")
        return None if n is None else n * 2

    return components


async def stored(calls: Any, flow: Any = DOUBLE) -> str:
    return (await calls("FlowsService", "StoreFlow", flow=to_struct(flow))).flow_id


def values(items: Any) -> list[Any]:
    return [to_value(item) for item in items]


async def create(calls: Any, items: Any, *, flow: Any = DOUBLE, **fields: Any) -> Any:
    flow_id = await stored(calls, flow)
    return await calls("RunsService", "CreateRun", flow_id=flow_id, input=values(items), **fields)


async def test_a_run_that_is_waited_for_gives_its_results_in_order(calls: Any) -> None:
    response = await create(calls, [1, 2.5, None], wait=True)

    assert response.summary.status == COMPLETED
    assert (response.summary.items.total, response.summary.items.completed) == (3, 3)
    assert response.summary.flow_name == "double"
    assert response.summary.root_run_id == response.summary.run_id
    assert [from_value(result.output) for result in response.results] == [2, 5, None]
    assert [result.item_index for result in response.results] == [0, 1, 2]


async def test_a_run_that_is_not_waited_for_is_running(calls: Any) -> None:
    created = await create(calls, ["wait"])
    waited = await calls("RunsService", "GetRun", run_id=created.summary.run_id, wait=True, timeout_secs=0)

    assert (created.summary.status, len(created.results)) == (RUNNING, 0)
    assert waited.summary.status == RUNNING


async def test_the_end_of_the_wait_is_no_failure(calls: Any) -> None:
    response = await create(calls, ["wait", 1], wait=True, timeout_secs=1)

    assert response.summary.status == RUNNING
    assert [result.status for result in response.results] == [RUNNING, COMPLETED]


async def test_no_inputs_are_a_run_that_has_ended(calls: Any) -> None:
    response = await create(calls, [], wait=True)

    assert response.summary.status == COMPLETED
    assert list(response.results) == []


async def test_a_failed_item_is_told_with_code_and_message(calls: Any) -> None:
    response = await create(calls, [1, "x"], wait=True)

    failed = response.results[1]
    assert response.summary.status == FAILED
    assert failed.error_code == NUMBERS["TASK_ERROR_CODE_COMPONENT_FAILED"]
    assert "x is no number" in failed.error_message
    assert not failed.HasField("output")


async def test_variables_and_overrides_take_effect(calls: Any) -> None:
    flow = {
        **DOUBLE,
        "schemas": {"type": "object", "properties": {"variables": {"type": "object", "properties": {"n": {}}}}},
        "steps": [{"id": "d", "component": "/double", "input": {"$variable": "n"}}],
    }
    flow_id = await stored(calls, flow)
    request = new("CreateRunRequest", flow_id=flow_id, input=values([0]), wait=True)
    to_value(4, request.variables["n"])
    by_variable = await calls("RunsService", "CreateRun", request)
    request.overrides.CopyFrom(to_struct({"steps": {"d": {"value": {"input": 50}}}}))
    by_override = await calls("RunsService", "CreateRun", request)
    request.overrides.CopyFrom(to_struct({"steps": {"nowhere": {"value": {"input": 50}}}}))

    assert from_value(by_variable.results[0].output) == 8
    assert from_value(by_override.results[0].output) == 100
    assert (await calls.refused("RunsService", "CreateRun", request))[0] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("CreateRun", {"flow_id": "short"}, ("INVALID_ARGUMENT", "'short' is no blob id")),
        ("CreateRun", {"flow_id": "0" * 64}, ("NOT_FOUND", f"flow '{'0' * 64}' not found")),
        ("GetRun", {"run_id": "x"}, ("INVALID_ARGUMENT", "'x' is no run id")),
        ("GetRun", {"run_id": "0" * 32}, ("NOT_FOUND", "run '00000000-")),
        ("CancelRun", {"run_id": "0" * 32}, ("NOT_FOUND", "run '00000000-")),
        ("DeleteRun", {"run_id": "0" * 32}, ("NOT_FOUND", "run '00000000-")),
        ("GetRunFlow", {"run_id": "0" * 32}, ("NOT_FOUND", "run '00000000-")),
        ("GetStepDetail", {"run_id": "0" * 32, "step_id": "d"}, ("NOT_FOUND", "run '00000000-")),
    ],
)
async def test_what_is_not_there_or_malformed_is_refused(
    calls: Any, name: str, fields: dict[str, Any], expected: tuple[str, str]
) -> None:
    code, words = await calls.refused("RunsService", name, **fields)

    assert code == expected[0]
    assert words.startswith(expected[1])


@pytest.mark.parametrize("name", ["GetRunItems", "GetRunSteps"])
async def test_lists_of_an_unknown_run_are_empty(calls: Any, name: str) -> None:
    response = await calls("RunsService", name, run_id="0" * 32)

    assert response.ByteSize() == 0


async def test_runs_are_listed_newest_first_by_what_is_asked(calls: Any) -> None:
    ids = [(await create(calls, items, wait=True)).summary.run_id for items in ([1], ["x"], [3])]

    everything = await calls("RunsService", "ListRuns")
    failed = await calls("RunsService", "ListRuns", status=FAILED)
    page = await calls("RunsService", "ListRuns", limit=1, offset=1)
    unnamed = await calls("RunsService", "ListRuns", flow_name="other")
    malformed = await calls("RunsService", "ListRuns", root_run_id="what?")

    assert [run.run_id for run in everything.runs] == ids[::-1]
    assert [run.run_id for run in failed.runs] == [ids[1]]
    assert [run.run_id for run in page.runs] == [ids[1]]
    assert list(unnamed.runs) == []
    assert len(malformed.runs) == 3


async def test_a_step_is_told_with_its_output_or_its_failure(calls: Any) -> None:
    run_id = (await create(calls, [4, "x"], wait=True)).summary.run_id

    steps = (await calls("RunsService", "GetRunSteps", run_id=run_id)).steps
    one = (await calls("RunsService", "GetStepDetail", run_id=run_id, step_id="d", item_index=1)).step
    late = await calls.refused("RunsService", "GetStepDetail", run_id=run_id, step_id="d", asof=10_000)
    missing = await calls.refused("RunsService", "GetStepDetail", run_id=run_id, step_id="e")

    assert [(step.step_id, step.item_index, step.component) for step in steps] == [
        ("d", 0, "/double"),
        ("d", 1, "/double"),
    ]
    assert from_value(steps[0].output) == 8
    assert steps[0].started_at.seconds >= 1_700_000_000
    assert (one.status, one.error_code) == (FAILED, NUMBERS["TASK_ERROR_CODE_COMPONENT_FAILED"])
    assert late[0] == "FAILED_PRECONDITION"
    assert missing == ("NOT_FOUND", "step 'e' not found")


NEST = {"steps": [{"id": "n", "component": "/nest", "input": {"$input": "$"}}], "output": {"$step": "n"}}


async def test_the_deepest_result_that_readers_take_is_told(calls: Any) -> None:
    response = await create(calls, [48], flow=NEST, wait=True)

    value = from_value(response.results[0].output)
    for _ in range(48):
        (value,) = value  # type: ignore[misc]
    assert value == 1


@pytest.mark.parametrize("depth", [49, 0])
async def test_a_result_that_no_message_carries_is_refused_and_all_else_is_told(calls: Any, depth: int) -> None:
    run_id = (await create(calls, [depth], flow=NEST)).summary.run_id
    ended = await calls("RunsService", "GetRun", run_id=run_id, wait=True)
    events = await calls.all("RunsService", "GetRunEvents", run_id=run_id, include_results=True)
    code, words = await calls.refused("RunsService", "GetRunItems", run_id=run_id)

    (step,) = ended.steps
    assert (ended.summary.status, step.status) == (COMPLETED, COMPLETED)
    assert not step.HasField("output")
    assert step.error_message.startswith("the output can't be told: ")
    assert not next(event.step_completed for event in events if event.HasField("step_completed")).HasField("result")
    assert code == "FAILED_PRECONDITION"
    assert words.startswith(f"run {run_id} is completed, and an output of it can't be told: ")


async def test_events_come_in_order_and_end_with_the_run(calls: Any) -> None:
    flow = {
        "steps": [
            {"id": "a", "component": "/double", "input": {"$input": "$"}},
            {"id": "b", "component": "/double", "input": {"$step": "a"}},
        ],
        "output": {"$step": "b"},
    }
    run_id = (await create(calls, [1], flow=flow, wait=True)).summary.run_id

    events = await calls.all("RunsService", "GetRunEvents", run_id=run_id, include_results=True)
    kinds = [event.WhichOneof("event") for event in events]
    numbers = [event.sequence_number for event in events]
    later = await calls.all("RunsService", "GetRunEvents", run_id=run_id, since=numbers[3])
    ends = await calls.all(
        "RunsService", "GetRunEvents", run_id=run_id, event_types=[NUMBERS["STATUS_EVENT_TYPE_RUN_COMPLETED"]]
    )

    assert kinds == [
        "run_created",
        "steps_needed",
        "step_started",
        "step_completed",
        "step_ready",
        "step_started",
        "step_completed",
        "item_completed",
        "run_completed",
    ]
    assert numbers == sorted(numbers)
    assert from_value(events[3].step_completed.result) == 2
    assert events[4].step_ready.step_id == "b"
    assert later[0].sequence_number == numbers[3]
    assert [event.WhichOneof("event") for event in ends] == ["run_completed"]


async def test_a_cancelled_run_is_told_as_cancelled_and_stays_so(calls: Any) -> None:
    run_id = (await create(calls, ["wait", 1])).summary.run_id
    active = await calls.refused("RunsService", "DeleteRun", run_id=run_id)

    cancelled = await calls("RunsService", "CancelRun", run_id=run_id)
    again = await calls("RunsService", "CancelRun", run_id=run_id)
    items = (await calls("RunsService", "GetRunItems", run_id=run_id)).results
    await calls("RunsService", "DeleteRun", run_id=run_id)

    assert active[0] == "FAILED_PRECONDITION"
    assert cancelled.summary.status == again.summary.status == CANCELLED
    assert items[0].status == CANCELLED
    assert (await calls.refused("RunsService", "GetRun", run_id=run_id))[0] == "NOT_FOUND"


async def test_the_flow_of_a_run_is_given_as_it_was_stored(calls: Any) -> None:
    run_id = (await create(calls, [1], wait=True)).summary.run_id

    response = await calls("RunsService", "GetRunFlow", run_id=run_id)

    assert response.flow_id == await stored(calls)
    assert response.flow["steps"][0]["id"] == "d"


async def test_a_dry_run_and_a_fatal_flow_store_nothing(calls: Any) -> None:
    dry = await calls("FlowsService", "StoreFlow", flow=to_struct(DOUBLE), dry_run=True)
    ring = {"steps": [{"id": "a", "component": "/x", "input": {"$step": "a"}}], "output": {"$step": "a"}}
    fatal = await calls("FlowsService", "StoreFlow", flow=to_struct(ring))
    kept = await calls("FlowsService", "StoreFlow", flow=to_struct(DOUBLE))

    assert (dry.stored, fatal.stored, kept.stored) == (False, False, True)
    assert dry.flow_id == kept.flow_id
    assert fatal.diagnostics.num_fatal >= 1
    assert fatal.diagnostics.diagnostics[0].kind
    assert (await calls.refused("FlowsService", "GetFlow", flow_id=fatal.flow_id))[0] == "NOT_FOUND"


async def test_a_flow_that_is_none_is_refused(calls: Any) -> None:
    assert (await calls.refused("FlowsService", "StoreFlow"))[0] == "INVALID_ARGUMENT"
    assert (await calls.refused("FlowsService", "StoreFlow", flow=to_struct({"steps": 5})))[0] == "INVALID_ARGUMENT"


async def test_variables_of_a_flow_are_told(calls: Any) -> None:
    properties = {
        "key": {"type": "string", "env_var": "KEY"},
        "n": {"type": "integer", "default": 3, "description": "how many"},
    }
    schemas = {"properties": {"variables": {"type": "object", "properties": properties, "required": ["key"]}}}
    flow_id = await stored(calls, {**DOUBLE, "schemas": schemas})

    variables = (await calls("FlowsService", "GetFlowVariables", flow_id=flow_id)).variables

    assert variables["key"].required
    assert variables["key"].env_var == "KEY"
    assert not variables["n"].required
    assert from_value(variables["n"].default_value) == 3
    assert variables["n"].description == "how many"


async def test_whole_numbers_of_a_flow_stay_whole(calls: Any) -> None:
    step = {**DOUBLE["steps"][0], "onError": {"action": "retry", "maxRetries": 3}}

    response = await calls("FlowsService", "StoreFlow", flow=to_struct({**DOUBLE, "steps": [step]}))

    assert response.stored


async def test_components_are_listed_with_and_without_their_schemas(calls: Any) -> None:
    await create(calls, [1], wait=True)

    listed = {
        entry.component_id: entry for entry in (await calls("ComponentsService", "ListRegisteredComponents")).components
    }
    bare = (await calls("ComponentsService", "ListRegisteredComponents", exclude_schemas=True)).components

    assert any(entry.description == "Twice the number." for entry in listed.values())
    assert not any(entry.HasField("input_schema") for entry in bare)
    assert [entry.component_id for entry in bare] == sorted(entry.component_id for entry in bare)


@pytest.mark.parametrize(
    ("service", "name"),
    [
        ("RunsService", "CreateRun"),
        ("RunsService", "GetRun"),
        ("OrchestratorService", "SubmitRun"),
        ("OrchestratorService", "GetRun"),
    ],
)
async def test_who_waits_for_a_run_is_sent_away_when_the_server_closes_and_the_run_goes_on(
    engine: Engine, server: Server, calls: Any, service: str, name: str
) -> None:
    flow_id = await stored(calls)
    wanted = {"flow_id": flow_id, "input": values(["wait"]), "wait": True}
    fields: dict[str, Any] = {"run_request": new("CreateRunRequest", **wanted)} if name == "SubmitRun" else wanted
    if name == "GetRun":
        run = await engine.submit(DOUBLE, ["wait"])
        fields = {"run_id": run.id, "wait": True}
    asking = asyncio.ensure_future(calls.refused(service, name, **fields))
    async with asyncio.timeout(60):
        while not server._watchers.waiting:
            await asyncio.sleep(0.01)
        (run_id,) = [each.id for each in await engine.backend.runs.list(limit=10)]
        server._watchers.close()

        assert await asking == ("UNAVAILABLE", f"the server is closing; run {run_id} goes on: ask again")
    assert (await engine.get(run_id)).status is RunStatus.RUNNING
    await engine.cancel(run_id)
