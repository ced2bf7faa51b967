"""Checklist 63–79: flows, runs and components as clients see them."""

import asyncio
from typing import Any

import pytest

from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.wire import from_value, to_struct, to_value

pytestmark = pytest.mark.anyio

SAME = {"steps": [], "output": {"$input": "$"}}
BARE = {"s": {"value": {"input": 50}}}  # not below "steps"
UNKNOWN = "11111111-1111-1111-1111-111111111111"
TYPES = {name: NUMBERS[f"STATUS_EVENT_TYPE_{name}"] for name in ("STEP_STARTED", "RUN_COMPLETED", "RUN_CREATED")}


async def test_63_nulls_and_empty_metadata_are_taken(client: Any) -> None:
    step = {
        "id": "s",
        "component": "/here/double",
        "input": {"$input": "$"},
        "onError": None,
        "mustExecute": None,
        "metadata": {},
    }
    flow = {"name": None, "description": None, "version": None, "steps": [step], "output": {"$step": "s"}, "test": None}

    assert await client.outputs(await client.begin(flow, [2])) == [4]


async def test_64_a_flow_with_warnings_is_stored(client: Any) -> None:
    flow = {**SAME, "steps": [{"id": "unused", "component": "/here/double", "input": 1}]}
    response = await client("FlowsService", "StoreFlow", flow=to_struct(flow))

    assert response.stored
    assert response.diagnostics.num_fatal == 0
    assert response.diagnostics.num_warning == len(response.diagnostics.diagnostics) > 0
    assert response.diagnostics.diagnostics[0].formatted


async def test_65_a_dry_run_gives_an_id_and_stores_nothing(client: Any) -> None:
    flow = {**SAME, "name": "dry"}
    dry = await client("FlowsService", "StoreFlow", flow=to_struct(flow), dry_run=True)
    missing = await client.refused("FlowsService", "GetFlow", flow_id=dry.flow_id)
    wet = await client("FlowsService", "StoreFlow", flow=to_struct(flow))

    assert not dry.stored
    assert missing == "NOT_FOUND"
    assert dry.flow_id == wet.flow_id


async def test_66_whole_numbers_of_a_stored_flow_are_integers(client: Any, t: Any) -> None:
    flow = {**t.one("/here/double", 3, onError={"action": "retry", "maxRetries": 3}), "output": {"$step": "s"}}
    flow_id = await client.store(flow)
    got = from_value((await client("FlowsService", "GetFlow", flow_id=flow_id)).flow.fields["steps"])

    assert isinstance(got[0]["onError"]["maxRetries"], int)
    assert await client.outputs(await client.begin(flow)) == [6]


async def test_67_a_run_is_waited_for_or_is_running(client: Any, t: Any) -> None:
    waited = await client.create(t.one("/here/double"), [1, 2], wait=True)
    begun = await client.create(t.one("/here/hang"))

    assert waited.summary.status == t.status("COMPLETED")
    assert [from_value(result.output) for result in waited.results] == [2, 4]
    assert (begun.summary.status, len(begun.results)) == (t.status("RUNNING"), 0)


async def test_68_any_value_is_an_input(client: Any) -> None:
    items = [1, "text", None, [1], True, {"a": 1}, 2.5]

    assert await client.outputs(await client.begin(SAME, items)) == items


async def test_69_no_inputs_are_a_run_that_has_ended(client: Any, t: Any) -> None:
    created = await client.create(SAME, [], wait=True)

    assert (created.summary.status, created.summary.items.total) == (t.status("COMPLETED"), 0)
    assert list(created.results) == []


@pytest.mark.parametrize(("fields", "most"), [({"max_concurrency": 2}, 2), ({}, 10), ({"max_concurrency": 0}, 1)])
async def test_70_so_many_tasks_are_in_flight(client: Any, t: Any, fields: Any, most: int) -> None:
    run_id = await client.begin(t.one("/here/hang"), list(range(20)), **fields)
    while len(steps := (await client("RunsService", "GetRunSteps", run_id=run_id)).steps) < most:
        await asyncio.sleep(0)

    assert len(steps) == most
    await client("RunsService", "CancelRun", run_id=run_id)


async def test_71_variables_and_overrides_take_effect(client: Any, t: Any) -> None:
    flow = {
        **t.one("/here/double", {"$variable": "n"}),
        "schemas": {"type": "object", "properties": {"variables": {"type": "object", "properties": {"n": {}}}}},
    }
    request = new("CreateRunRequest", flow_id=await client.store(flow), input=[to_value(0)], wait=True)
    to_value(4, request.variables["n"])
    by_variable = await client("RunsService", "CreateRun", request)
    request.overrides.CopyFrom(to_struct({"steps": {"s": {"$type": "merge_patch", "value": {"input": 50}}}}))
    by_override = await client("RunsService", "CreateRun", request)
    refused = []
    for bad in ({"steps": {"nowhere": {"value": {"input": 1}}}}, {"steps": {"s": {"value": 7}}}, BARE):
        request.overrides.CopyFrom(to_struct(bad))
        refused.append(await client.refused("RunsService", "CreateRun", request))

    assert from_value(by_variable.results[0].output) == 8
    assert from_value(by_override.results[0].output) == 100
    assert refused == ["INVALID_ARGUMENT"] * 3


async def test_72_a_wait_ends_with_the_run_or_with_its_limit(client: Any, t: Any) -> None:
    ended = await client("RunsService", "GetRun", run_id=await client.begin(SAME), wait=True)
    hanging = await client.begin(t.one("/here/hang"))
    limited = await client("RunsService", "GetRun", run_id=hanging, wait=True, timeout_secs=0)

    assert ended.summary.status == t.status("COMPLETED")
    assert limited.summary.status == t.status("RUNNING")


async def test_73_items_come_by_index(client: Any, t: Any) -> None:
    results = await client.results(await client.begin(t.one("/here/double"), [3, 1, 2]))

    assert [result.item_index for result in results] == [0, 1, 2]
    assert [from_value(result.output) for result in results] == [6, 2, 4]


@pytest.mark.parametrize("more", [0, 250])
async def test_73_items_that_have_ended_say_when(client: Any, t: Any, more: int) -> None:
    run_id = await client.begin(t.one("/here/double"), [1, "x", {}, *range(more)])
    ended = await client("RunsService", "GetRun", run_id=run_id, wait=True)
    first, last = (stamp.ToNanoseconds() for stamp in (ended.summary.created_at, ended.summary.completed_at))

    results = (await client("RunsService", "GetRunItems", run_id=run_id)).results

    assert len(results) == 3 + more
    for result in results:
        assert first - 1_000_000 <= result.completed_at.ToNanoseconds() <= last + 1_000_000


@pytest.mark.parametrize(("count", "items"), [(3, [0, 1, 2]), (101, [0])])
async def test_72_a_run_tells_its_steps_of_every_item_while_they_are_few(
    client: Any, t: Any, count: int, items: list[int]
) -> None:
    run_id = await client.begin(t.one("/here/double"), list(range(count)))
    ended = await client("RunsService", "GetRun", run_id=run_id, wait=True)

    assert [step.item_index for step in ended.steps] == items


async def test_74_events_come_in_order_until_the_end(client: Any, t: Any) -> None:
    run_id = await client.begin(t.one("/here/double"), [1])
    events = await client.all("RunsService", "GetRunEvents", run_id=run_id)
    names = [event.WhichOneof("event") for event in events]
    numbers = [event.sequence_number for event in events]
    since = await client.all("RunsService", "GetRunEvents", run_id=run_id, since=numbers[2])
    starts = await client.all("RunsService", "GetRunEvents", run_id=run_id, event_types=[TYPES["STEP_STARTED"]])
    with_results = await client.all("RunsService", "GetRunEvents", run_id=run_id, include_results=True)
    ended = [event.step_completed for event in with_results if event.HasField("step_completed")]

    assert (names[:2], names[-1]) == (["run_created", "steps_needed"], "run_completed")
    assert names.index("step_started") < names.index("step_completed")
    assert numbers == sorted(numbers)
    assert [event.sequence_number for event in since] == [number for number in numbers if number >= numbers[2]]
    assert [event.WhichOneof("event") for event in starts] == ["step_started"]
    assert [from_value(event.result) for event in ended] == [2]


async def test_75_variables_tell_what_they_need(client: Any) -> None:
    variables = {
        "type": "object",
        "properties": {
            "key": {"type": "string", "env_var": "THE_KEY", "description": "what for"},
            "n": {"type": "integer", "default": 3},
        },
        "required": ["key"],
    }
    flow = {
        **SAME,
        "output": [{"$variable": "key"}, {"$variable": "n"}],
        "schemas": {"type": "object", "properties": {"variables": variables}},
    }
    found = (await client("FlowsService", "GetFlowVariables", flow_id=await client.store(flow))).variables

    assert (found["key"].required, found["key"].env_var, found["key"].description) == (True, "THE_KEY", "what for")
    assert (found["n"].required, from_value(found["n"].default_value)) == (False, 3)
    assert not found["key"].HasField("default_value")


async def test_76_components_are_listed_with_their_schemas_if_wanted(client: Any, pull: Any) -> None:
    async with pull("default", "w", "of-a-worker"):
        full = await client("ComponentsService", "ListRegisteredComponents")
        short = await client("ComponentsService", "ListRegisteredComponents", exclude_schemas=True)
    plugins = {entry.component_id: entry.plugin for entry in full.components}

    assert plugins["of-a-worker"] == "workers"
    assert "builtin" in plugins.values()
    assert any(entry.HasField("input_schema") for entry in full.components)
    assert not any(entry.HasField("input_schema") or entry.HasField("output_schema") for entry in short.components)
    assert [entry.component_id for entry in full.components] == sorted(entry.component_id for entry in full.components)
    assert not full.complete
    assert {failure.plugin for failure in full.failed_plugins} == {"hasty", "short", "workers"}
    assert "queue 'gpu', 'idle'" in {failure.plugin: failure.error for failure in full.failed_plugins}["workers"]


async def test_76_a_worker_that_is_connected_is_waited_for(client: Any, t: Any) -> None:
    """Until it has answered the question which components it has."""
    stub, _ = client.stub("TasksService", "PullTasks")
    stream = stub(new("PullTasksRequest", queue_name="hasty", worker_id="slow"))
    question = await stream.read()
    listing = asyncio.create_task(client("ComponentsService", "ListRegisteredComponents"))
    await client("HealthService", "HealthCheck")
    was_waiting = not listing.done()
    answer: Any = new("CompleteTaskRequest", task_id=question.task_id)
    answer.list_components.components.add(component_id="late")
    await client("OrchestratorService", "CompleteTask", answer)
    listed = await listing
    stream.cancel()

    assert was_waiting
    assert "late" in [entry.component_id for entry in listed.components]


async def test_77_a_run_that_goes_on_is_not_deleted(client: Any, t: Any) -> None:
    running = await client.begin(t.one("/here/hang"))
    refused = await client.refused("RunsService", "DeleteRun", run_id=running)
    ended = await client.begin(SAME)
    await client.results(ended)
    await client("RunsService", "DeleteRun", run_id=ended)
    gone = await client.refused("RunsService", "GetRun", run_id=ended)
    unknown = await client.refused("RunsService", "DeleteRun", run_id=UNKNOWN)

    assert (refused, gone, unknown) == ("FAILED_PRECONDITION", "NOT_FOUND", "NOT_FOUND")


async def test_78_a_cancelled_run_is_told_as_that_and_stays_so(client: Any, t: Any, pull: Any) -> None:
    run_id = await client.begin(t.one("/here/hang"), [1, 2])
    cancelled = (await client("RunsService", "CancelRun", run_id=run_id)).summary
    later = (await client("RunsService", "GetRun", run_id=run_id, wait=True)).summary
    ended = await client.begin(SAME)
    await client.results(ended)
    finished = (await client("RunsService", "CancelRun", run_id=ended)).summary

    assert cancelled.status == later.status == t.status("CANCELLED")
    assert cancelled.items.cancelled == 2
    assert finished.status == t.status("COMPLETED")
    assert await client.refused("RunsService", "CancelRun", run_id=UNKNOWN) == "NOT_FOUND"


async def test_79_a_client_that_gives_up_waiting_stops_nothing(client: Any, t: Any, pull: Any) -> None:
    async with pull() as worker:
        flow_id = await client.store({**t.one(), "name": "patient"})
        asked = {"flow_id": flow_id, "input": [to_value(1)], "wait": True}
        waiting = asyncio.ensure_future(client("RunsService", "CreateRun", **asked))
        task = await worker.next()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await worker.claim(task)
        await client.answer(task, "went on")
        (run,) = (await client("RunsService", "ListRuns", flow_name="patient")).runs

        assert await client.outputs(run.run_id) == ["went on"]


# Further rows of 5.2 and 5.6


async def test_runs_are_filtered_newest_first(client: Any, t: Any) -> None:
    named = {**SAME, "name": "filtered"}
    ids = [await client.begin(named) for _ in range(3)]
    for id in ids:
        await client.results(id)
    hanging = await client.begin({**t.one("/here/hang"), "name": "filtered"})

    async def listed(**fields: Any) -> list[str]:
        return [run.run_id for run in (await client("RunsService", "ListRuns", flow_name="filtered", **fields)).runs]

    assert await listed() == [hanging, *reversed(ids)]
    assert await listed(status=t.status("COMPLETED")) == list(reversed(ids))
    assert await listed(status=t.status("RUNNING")) == [hanging]
    assert await listed(limit=2, offset=1) == [ids[2], ids[1]]
    assert await listed(root_run_id=ids[0]) == [ids[0]]
    assert await listed(parent_run_id=ids[0]) == []
    assert await listed(root_run_id="no id") == [hanging, *reversed(ids)]
    assert await listed(max_depth=0) == await listed(roots_only=True) == [hanging, *reversed(ids)]
    assert await listed(max_depth=5) == [hanging, *reversed(ids)]


@pytest.mark.slow
async def test_thousands_of_runs_are_listed_where_no_limit_is_given(client: Any) -> None:
    flow_id = await client.store({**SAME, "name": "many"})
    for _ in range(1_100):
        await client("RunsService", "CreateRun", flow_id=flow_id)

    assert len((await client("RunsService", "ListRuns", flow_name="many")).runs) == 1_100


async def test_sub_runs_are_deeper_than_their_roots(client: Any, t: Any) -> None:
    flow = SAME
    for _ in range(2):
        flow = t.one("/builtin/eval", {"flow_id": await client.store(flow), "input": 1})
    run_id = await client.begin(flow)
    await client.results(run_id)
    sizes = [
        len((await client("RunsService", "ListRuns", root_run_id=run_id, max_depth=depth)).runs) for depth in range(4)
    ]
    roots = (await client("RunsService", "ListRuns", root_run_id=run_id, roots_only=True)).runs

    assert sizes == [1, 2, 3, 3]
    assert [run.run_id for run in roots] == [run_id]


async def test_a_step_is_told_and_not_as_of_a_later_time(client: Any, t: Any) -> None:
    run_id = await client.begin(t.one("/here/double"), [4])
    await client.results(run_id)
    asked = {"run_id": run_id, "step_id": "s"}
    step = (await client("RunsService", "GetStepDetail", **asked)).step
    same = (await client("RunsService", "GetStepDetail", asof=step.journal_seqno, **asked)).step
    later = await client.refused("RunsService", "GetStepDetail", asof=step.journal_seqno + 1, **asked)
    missing = [
        await client.refused("RunsService", "GetStepDetail", **{**asked, **other})
        for other in ({"step_id": "x"}, {"item_index": 9}, {"run_id": UNKNOWN})
    ]

    assert (step.step_id, step.item_index, step.status) == ("s", 0, t.status("COMPLETED"))
    assert from_value(step.output) == 8
    assert same == step
    assert later == "FAILED_PRECONDITION"
    assert missing == ["NOT_FOUND"] * 3


async def test_questions_after_items_and_steps_of_an_unknown_run_have_no_answers(client: Any) -> None:
    assert not (await client("RunsService", "GetRunItems", run_id=UNKNOWN)).results
    assert not (await client("RunsService", "GetRunSteps", run_id=UNKNOWN)).steps
    for name in ("GetRun", "GetRunFlow"):
        assert await client.refused("RunsService", name, run_id=UNKNOWN) == "NOT_FOUND"


async def test_events_of_sub_runs_come_if_wanted(client: Any, t: Any) -> None:
    run_id = await client.begin(t.one("/builtin/eval", {"flow_id": await client.store(SAME), "input": 1}))
    own = await client.all("RunsService", "GetRunEvents", run_id=run_id)
    every = await client.all("RunsService", "GetRunEvents", run_id=run_id, include_sub_runs=True)
    linked = [event.sub_run_created for event in own if event.HasField("sub_run_created")]
    created = [event.run_created.run_id for event in every if event.HasField("run_created")]

    assert {getattr(event, event.WhichOneof("event")).run_id for event in own} <= {run_id, *(e.run_id for e in linked)}
    assert [event.parent_run_id for event in linked] == [run_id]
    assert (linked[0].item_count, len(linked[0].flow_id)) == (1, 64)
    assert created == [run_id, linked[0].run_id]
    numbers = [event.sequence_number for event in every]
    assert numbers == sorted(numbers)


async def test_the_stream_ends_though_its_last_event_is_not_wanted(client: Any) -> None:
    run_id = await client.begin(SAME)
    only = await client.all("RunsService", "GetRunEvents", run_id=run_id, event_types=[TYPES["RUN_CREATED"]])

    assert [event.WhichOneof("event") for event in only] == ["run_created"]


async def test_summaries_tell_where_they_stand_in_the_journal(client: Any) -> None:
    run_id = await client.begin(SAME)
    await client.results(run_id)
    summary = (await client("RunsService", "GetRun", run_id=run_id)).summary
    events = await client.all("RunsService", "GetRunEvents", run_id=run_id)

    assert summary.orchestrator_id
    assert summary.created_at_seqno == events[0].sequence_number
    assert summary.finished_at_seqno == events[-1].sequence_number
    assert summary.completed_at.seconds >= summary.created_at.seconds > 0


async def test_a_flow_comes_back_normalised_with_its_examples(client: Any) -> None:
    flow = {
        **SAME,
        "output": {"$input": "v"},
        "examples": [{"name": "e", "input": {"v": 1}}],
        "test": {"cases": [{"name": "c", "input": {"v": 2}}]},
    }
    flow_id = await client.store(flow)
    got = await client("FlowsService", "GetFlow", flow_id=flow_id)
    data = await client("BlobService", "PutBlob", json_data=to_value(5))

    assert from_value(got.flow.fields["output"]) == {"$input": "$.v"}
    assert [(each.name, from_value(each.input)) for each in got.all_examples] == [("e", {"v": 1}), ("c", {"v": 2})]
    assert await client.refused("FlowsService", "GetFlow", flow_id=data.blob_id) == "INVALID_ARGUMENT"
    assert await client.refused("FlowsService", "StoreFlow") == "INVALID_ARGUMENT"


async def test_a_flow_that_is_asked_to_be_deleted_is_kept_for_its_runs_which_the_log_says_once(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    flow_id = await client.store(SAME)

    for _ in range(2):
        await client("FlowsService", "DeleteFlow", flow_id=flow_id)
    kept = await client("FlowsService", "GetFlow", flow_id=flow_id)

    assert kept.flow_id == flow_id
    assert caplog.text.count(f"flow {flow_id} was asked to be deleted, and is kept") == 1
    assert await client.refused("FlowsService", "DeleteFlow", flow_id="no id") == "INVALID_ARGUMENT"
