"""A client of a server: what is submitted, what comes back, and what is refused in which words."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import stepflow
from stepflow.errors import (
    AmbiguousRunError,
    BlobNotFoundError,
    EngineClosedError,
    FlowInvalidError,
    InputInvalidError,
    RunActiveError,
    RunFailedError,
    RunNotFoundError,
)
from stepflow.records import BlobType, ErrorCode, RunStatus
from stepflow_grpc.client.client import Client
from stepflow_grpc.client.errors import (
    CallFailedError,
    FlowNotFoundError,
    NotServedError,
    ServerBusyError,
    ServerUnavailableError,
    TooLargeError,
)
from stepflow_grpc.client.records import EventKind
from stepflow_grpc.refusals import CallError, Code

pytestmark = pytest.mark.anyio

NOBODY = "0199aaaa-0000-7000-8000-000000000000"


async def test_a_flow_is_run_for_one_input(client: Client, flows: Any) -> None:
    assert await client.run(flows["double"], {"n": 21}) == 42


async def test_a_failure_is_raised_with_its_step_and_run(client: Client, flows: Any) -> None:
    with pytest.raises(RunFailedError, match="it is negative") as raised:
        await client.run(flows["double"], {"n": -1})

    assert (raised.value.code, raised.value.step) == (ErrorCode.COMPONENT_FAILED, "d")
    assert (await client.get(raised.value.run_id)).status is RunStatus.FAILED


async def test_a_flow_may_be_a_path_a_document_a_flow_or_an_id(ours: Client, flows: Any, tmp_path: Path) -> None:
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(flows["double"]))
    flow = stepflow.read_flow(path)
    id = (await ours.store_flow(flow)).id

    given = (path, str(path), flows["double"], flow, id)

    assert [await ours.run(each, {"n": 3}) for each in given] == [6] * 5


async def test_variables_and_overrides_take_effect(client: Client, flows: Any) -> None:
    overrides = {"steps": {"d": {"value": {"input": {"n": 100}}}}}

    assert await client.run(flows["double"], {"n": 1}, variables={"times": 3}, overrides=overrides) == 300


async def test_results_come_in_the_order_of_inputs_or_of_their_ends(client: Client, flows: Any, gate: Any) -> None:
    run = await client.submit(flows["gated"], [0, 1, 2])
    by_end = run.results(order="completion")
    gate.open(2)
    first = await anext(by_end)
    gate.open(0, 1)

    in_order = [result.output async for result in run.results()]
    rest = [result.output async for result in by_end]

    assert first.index == first.output == 2
    assert in_order == [0, 1, 2]
    assert sorted(rest) == [0, 1]


async def test_results_are_there_before_the_run_has_ended(ours: Client, flows: Any, gate: Any) -> None:
    run = await ours.submit(flows["gated"], [0, 1])
    results = run.results()
    gate.open(0)

    first = await anext(results)
    status = (await run.record()).status
    gate.open(1)

    assert (first.output, status) == (0, RunStatus.RUNNING)
    assert [result.output async for result in results] == [1]


async def test_a_batch_that_is_left_early_is_cancelled(client: Client, flows: Any, gate: Any) -> None:
    whole = [result.output async for result in client.run_batch(flows["double"], [{"n": 1}, {"n": 2}])]
    gate.open(0)
    async with aclosing(client.run_batch(flows["gated"], [0, 1])) as results:
        first = await anext(results)

    assert whole == [2, 4]
    assert first.output == 0
    assert (await client.get(await client.find_run("last"))).status is RunStatus.CANCELLED


async def test_an_order_that_is_none_is_refused(ours: Client, flows: Any) -> None:
    run = await ours.submit(flows["double"], [])

    with pytest.raises(ValueError, match="order is 'item' or 'completion'"):
        run.results(order="random")


async def test_inputs_may_be_iterated(client: Client, flows: Any) -> None:
    async def counted() -> AsyncIterator[Any]:
        for n in range(3):
            yield {"n": n}

    runs = [await client.submit(flows["double"], inputs) for inputs in (counted(), ({"n": n} for n in range(3)))]

    assert [[result.output async for result in run.results()] for run in runs] == [[0, 2, 4]] * 2


async def test_inputs_that_break_off_start_nothing(client: Client, flows: Any) -> None:
    def broken() -> Iterator[Any]:
        yield {"n": 1}
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await client.submit(flows["double"], broken())

    assert await client.list_runs() == []


async def test_an_input_that_is_no_json_is_named_and_nothing_started(client: Client, flows: Any) -> None:
    with pytest.raises(InputInvalidError, match=r"item 1: NaN is not JSON \(\$.n\)"):
        await client.submit(flows["double"], [{"n": 1}, {"n": float("nan")}])

    assert await client.list_runs() == []


@pytest.mark.parametrize("inputs", ["text", {"n": 1}, 3])
async def test_one_input_is_not_taken_for_many(ours: Client, flows: Any, inputs: Any) -> None:
    with pytest.raises(TypeError, match="one value for each item"):
        await ours.submit(flows["double"], inputs)


async def test_an_option_that_is_none_is_refused(ours: Client, flows: Any) -> None:
    with pytest.raises(TypeError, match="there is no option 'concurrency'; there are"):
        await ours.submit(flows["double"], [], concurrency=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="max_concurrency is a whole number"):
        await ours.submit(flows["double"], [], max_concurrency=0)


async def test_a_batch_of_any_length_goes_through(ours: Client, flows: Any) -> None:
    text = "x" * 600

    run = await ours.submit(flows["same"], ([n, text] for n in range(8_000)))
    found = [result.output[0] async for result in run.results()]

    assert found == list(range(8_000))


async def test_an_item_of_any_length_goes_through(ours: Client, flows: Any) -> None:
    document = {"text": 'ä"' * 1_200_000}

    assert await ours.run(flows["same"], document) == document


async def test_values_come_back_as_they_were_sent(ours: Client, flows: Any) -> None:
    value = {"z": 2**63 + 1, "a": [1.0, None, "ü"]}

    found = await ours.run(flows["same"], value)

    assert json.dumps(found) == json.dumps(value)


async def test_no_input_is_read_before_the_server_has_room(ours: Client) -> None:
    read = []

    with pytest.raises(FlowNotFoundError):
        await ours.submit("a" * 64, (read.append(n) for n in range(3)))

    assert read == []


async def test_a_batch_on_its_way_is_refused_in_the_servers_own_words(ours: Client) -> None:
    with pytest.raises(FlowNotFoundError):
        await ours.submit("a" * 64, ["x" * 1_000] * 20_000)


class Busy:
    """No room, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def check(self, flow: Any) -> None:
        self.times -= 1
        if self.times >= 0:
            raise CallError(Code.RESOURCE_EXHAUSTED, "queue 'gpu' is full", retry_after_s=0.01)


@pytest.mark.parametrize("inputs", [[{"n": 1}], iter([{"n": 1}])])
async def test_a_busy_server_is_asked_again_when_it_said(server: Any, ours: Client, flows: Any, inputs: Any) -> None:
    server._batches._room = room = Busy(2)

    run = await ours.submit(flows["double"], inputs)

    assert [result.output async for result in run.results()] == [2]
    assert room.times == -1


async def test_a_server_that_stays_busy_is_given_up(server: Any, connect: Any, flows: Any) -> None:
    server._batches._room = Busy(1_000)

    async with connect(server.port, "ours", patience_s=0.1) as client:
        with pytest.raises(ServerBusyError, match="queue 'gpu' is full"):
            await client.submit(flows["double"], [{"n": 1}])


async def test_a_batch_too_large_for_the_reference_server_is_refused_with_its_size(
    server: Any, flows: Any, connect: Any
) -> None:
    async with connect(server.port, "reference") as client:
        with pytest.raises(
            TooLargeError, match=r"the batch of 5,000 items has 4\.\d MiB, and the server takes 4.0 MiB"
        ):
            await client.submit(flows["same"], ("x" * 1_000 for _ in range(5_000)))
        with pytest.raises(TooLargeError, match="the blob has"):
            await client.put_blob(b"x" * 5_000_000, BlobType.BINARY)

        assert await client.list_runs() == []


async def test_a_key_gives_the_run_that_has_it(ours: Client, flows: Any) -> None:
    first = await ours.submit(flows["double"], [{"n": 1}], key="nightly")
    again = await ours.submit(flows["double"], [{"n": 1}], key="nightly")
    new = await ours.submit(flows["double"], [{"n": 1}], key="nightly", new=True)

    assert again.id == first.id != new.id


async def test_an_option_that_the_reference_server_lacks_is_refused(server: Any, flows: Any, connect: Any) -> None:
    async with connect(server.port, "reference") as client:
        with pytest.raises(NotServedError, match="takes no 'key' for a run: leave it out"):
            await client.submit(flows["double"], [], key="nightly")


async def test_a_run_can_be_waited_for_cancelled_and_deleted(client: Client, flows: Any, gate: Any) -> None:
    run = await client.submit(flows["gated"], [0, 1])
    with pytest.raises(RunActiveError, match=run.id):
        await run.delete()
    gate.open(0)
    await anext(run.results())

    cancelled = await client.cancel(run.id)
    waited = await run.wait()
    outcomes = [(result.index, result.error and result.error.code) async for result in run.results()]
    await client.delete(run.id)

    assert cancelled.status is waited.status is RunStatus.CANCELLED
    assert outcomes == [(0, None), (1, ErrorCode.CANCELLED)]
    with pytest.raises(RunNotFoundError, match=run.id):
        await run.record()


async def test_events_are_told_from_any_position(ours: Client, flows: Any) -> None:
    run = await ours.submit(flows["double"], [{"n": 4}])

    events = [event async for event in run.events(results=True)]
    later = [event async for event in run.events(since=events[-1].position, results=True)]

    done = next(event for event in events if event.kind is EventKind.STEP_COMPLETED)
    assert events[0].kind is EventKind.RUN_CREATED
    assert (done.item, done.step_id, done.status, done.result) == (0, "d", RunStatus.COMPLETED, 8)
    assert later == events[-1:]
    assert later[0].kind is EventKind.RUN_COMPLETED


async def test_steps_are_told_with_what_they_gave(ours: Client, flows: Any) -> None:
    run = await ours.submit(flows["double"], [{"n": 4}, {"n": -1}])
    await run.wait()

    steps = await run.steps()
    failed = await run.step("d", item=1)

    assert [(step.item, step.id, step.output) for step in steps] == [(0, "d", 8), (1, "d", None)]
    assert failed == (await run.steps(item=1))[0]
    assert failed.error is not None
    assert failed.error.message == "it is negative"
    with pytest.raises(CallFailedError, match="step 'x' not found"):
        await run.step("x")


async def test_runs_are_listed_and_found_by_the_beginning_of_their_id(ours: Client, flows: Any, gate: Any) -> None:
    done = await ours.submit(flows["double"], [{"n": 1}])
    await done.wait()
    waits = await ours.submit(flows["gated"], [0])

    assert [record.id for record in await ours.list_runs()] == [waits.id, done.id]
    assert [record.id for record in await ours.list_runs(status=RunStatus.COMPLETED)] == [done.id]
    assert [record.id for record in await ours.list_runs(flow_name="gated")] == [waits.id]
    assert [record.id for record in await ours.list_runs(limit=1, offset=1)] == [done.id]
    assert await ours.find_run("last") == waits.id
    assert await ours.find_run(done.id[:-1]) == done.id
    with pytest.raises(AmbiguousRunError):
        await ours.find_run(done.id[:4])
    with pytest.raises(RunNotFoundError):
        await ours.find_run("f")


async def test_a_flow_is_stored_and_told_again(ours: Client, flows: Any) -> None:
    stored = await ours.store_flow(flows["double"])
    checked = await ours.store_flow(flows["double"], dry_run=True)

    flow = await ours.get_flow(stored.id)
    (times,) = await ours.variables(stored.id)

    assert (stored.is_stored, checked.is_stored) == (True, False)
    assert "description" in stored.diagnostics[0].message
    assert (flow.name, [step.id for step in flow.steps]) == ("double", ["d"])
    assert (times.name, times.default, times.has_default) == ("times", 2, True)


async def test_a_flow_that_cannot_be_run_is_refused_with_the_place_in_its_file(ours: Client, tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text("steps:\n  - {id: a, component: /same, input: {$step: b}}\noutput: {$step: a}\n")

    with pytest.raises(FlowInvalidError) as raised:
        await ours.store_flow(path)
    checked = await ours.store_flow(path, dry_run=True)

    (problem,) = raised.value.problems
    assert (problem.code, problem.line) == (3003, 2)
    assert 3003 in [found.code for found in checked.diagnostics]


async def test_blobs_come_back_as_they_were_put(ours: Client) -> None:
    data = await ours.put_json({"b": [1, 2.5, None]})
    same = await ours.put_blob(b'{ "b": [1, 2.5, null] }')
    raw = await ours.put_blob(b"\x00\xff", BlobType.BINARY, filename="a.bin")

    assert same == data
    assert await ours.get_json(data) == {"b": [1, 2.5, None]}
    found = await ours.get_blob(raw)
    assert (found.content, found.type, found.filename) == (b"\x00\xff", BlobType.BINARY, "a.bin")
    with pytest.raises(InputInvalidError, match="the blob is no JSON"):
        await ours.put_blob(b"\x00")


async def test_components_are_listed(ours: Client) -> None:
    listed = {each.routes[0]: each.info for each in await ours.list_components()}

    assert listed["/times"].description == "So many times a number."


async def test_a_server_says_how_it_is(ours: Client) -> None:
    health = await ours.health()

    assert (health.is_healthy, health.takes_batches, health.version) == (True, True, stepflow.__version__)


@pytest.mark.parametrize(
    ("ask", "kind", "words"),
    [
        (lambda client: client.get(NOBODY), RunNotFoundError, NOBODY),
        (lambda client: client.get_run(NOBODY), RunNotFoundError, NOBODY),
        (lambda client: client.get("x"), InputInvalidError, "no run id"),
        (lambda client: client.get_blob("a" * 64), BlobNotFoundError, "a" * 64),
        (lambda client: client.get_flow("a" * 64), FlowNotFoundError, "store it first"),
        (lambda client: client.run("a" * 64), FlowNotFoundError, "store it first"),
    ],
)
async def test_what_is_not_there_is_said_as_the_core_says_it(ours: Client, ask: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        await ask(ours)


async def test_where_no_server_is_the_address_and_the_remedy_are_told(free_port: int) -> None:
    async with Client(f"127.0.0.1:{free_port}") as client:
        with pytest.raises(ServerUnavailableError) as raised:
            await client.health()

    assert str(raised.value) == (
        f"no server answers at 127.0.0.1:{free_port}: connection refused; "
        "start one with `stepflow serve`, or name another with --url or STEPFLOW_URL"
    )


async def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(EngineClosedError, match="the client is not open"):
        await Client("127.0.0.1:1").health()
