"""A queue that is too long turns submitters away, and only those that need it."""

from typing import Any

import anyio
import grpc
import grpc.aio
import pytest

from stepflow.config import open_engine
from stepflow_grpc.details import read_details
from stepflow_grpc.server import Server
from stepflow_grpc.wire import to_struct, to_value

pytestmark = pytest.mark.anyio

CONFIG = {
    "plugins": {
        "builtin": {"type": "builtin"},
        "short": {"type": "grpc", "queueName": "short", "maxQueueLength": 2},
        "long": {"type": "grpc", "queueName": "long"},
    },
    "routes": {
        "/short/{*component}": [{"plugin": "short"}],
        "/other/{*component}": [{"plugin": "short", "queueName": "other"}],
        "/long/{*component}": [{"plugin": "long"}],
    },
}


async def stored(calls: Any, component: str) -> str:
    flow = {"steps": [{"id": "s", "component": component, "input": None}], "output": {"$step": "s"}}
    return (await calls("FlowsService", "StoreFlow", flow=to_struct(flow))).flow_id


async def refused(calls: Any, service: str, name: str, **fields: Any) -> tuple[grpc.aio.AioRpcError, list[Any]]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await calls(service, name, **fields)
    return raised.value, read_details(raised.value.trailing_metadata())


async def test_submitters_to_a_full_queue_are_told_when_to_come_again(call: Any) -> None:
    async with (
        open_engine(CONFIG) as engine,
        Server(engine, port=0) as server,
        call(server.port) as calls,
    ):
        short, other, long = [await stored(calls, path) for path in ("/short/x", "/other/x", "/long/x")]
        await calls("RunsService", "CreateRun", flow_id=short, input=[to_value(n) for n in range(3)])
        with anyio.fail_after(60):
            while server._hub.queues.full("short") is None:
                await anyio.sleep(0.01)

        error, details = await refused(calls, "RunsService", "CreateRun", flow_id=short, input=[to_value(1)])
        by_worker, _ = await refused(
            calls, "OrchestratorService", "SubmitRun", run_request={"flow_id": short, "input": [to_value(1)]}
        )
        elsewhere = [
            (await calls("RunsService", "CreateRun", flow_id=flow, input=[to_value(1)])).summary.run_id
            for flow in (other, long)
        ]

    assert error.code() is by_worker.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "queue 'short' is full (3 tasks wait, the limit is 2): try again in" in (error.details() or "")
    assert (details[0].reason, details[0].metadata["queue"]) == ("QUEUE_FULL", "short")
    assert details[1].retry_delay.seconds >= 1
    assert [int(value) >= 1 for key, value in error.trailing_metadata() or () if key == "retry-after"] == [True]
    assert all(elsewhere)
