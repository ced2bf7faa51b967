"""Certificates on both sides, replaced while the server runs."""

import asyncio
import http.client
import json
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import anyio.to_thread
import grpc
import grpc.aio
import pytest

pytest.importorskip("cryptography")

from certificate_authority import Authority
from hostile import Hostile, send

from stepflow.engine import Engine
from stepflow_grpc.address import read_address
from stepflow_grpc.channel import open_channel, open_sync_channel
from stepflow_grpc.credentials import Credentials, CredentialsError
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.doors.tls import TlsFiles
from stepflow_grpc.messages import methods, new
from stepflow_grpc.server import Server

pytestmark = pytest.mark.anyio

Open = Callable[..., AbstractAsyncContextManager[Server]]
LIST = methods("RunsService")["ListRuns"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    cert, key = authority.sign("server")
    return TlsFiles(cert=cert, key=key)


@pytest.fixture
def open_server(engine: Engine) -> Open:
    @asynccontextmanager
    async def opened(files: TlsFiles) -> AsyncIterator[Server]:
        async with Server(engine, host="localhost", port=0, http_port=0, tls=files) as server:
            yield server

    return opened


async def listed(server: Server, credentials: Credentials) -> Any:
    address = read_address(f"https://localhost:{server.port}")
    async with open_channel(address, credentials) as channel:
        call = channel.unary_unary(LIST.path, LIST.request.SerializeToString, LIST.response.FromString)
        return await call(new("ListRunsRequest"), timeout=60)


async def test_a_client_that_trusts_the_authority_is_answered(
    authority: Authority, files: TlsFiles, open_server: Open
) -> None:
    async with open_server(files) as server:
        assert list((await listed(server, Credentials(ca=authority.ca))).runs) == []
        assert server._doors.url == f"https://localhost:{server.port}"


async def test_a_client_that_does_not_is_told_what_is_wrong(files: TlsFiles, open_server: Open) -> None:
    async with open_server(files) as server:
        with pytest.raises(grpc.aio.AioRpcError, match="CERTIFICATE_VERIFY_FAILED"):
            await listed(server, Credentials())


async def test_threads_speak_tls_too(authority: Authority, files: TlsFiles, open_server: Open) -> None:
    def ask(port: int) -> Any:
        with open_sync_channel(read_address(f"https://localhost:{port}"), Credentials(ca=authority.ca)) as channel:
            call = channel.unary_unary(LIST.path, LIST.request.SerializeToString, LIST.response.FromString)
            return call(new("ListRunsRequest"), timeout=60)

    async with open_server(files) as server:
        assert list((await anyio.to_thread.run_sync(ask, server.port)).runs) == []


async def test_only_clients_of_the_right_authority_come_in(
    authority: Authority, files: TlsFiles, open_server: Open, tmp_path: Path
) -> None:
    cert, key = authority.sign("client")
    (tmp_path / "other").mkdir()
    other_cert, other_key = Authority(tmp_path / "other").sign("client")
    closed = TlsFiles(cert=files.cert, key=files.key, client_ca=authority.ca)

    async with open_server(closed) as server:
        assert await listed(server, Credentials(ca=authority.ca, cert=cert, key=key)) is not None
        for stranger in (
            Credentials(ca=authority.ca),
            Credentials(ca=authority.ca, cert=other_cert, key=other_key),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await listed(server, stranger)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_that_is_replaced_is_shown_to_the_next_connection(
    authority: Authority, files: TlsFiles, open_server: Open, tmp_path: Path
) -> None:
    (tmp_path / "next").mkdir()
    following = Authority(tmp_path / "next", "following")
    cert, key = following.sign("server")

    async with open_server(files) as server:
        await listed(server, Credentials(ca=authority.ca))
        await fetched(server, authority.ca)
        shutil.copy(cert, files.cert)  # for a moment, it has the key of another
        await listed(server, Credentials(ca=authority.ca))
        shutil.copy(key, files.key)

        assert await listed(server, Credentials(ca=following.ca)) is not None
        assert (await fetched(server, following.ca))[0] == 200
        with pytest.raises(grpc.aio.AioRpcError, match="CERTIFICATE_VERIFY_FAILED"):
            await listed(server, Credentials(ca=authority.ca))


async def fetched(server: Server, ca: str) -> tuple[int, Any]:
    assert server.http_port is not None
    return await anyio.to_thread.run_sync(_fetch, server.http_port, ca)


def _fetch(port: int, ca: str) -> tuple[int, Any]:
    connection = http.client.HTTPSConnection(
        "localhost", port, timeout=60, context=ssl.create_default_context(cafile=ca)
    )
    with closing(connection):
        connection.request("GET", "/health")
        answer = connection.getresponse()
        return answer.status, json.load(answer)


async def test_probes_by_http_have_a_port_of_their_own(
    authority: Authority, files: TlsFiles, open_server: Open
) -> None:
    async with open_server(files) as server:
        status, body = await fetched(server, authority.ca)

    assert (status, body["status"]) == (200, "healthy")


async def test_a_key_of_another_certificate_is_refused_at_the_start(
    authority: Authority, files: TlsFiles, open_server: Open
) -> None:
    _, key = authority.sign("other")

    with pytest.raises(CredentialsError, match=r"server.pem and .*other.key are no certificate and its key"):
        async with open_server(TlsFiles(cert=files.cert, key=key)):
            pass


async def test_a_file_that_is_missing_is_named(files: TlsFiles, open_server: Open) -> None:
    with pytest.raises(CredentialsError, match="the key, /nowhere/key, can't be read: No such file"):
        async with open_server(TlsFiles(cert=files.cert, key="/nowhere/key")):
            pass


async def test_a_port_that_another_server_has_is_not_shared(files: TlsFiles, open_server: Open, engine: Engine) -> None:
    async with open_server(files) as server:
        with pytest.raises(Exception, match=f"port {server.port} of localhost can't be had: .*--port"):
            async with Server(engine, host="localhost", port=server.port, tls=files):
                pass


async def test_garbage_at_both_ports_harms_nobody(authority: Authority, files: TlsFiles, open_server: Open) -> None:
    hostile = Hostile(3, [])

    async with open_server(files) as server:
        assert server.http_port is not None
        for port in (server.port, server.http_port):
            said = [draw() for draw in (hostile.noise, hostile.http, hostile.http_2) for _ in range(8)]
            said += [b"\x16\x03\x01\x02\x00\x01" + hostile.noise(), b"\x16\x03\x01"]  # greetings of TLS that break off
            await asyncio.gather(*(send(port, each) for each in said))

        assert await listed(server, Credentials(ca=authority.ca)) is not None
        assert (await fetched(server, authority.ca))[0] == 200


async def test_connections_are_limited_with_tls_too(engine: Engine, authority: Authority, files: TlsFiles) -> None:
    async with Server(engine, port=0, tls=files, limits=Limits(connections=2)) as server:
        where = read_address(f"https://127.0.0.1:{server.port}")
        async with AsyncExitStack() as stack:
            answered = 0
            for _ in range(4):
                channel = await stack.enter_async_context(open_channel(where, Credentials(ca=authority.ca)))
                call = channel.unary_unary(LIST.path, LIST.request.SerializeToString, LIST.response.FromString)
                with suppress(grpc.aio.AioRpcError):
                    await call(new("ListRunsRequest"), timeout=60)
                    answered += 1

    assert answered == 2
