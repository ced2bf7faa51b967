"""The client in code that blocks."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.errors import EngineClosedError, RunFailedError
from stepflow.records import BlobType, RunStatus
from stepflow_grpc.client.blocking import SyncClient
from stepflow_grpc.client.records import EventKind
from stepflow_grpc.server import Server


@pytest.fixture
def client(app: Components) -> Iterator[SyncClient]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Engine(app)) as engine:
        server = Server(engine, port=0)
        with portal.wrap_async_context_manager(server), SyncClient(f"127.0.0.1:{server.port}") as client:
            yield client


def test_a_flow_is_run(client: SyncClient, flows: Any) -> None:
    assert client.run(flows["double"], {"n": 4}) == 8
    with pytest.raises(RunFailedError, match="it is negative"):
        client.run(flows["double"], {"n": -4})


def test_inputs_are_read_in_the_thread_of_the_caller(client: SyncClient, flows: Any) -> None:
    threads = set()

    def inputs() -> Iterator[Any]:
        for n in range(1_200):
            threads.add(threading.get_ident())
            yield {"n": n}

    run = client.submit(flows["double"], inputs())

    assert [result.output for result in run.results()] == [2 * n for n in range(1_200)]
    assert threads == {threading.get_ident()}


def test_inputs_that_break_off_start_nothing(client: SyncClient, flows: Any) -> None:
    def broken() -> Iterator[Any]:
        yield {"n": 1}
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        client.submit(flows["double"], broken())

    assert client.list_runs() == []


def test_a_batch_that_is_left_early_is_cancelled(client: SyncClient, flows: Any) -> None:
    whole = [result.output for result in client.run_batch(flows["double"], ({"n": n} for n in range(3)))]
    never = client.run_batch(flows["gated"], [-1, 0])
    first = next(never)
    never.close()  # type: ignore[attr-defined]

    assert whole == [0, 2, 4]
    assert first.output == -1
    assert client.get(client.find_run("last")).status is RunStatus.CANCELLED


def test_a_run_is_followed_and_asked_about(client: SyncClient, flows: Any) -> None:
    run = client.submit(flows["double"], [{"n": 1}, {"n": 2}])

    assert run.wait().status is RunStatus.COMPLETED
    assert [event.kind for event in run.events()][-1] is EventKind.RUN_COMPLETED
    assert [step.output for step in run.steps()] == [2, 4]
    assert client.get_run(client.find_run("last")).record() == client.get(run.id)
    assert client.list_runs(status=RunStatus.COMPLETED)[0].id == run.id
    run.delete()
    assert client.list_runs() == []


def test_flows_blobs_and_components_are_reached(client: SyncClient, flows: Any) -> None:
    stored = client.store_flow(flows["double"])
    blob = client.put_blob(b"\x00", BlobType.BINARY)

    assert client.get_flow(stored.id).name == "double"
    assert [variable.name for variable in client.variables(stored.id)] == ["times"]
    assert client.get_blob(blob).content == b"\x00"
    assert client.get_json(client.put_json([1])) == [1]
    assert client.health().is_healthy
    assert any(each.info.id.endswith("times") for each in client.list_components())


def test_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(EngineClosedError, match="the client is not open"):
        SyncClient("127.0.0.1:1").health()
