"""Callers without a token are turned away, but probes are not."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import grpc
import grpc.aio
import pytest

from stepflow.engine import Engine
from stepflow_grpc.address import read_address
from stepflow_grpc.channel import open_channel, open_sync_channel
from stepflow_grpc.credentials import Credentials, TokenFile
from stepflow_grpc.details import read_details
from stepflow_grpc.doors.guard import FixedTokens, refusal
from stepflow_grpc.messages import WORK_PACKAGE, methods, new
from stepflow_grpc.server import Server

pytestmark = pytest.mark.anyio

TOKEN = "correct-horse-battery"


@pytest.fixture
async def server(engine: Engine) -> AsyncIterator[Server]:
    async with Server(engine, port=0, tokens=FixedTokens([TOKEN, "the-next-one"])) as opened:
        yield opened


def opened(server: Server, **credentials: Any) -> grpc.aio.Channel:
    return open_channel(read_address(f"127.0.0.1:{server.port}"), Credentials(**credentials))


async def ask(channel: Any, service: str, name: str, package: str = "stepflow.v1") -> Any:
    method = methods(service, package)[name]
    call = channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
    return await call(method.request(), timeout=60)


@pytest.mark.parametrize("token", [TOKEN, "the-next-one"])
async def test_each_of_the_tokens_lets_in(server: Server, token: str) -> None:
    async with opened(server, token=token) as channel:
        assert list((await ask(channel, "RunsService", "ListRuns")).runs) == []


@pytest.mark.parametrize(("token", "reason"), [(None, "TOKEN_MISSING"), ("correct-horse", "TOKEN_INVALID")])
async def test_without_one_of_them_nobody_gets_in(server: Server, token: str | None, reason: str) -> None:
    async with opened(server, token=token) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(channel, "RunsService", "ListRuns")

    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert [detail.reason for detail in read_details(raised.value.trailing_metadata())] == [reason]
    assert TOKEN not in (raised.value.details() or "")


@pytest.mark.parametrize(
    ("service", "name", "package"),
    [
        ("TasksService", "PullTasks", "stepflow.v1"),
        ("WorkService", "Connect", WORK_PACKAGE),
        ("ServerReflection", "ServerReflectionInfo", "grpc.reflection.v1"),
    ],
)
async def test_streams_are_guarded_too(server: Server, service: str, name: str, package: str) -> None:
    method = methods(service, package)[name]

    async with opened(server) as channel:
        call = channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()

    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_probes_need_no_token(server: Server) -> None:
    async with opened(server) as channel:
        assert (await ask(channel, "Health", "Check", "grpc.health.v1")).status == 1
        assert (await ask(channel, "HealthService", "HealthCheck")).status == "healthy"


async def test_threads_and_streams_show_the_token_of_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    events = methods("RunsService")["GetRunEvents"]
    list_runs = methods("RunsService")["ListRuns"]

    def listed() -> Any:
        address = read_address(f"127.0.0.1:{server.port}")
        with open_sync_channel(address, Credentials(token_file=str(tmp_path / "token"))) as channel:
            call = channel.unary_unary(
                list_runs.path, list_runs.request.SerializeToString, list_runs.response.FromString
            )
            return call.with_call(new("ListRunsRequest"), timeout=60)[0]

    assert list((await anyio.to_thread.run_sync(listed)).runs) == []
    async with opened(server, token_file=str(tmp_path / "token")) as channel:
        call = channel.unary_stream(events.path, events.request.SerializeToString, events.response.FromString)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(new("GetRunEventsRequest", run_id="0" * 32)).read()
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_token_is_taken_and_another_withdrawn_while_the_server_runs(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("old\n")

    async with (
        Server(engine, port=0, tokens=TokenFile(str(file))) as server,
        opened(server, token="old") as old,
        opened(server, token="the-new") as following,
    ):
        await ask(old, "RunsService", "ListRuns")
        file.write_text("the-new\n")
        await ask(following, "RunsService", "ListRuns")
        with pytest.raises(grpc.aio.AioRpcError, match="UNAUTHENTICATED"):
            await ask(old, "RunsService", "ListRuns")


@pytest.mark.parametrize("shown", [f"bearer {TOKEN}", f"BEARER {TOKEN}", f"Bearer {TOKEN}".encode()])
def test_the_scheme_is_read_in_any_case(shown: str | bytes) -> None:
    assert refusal(shown, FixedTokens([TOKEN])) is None


@pytest.mark.parametrize("shown", ["", TOKEN, f"Basic {TOKEN}", f"Bearer  {TOKEN}", "Bearer \udcff", "Bearer "])
def test_anything_else_is_no_token(shown: str) -> None:
    assert refusal(shown, FixedTokens([TOKEN])) is not None


async def test_http_asks_for_the_token_too_but_for_its_probes(server: Server) -> None:
    answers = []
    for path, more in (("/health", ""), ("/runs", ""), ("/runs", f"authorization: Bearer {TOKEN}\r\n")):
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        async with stream:
            await stream.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n".encode())
            answers.append((await stream.receive()).split()[1])

    assert answers == [b"200", b"401", b"404"]
