"""A client whose connection breaks, and whose server goes away and comes back."""

from typing import Any

import pytest

from stepflow.records import RunStatus
from stepflow_grpc.client.errors import ServerUnavailableError

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["ours", "reference"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("order", ["item", "completion"])
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
