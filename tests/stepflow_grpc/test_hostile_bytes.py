"""Whatever comes in through the port, the server goes on, and keeps nothing of it."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from typing import Any

import anyio
import grpc
import grpc.aio
import pytest
from hostile import NEVER, Hostile, all_methods, call, send

from stepflow.components import Components
from stepflow.config import open_engine
from stepflow.engine import Engine
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.messages import message
from stepflow_grpc.server import Server
from stepflow_grpc.wire import to_struct, to_value

pytestmark = pytest.mark.anyio

CONFIG = {
    "plugins": {"builtin": {"type": "builtin"}, "queue": {"type": "grpc", "queueName": "gpu"}},
    "routes": {"/q/{*component}": [{"plugin": "queue"}]},
}
FLOW = {"steps": [{"id": "e", "component": "/app/echo", "input": {"$input": "$"}}], "output": {"$step": "e"}}
HEALTH = "/grpc.health.v1.Health/Check"
LONG = [pytest.param(40, marks=pytest.mark.slow)]


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    app = Components()
    app.component("/echo")(echo)
    async with open_engine(CONFIG, components={"/app": app}) as opened:
        yield opened


async def echo(input: Any) -> Any:
    return input


@pytest.fixture
async def server(engine: Engine) -> AsyncIterator[Server]:
    async with Server(engine, port=0, limits=Limits(greeting_s=0.5, keepalive_s=1.0, keepalive_answer_s=1.0)) as opened:
        yield opened


@pytest.fixture
async def words(calls: Any) -> list[str]:
    """What means something here: a run that has ended, its flow, a queue."""
    flow = (await calls("FlowsService", "StoreFlow", flow=to_struct(FLOW))).flow_id
    run = await calls("RunsService", "CreateRun", flow_id=flow, input=[to_value(1)], wait=True)
    return [flow, run.summary.run_id, "gpu", "/app/echo"]


def opened(server: Server) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=[("grpc.use_local_subchannel_pool", 1)])


async def is_well(server: Server) -> bool:
    """A stranger's probe is answered."""
    response = message("grpc.health.v1.HealthCheckResponse")
    async with opened(server) as channel:
        return bool(response.FromString(await channel.unary_unary(HEALTH)(b"", timeout=60)).status == 1)


def census(server: Server) -> dict[str, int]:
    """What a caller could leave behind."""
    queues = server._hub.queues
    return {
        "tasks": len(asyncio.all_tasks()),
        "files": len(os.listdir("/proc/self/fd")),
        "connections": server._doors._fronts[0].connections,
        "bytes": server._gate.held_bytes,
        "streams": sum(statistics.workers for statistics in queues.statistics()),
        "queues": len(queues.statistics()),
    }


async def as_before(server: Server, before: dict[str, int]) -> dict[str, int]:
    """The census once all is gone that was not there before, or after a while."""
    now = census(server)
    for _ in range(400):
        if all(now[name] <= count for name, count in before.items()):
            return before
        await anyio.sleep(0.05)
        gc.collect()
        now = census(server)
    return now


@pytest.mark.parametrize("rounds", [1, *LONG])
async def test_bytes_of_any_kind_leave_nothing(server: Server, rounds: int) -> None:
    hostile = Hostile(rounds, [])
    assert await is_well(server)
    before = await as_before(server, census(server) | {"connections": 0})

    for _ in range(rounds):
        said = [draw() for draw in (hostile.noise, hostile.http, hostile.http_2) for _ in range(12)]
        await asyncio.gather(*(send(server.port, bytes_) for bytes_ in said))
        await asyncio.gather(*(send(server.port, bytes_[:9], bytes_[9:], pause_s=0.01) for bytes_ in said))
        assert await is_well(server)

    assert await as_before(server, before) == before


@pytest.mark.parametrize("rounds", [1, *LONG])
async def test_requests_of_any_content_are_answered_in_the_protocols_words(
    server: Server, words: list[str], rounds: int
) -> None:
    hostile = Hostile(1_000 + rounds, words)
    await is_well(server)
    before = await as_before(server, census(server) | {"connections": 1})

    for _ in range(rounds):
        async with opened(server) as channel:
            for method in all_methods():
                bodies = [[hostile.body(method) for _ in range(3 if method.takes_stream else 1)] for _ in range(4)]
                codes = await asyncio.gather(*(call(channel, method, each, 0.5) for each in bodies))
                for code, sent in zip(codes, bodies, strict=True):
                    assert code[0] not in NEVER, (code, method.path, sent)
        assert await is_well(server)

    assert await as_before(server, before) == before


@pytest.mark.parametrize("rounds", [1, *LONG])
async def test_frames_of_any_content_end_only_their_own_stream(server: Server, words: list[str], rounds: int) -> None:
    hostile = Hostile(2_000 + rounds, [*words, "gpu", "gpu", "w1"])
    method = next(method for method in all_methods() if method.path.endswith("WorkService/Connect"))
    hello = method.request(json=b'{"hello":{"worker_id":"w1","queue":"gpu"},"credit":5}').SerializeToString()
    await is_well(server)
    before = await as_before(server, census(server) | {"connections": 1, "streams": 0})

    for _ in range(rounds):
        async with opened(server) as channel:
            for _ in range(8):
                sent = [
                    [hello, *(method.request(json=hostile.frame()).SerializeToString() for _ in range(5))]
                    for _ in range(5)
                ]
                codes = await asyncio.gather(*(call(channel, method, each, 0.5) for each in sent))
                for code, each in zip(codes, sent, strict=True):
                    assert code[0] not in NEVER, (code, each)
        assert await is_well(server)

    assert await as_before(server, before) == before


@pytest.mark.slow
async def test_memory_does_not_grow_with_what_strangers_send(server: Server, words: list[str]) -> None:
    hostile = Hostile(7, words)

    async def flood(rounds: int) -> int:
        for _ in range(rounds):
            said = [hostile.http() for _ in range(50)] + [hostile.http_2() for _ in range(50)]
            await asyncio.gather(*(send(server.port, bytes_) for bytes_ in said))
            async with opened(server) as channel:
                for method in all_methods():
                    if "Store" not in method.path and "Put" not in method.path and "Submit" not in method.path:
                        await call(channel, method, [hostile.body(method)], 0.2)
        gc.collect()
        return resident()

    first = await flood(10)
    last = await flood(30)

    assert last - first < 30 * 1024 * 1024


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
