"""Checklist 51–62: blobs, runs that workers submit, and where a run is driven."""

import re
from typing import Any

import pytest

from stepflow_grpc.messages import new
from stepflow_grpc.wire import from_value, to_value

pytestmark = pytest.mark.anyio

SAME = {"steps": [], "output": {"$input": "$"}}
UNKNOWN = "11111111-1111-1111-1111-111111111111"


async def put(client: Any, value: Any, **fields: Any) -> str:
    return str((await client("BlobService", "PutBlob", json_data=to_value(value), **fields)).blob_id)


async def submit(client: Any, flow_id: str, items: Any, *, metadata: Any = None, **fields: Any) -> Any:
    outside = {name: fields.pop(name) for name in ("root_run_id", "subflow_key") if name in fields}
    wanted = new("CreateRunRequest", flow_id=flow_id, input=[to_value(item) for item in items], **fields)
    return await client("OrchestratorService", "SubmitRun", run_request=wanted, metadata=metadata, **outside)


async def test_51_a_json_blob_comes_back_equal(client: Any) -> None:
    value = {"b": [1, 2.5, None, True, "ü"], "a": {}}
    id = await put(client, value)
    blob = await client("BlobService", "GetBlob", blob_id=id)

    assert re.fullmatch(r"[0-9a-f]{64}", id)
    assert from_value(blob.json_data) == value
    assert (blob.blob_type, blob.blob_id) == ("data", id)


async def test_52_equal_values_have_equal_ids(client: Any) -> None:
    assert await put(client, {"b": 1, "a": 2.0}) == await put(client, {"a": 2, "b": 1.0})
    assert await put(client, 1.5) != await put(client, 1)


async def test_53_bytes_come_back_as_they_are(client: Any) -> None:
    content = bytes(range(256))
    asked = {"raw_data": content, "blob_type": "binary", "filename": "all.bin", "content_type": "image/png"}
    put = await client("BlobService", "PutBlob", **asked)
    blob = await client("BlobService", "GetBlob", blob_id=put.blob_id.upper())

    assert (put.filename, blob.filename) == ("all.bin", "all.bin")
    assert (blob.raw_data, blob.blob_type) == (content, "binary")
    assert blob.content_type == "application/octet-stream"


async def test_54_a_flow_blob_is_a_flow(client: Any) -> None:
    flow_id = await put(client, SAME, blob_type="flow")
    created = await client("RunsService", "CreateRun", flow_id=flow_id, input=[to_value(3)], wait=True)

    assert from_value(created.results[0].output) == 3


@pytest.mark.parametrize(
    ("id", "code"), [("0" * 64, "NOT_FOUND"), ("0" * 63, "INVALID_ARGUMENT"), ("x" * 64, "INVALID_ARGUMENT")]
)
async def test_55_a_blob_that_is_unknown_or_none_is_refused(client: Any, id: str, code: str) -> None:
    assert await client.refused("BlobService", "GetBlob", blob_id=id) == code


@pytest.mark.parametrize("fields", [{}, {"json_data": to_value(1), "blob_type": "movie"}])
async def test_a_blob_needs_content_and_a_known_type(client: Any, fields: Any) -> None:
    assert await client.refused("BlobService", "PutBlob", **fields) == "INVALID_ARGUMENT"


async def test_the_first_type_of_the_same_bytes_stays(client: Any) -> None:
    flow = {**SAME, "name": "first type"}
    flow_id = await put(client, flow, blob_type="flow")
    assert await put(client, flow) == flow_id

    assert (await client("BlobService", "GetBlob", blob_id=flow_id)).blob_type == "flow"


async def test_56_a_submitted_run_gives_results_in_the_order_of_its_inputs(client: Any, t: Any) -> None:
    status = await submit(client, await client.store(t.one("/here/double")), [3, 1, 2], wait=True)

    assert status.status == t.status("COMPLETED")
    assert [from_value(result.output) for result in status.results] == [6, 2, 4]


async def test_57_the_end_of_the_wait_is_no_failure(client: Any, t: Any) -> None:
    status = await submit(client, await client.store(t.one("/here/hang")), [1], wait=True, timeout_secs=0)

    assert status.status == t.status("RUNNING")
    assert [result.status for result in status.results] == [t.status("RUNNING")]


@pytest.mark.parametrize(
    ("root", "code"), [(UNKNOWN, "NOT_FOUND"), ("x", "INVALID_ARGUMENT"), ("", "INVALID_ARGUMENT")]
)
async def test_58_a_root_has_to_be_a_run_that_goes_on(client: Any, root: str, code: str) -> None:
    flow_id = await client.store(SAME)
    wanted = new("CreateRunRequest", flow_id=flow_id, input=[to_value(1)])
    asked = {"run_request": wanted, "root_run_id": root}

    assert await client.refused("OrchestratorService", "SubmitRun", **asked) == code


async def test_59_a_run_is_waited_for_with_its_results(client: Any, t: Any) -> None:
    status = await submit(client, await client.store(t.one("/here/double")), [3, 4])
    asked = {"run_id": status.run_id, "wait": True, "include_results": True}
    got = await client("OrchestratorService", "GetRun", **asked)

    assert [from_value(result.output) for result in got.results] == [6, 8]
    assert got.items.completed == 2


async def test_60_a_failed_item_is_no_failure_of_the_call(client: Any, t: Any) -> None:
    flow = {"steps": [], "output": {"$input": "$.there"}}
    status = await submit(client, await client.store(flow), [{"there": 1}, {}], wait=True)

    assert status.status == t.status("FAILED")
    assert from_value(status.results[0].output) == 1
    assert status.results[1].error_code != 0
    assert status.results[1].error_message


async def test_61_tasks_of_sub_runs_submit_sub_runs(client: Any, t: Any, pull: Any) -> None:
    inner = await client.store(t.one())
    outer = t.one("/builtin/eval", {"flow_id": inner, "input": 1})
    async with pull() as worker:
        run_id = await client.begin(outer)
        task = await worker.next()
        await worker.claim(task)
        root = task.context.root_run_id
        submitted = await submit(client, inner, [2], root_run_id=root)
        nested = await worker.do("deep")
        got = await client("OrchestratorService", "GetRun", run_id=submitted.run_id, wait=True, root_run_id=root)
        await client.answer(task, "shallow")
        outputs = await client.outputs(run_id)

    assert task.execute.observability.run_id != root
    assert root == run_id
    assert nested.execute.observability.run_id == submitted.run_id
    assert got.status == t.status("COMPLETED")
    assert outputs[0]["run_id"] == task.execute.observability.run_id
    assert outputs[0]["result"]["result"] == "shallow"


async def test_62_only_a_run_that_goes_on_has_an_orchestrator(client: Any, t: Any, server: Any) -> None:
    running = await client.begin(t.one("/here/hang"))
    ended = await client.begin(SAME)
    await client.results(ended)
    where = await client("TasksService", "GetOrchestratorForRun", run_id=running)
    refused = [
        await client.refused("TasksService", "GetOrchestratorForRun", run_id=id) for id in (ended, UNKNOWN, "x", "")
    ]

    assert where.orchestrator_service_url == f"127.0.0.1:{server.port}"
    assert refused == ["NOT_FOUND", "NOT_FOUND", "INVALID_ARGUMENT", "INVALID_ARGUMENT"]


# What is beyond the checklist: sub-runs below the step that submits them


async def test_a_sub_run_is_submitted_below_the_step_that_its_worker_names(client: Any, t: Any, pull: Any) -> None:
    flow_id = await client.store(t.one("/here/double"))
    async with pull() as worker:
        run_id = await client.begin(t.one(), max_concurrency=1)
        task = await worker.next()
        named = (("stepflow-parent", f"{run_id}/0/0"),)
        asked = {"metadata": named, "wait": True, "subflow_key": "k", "root_run_id": run_id}
        first = await submit(client, flow_id, [4], **asked)
        again = await submit(client, flow_id, [4], **asked)
        listed = (await client("RunsService", "ListRuns", parent_run_id=run_id)).runs
        tree = (await client("RunsService", "ListRuns", root_run_id=run_id)).runs
        await client.answer(task, 1)
        await client.results(run_id)
        events = await client.all("RunsService", "GetRunEvents", run_id=run_id, include_sub_runs=True)

    assert from_value(first.results[0].output) == 8
    assert again.run_id == first.run_id
    assert (first.root_run_id, first.parent_run_id) == (run_id, run_id)
    assert [run.run_id for run in listed] == [first.run_id]
    assert {run.run_id for run in tree} == {run_id, first.run_id}
    assert [event.sub_run_created.run_id for event in events if event.HasField("sub_run_created")] == [first.run_id]


async def test_a_sub_run_is_cancelled_with_its_root(client: Any, t: Any, pull: Any) -> None:
    flow_id = await client.store(t.one("/here/hang"))
    async with pull() as worker:
        run_id = await client.begin(t.one())
        await worker.next()
        below = await submit(client, flow_id, [1], metadata=(("stepflow-parent", f"{run_id}/0/0"),))
        beside = await submit(client, flow_id, [1], root_run_id=run_id)
        await client("RunsService", "CancelRun", run_id=run_id)
        ends = [
            (await client("RunsService", "GetRun", run_id=each.run_id, wait=True)).summary for each in (below, beside)
        ]

    assert [end.status for end in ends] == [t.status("CANCELLED")] * 2
    assert [end.root_run_id for end in ends] == [run_id, beside.run_id]


@pytest.mark.parametrize(
    ("parent", "code"),
    [
        ("{run}/0/7", "FAILED_PRECONDITION"),
        (f"{UNKNOWN}/0/0", "NOT_FOUND"),
        ("{run}", "INVALID_ARGUMENT"),
        ("x/0/0", "INVALID_ARGUMENT"),
        ("{run}/-1/0", "INVALID_ARGUMENT"),
    ],
)
async def test_only_a_step_under_way_has_sub_runs(client: Any, t: Any, parent: str, code: str) -> None:
    run_id = await client.begin(t.one("/here/hang"))
    wanted = new("CreateRunRequest", flow_id=await client.store(SAME), input=[to_value(1)])
    request = new("OrchestratorSubmitRunRequest", run_request=wanted)
    named = (("stepflow-parent", parent.format(run=run_id)),)

    with pytest.raises(Exception, match=code):
        await client("OrchestratorService", "SubmitRun", request, metadata=named)


async def test_the_same_key_below_a_root_is_the_same_run(client: Any, t: Any) -> None:
    run_id = await client.begin(t.one("/here/hang"))
    flow_id = await client.store(SAME)
    ids = [(await submit(client, flow_id, [1], root_run_id=run_id, subflow_key=key)).run_id for key in ("a", "a", "b")]

    assert ids[0] == ids[1] != ids[2]


async def test_a_key_without_a_root_names_no_run(client: Any) -> None:
    flow_id = await client.store(SAME)

    first, second = [(await submit(client, flow_id, [1], subflow_key="a")).run_id for _ in range(2)]

    assert first != second
