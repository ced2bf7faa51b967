"""One port that speaks gRPC and HTTP/1.1, and closes in an orderly way."""

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

import anyio.to_thread
import grpc
import grpc.aio
import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow_grpc.ports import ServerError
from stepflow_grpc.server import Server

pytestmark = pytest.mark.anyio


def fetch(port: int, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


async def test_both_protocols_are_spoken_on_one_port(server: Server, calls: Any) -> None:
    by_http = await anyio.to_thread.run_sync(fetch, server.port, "/api/v1/health")
    by_grpc = await calls("HealthService", "HealthCheck")

    assert by_http[0] == 200
    assert by_http[1]["status"] == by_grpc.status == "healthy"


async def test_what_http_does_not_know_is_not_found(server: Server) -> None:
    status, body = await anyio.to_thread.run_sync(fetch, server.port, "/nowhere")

    assert (status, body["error"]["code"]) == (404, 404)


async def test_a_connection_serves_several_requests(server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    answers = []
    for _ in range(3):
        writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        answers.append((head.split()[1], len(await reader.readexactly(length)) == length))
    writer.close()

    assert answers == [(b"200", True)] * 3


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"GET\r\n\r\n", b"PRI * HTTP/9\r\n\r\n" + b"x" * 50])
async def test_garbage_is_answered_or_closed_and_harms_nobody(server: Server, calls: Any, garbage: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(garbage)
    writer.write_eof()
    with anyio.fail_after(60):
        said = await reader.read()
    writer.close()

    assert said == b"" or said.startswith(b"HTTP/1.1 400")
    assert (await calls("HealthService", "HealthCheck")).status == "healthy"


async def test_a_method_that_nobody_serves_is_unimplemented(calls: Any) -> None:
    stub = calls._channel.unary_unary("/stepflow.v1.TasksService/Nothing")

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await stub(b"")

    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_port_that_is_taken_is_said(server: Server, engine: Engine) -> None:
    said = f"port {server.port} of 127.0.0.1 can't be had: address already in use; take another with --port"

    with pytest.raises(ServerError, match=said):
        async with Server(engine, port=server.port):
            pass


async def test_a_server_that_closes_takes_no_more_and_ends_though_a_stream_is_open(call: Any) -> None:
    app = Components()

    @app.component("/wait")
    async def wait(input: Any) -> None:
        await anyio.sleep_forever()

    flow = {"steps": [{"id": "w", "component": "/wait", "input": None}], "output": {"$step": "w"}}
    async with Engine(app) as engine:
        run = await engine.submit(flow, [1])
        with anyio.fail_after(60):
            async with Server(engine, port=0) as server, call(server.port) as calls:
                stream = asyncio.ensure_future(calls.all("RunsService", "GetRunEvents", run_id=run.id))
                await calls("HealthService", "HealthCheck")
                await server._doors.close(0.1)
                with pytest.raises(Exception, match=r"UNAVAILABLE|CANCELLED"):
                    await stream
