"""A client whose connection breaks, and whose server goes away and comes back."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from anyio import wait_all_tasks_blocked

from stepflow.records import RunStatus
from stepflow_grpc.client.errors import CallTimeoutError, ServerUnavailableError
from stepflow_grpc.client.records import EventKind
from stepflow_grpc.server import Server

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["ours", "reference"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(("kind", "order"), [("ours", "item"), ("ours", "completion"), ("reference", "item")])
async def test_results_go_on_where_the_connection_broke(
    proxy: Any, connect: Any, kind: str, order: str, flows: Any, gate: Any
) -> None:
    async with connect(proxy.port, kind) as client:
        run = await client.submit(flows["gated"], [0, 1, 2, 3])
        results = run.results(order=order)
        gate.open(0, 1)
        found = [(await anext(results)).output for _ in range(2)]

        proxy.cut()
        gate.open(2, 3)
        found += [result.output async for result in results]

    assert sorted(found) == [0, 1, 2, 3]
    assert len(found) == 4


async def test_events_go_on_where_the_connection_broke(proxy: Any, connect: Any, flows: Any, gate: Any) -> None:
    async with connect(proxy.port, "ours") as client:
        run = await client.submit(flows["gated"], [0, 1])
        events = run.events()
        found = [await anext(events) for _ in range(2)]

        proxy.cut()
        gate.open(0, 1)
        found += [event async for event in events]

        assert found == [event async for event in run.events()]


async def test_a_server_that_comes_back_is_waited_for(proxy: Any, connect: Any, flows: Any, gate: Any) -> None:
    async with connect(proxy.port, "ours") as client:
        run = await client.submit(flows["gated"], [0])
        await proxy.close()
        gate.open(0)
        await proxy.open()

        assert (await run.wait()).status is RunStatus.COMPLETED


async def test_a_server_that_stays_away_is_given_up(proxy: Any, connect: Any, kind: str, flows: Any) -> None:
    async with connect(proxy.port, kind, patience_s=0.3) as client:
        run = await client.submit(flows["gated"], [0])
        await proxy.close()

        for ask in (run.record, run.wait, lambda: anext(run.results()), lambda: anext(run.events())):
            with pytest.raises(ServerUnavailableError, match=f"no server answers at 127.0.0.1:{proxy.port}"):
                await ask()


async def test_a_submission_without_a_key_is_not_repeated(proxy: Any, connect: Any, flows: Any, engine: Any) -> None:
    async with connect(proxy.port, "ours") as client:
        stored = await client.store_flow(flows["double"])
        await proxy.close()
        submission = client.submit(stored.id, [{"n": 1}])

        with pytest.raises(ServerUnavailableError):
            await submission

    assert await engine.list_runs() == []


async def test_a_call_to_a_server_that_does_not_answer_can_be_left_and_has_a_deadline(connect: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with connect(port, "ours", timeout_s=0.1) as client:
            with pytest.raises(CallTimeoutError, match=f"127.0.0.1:{port} did not answer HealthCheck in time"):
                await client.health()
        async with connect(port, "ours") as client:
            with anyio.move_on_after(0.05) as scope:
                await client.health()

    assert scope.cancelled_caught


class Cut(list[Any]):
    """Inputs in whose midst the connection breaks, once."""

    def __init__(self, proxy: Any) -> None:
        super().__init__({"n": n, "text": "x" * 1_000} for n in range(4_000))
        self._proxy = proxy
        self._is_whole = True

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            if index == 2_000 and self._is_whole:
                self._is_whole = False
                self._proxy.cut()
            yield self[index]


async def test_a_submission_that_broke_is_repeated_under_its_key(proxy: Any, connect: Any, flows: Any) -> None:
    async with connect(proxy.port, "ours") as client:
        run = await client.submit(flows["double"], Cut(proxy), key="nightly")

        assert [result.output for result in [result async for result in run.results()]] == [*range(0, 8_000, 2)]
        assert len(await client.list_runs()) == 1


async def test_a_submission_that_broke_without_a_key_has_started_nothing(
    proxy: Any, connect: Any, flows: Any, engine: Any
) -> None:
    async with connect(proxy.port, "ours") as client:
        with pytest.raises(ServerUnavailableError):
            await client.submit(flows["double"], Cut(proxy))

    assert await engine.list_runs() == []


async def test_a_run_is_followed_through_a_restart_of_its_server(
    engine: Any, connect: Any, flows: Any, gate: Any, free_port: int
) -> None:
    async with connect(free_port, "ours") as client:
        async with Server(engine, port=free_port):
            run = await client.submit(flows["gated"], [0, 1])
            gate.open(0)
            results = run.results()
            found = [(await anext(results)).output]
            rest = asyncio.create_task(anext(results))
            told = asyncio.create_task(all_of(run.events()))
            await wait_all_tasks_blocked()
        async with Server(engine, port=free_port):
            gate.open(1)
            found.append((await rest).output)
            events = await told

    assert found == [0, 1]
    assert [event.item for event in events if event.kind is EventKind.ITEM_COMPLETED] == [0, 1]


async def all_of(events: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in events]
