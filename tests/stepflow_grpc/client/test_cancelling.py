"""A client whose wait a scope cancels while the server says nothing."""

import asyncio
from typing import Any

import anyio
import pytest

from stepflow.engine import Engine
from stepflow_grpc.client.calls import Exchange
from stepflow_grpc.client.client import Client

pytestmark = pytest.mark.anyio


async def forever(*asked: Any, **options: Any) -> Any:
    await anyio.sleep_forever()


async def test_a_batch_that_waits_for_the_server_can_be_left(
    ours: Client, engine: Engine, flows: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "submit", forever)
    reads, read = anyio.Event(), Exchange.read

    async def read_and_tell(exchange: Exchange) -> Any:
        asyncio.get_running_loop().call_later(0.1, reads.set)  # once the call is on its way
        return await read(exchange)

    monkeypatch.setattr(Exchange, "read", read_and_tell)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_after, reads, scope := anyio.CancelScope())
        with scope:
            await ours.submit(flows["same"], [1])

    assert scope.cancelled_caught


async def _cancel_after(event: anyio.Event, scope: anyio.CancelScope) -> None:
    with anyio.fail_after(120):
        await event.wait()
    scope.cancel()
