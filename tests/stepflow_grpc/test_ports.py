"""A server that listens to the network says what is missing."""

import logging
from typing import Any

import pytest

from stepflow.engine import Engine
from stepflow_grpc.doors.guard import FixedTokens
from stepflow_grpc.server import Server
from stepflow_grpc.serving.command import _announcement

pytestmark = pytest.mark.anyio


async def warnings_of(engine: Engine, caplog: pytest.LogCaptureFixture, **options: Any) -> list[str]:
    with caplog.at_level(logging.WARNING, "stepflow.server"):
        async with Server(engine, port=0, **options) as server:
            return [record.message.replace(str(server.port), "PORT") for record in caplog.records]


async def test_a_server_of_this_machine_alone_warns_of_nothing(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    assert await warnings_of(engine, caplog) == []


async def test_a_server_without_a_token_warns_loudly(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    open_to_all, in_clear = await warnings_of(engine, caplog, host="0.0.0.0")

    assert open_to_all.startswith("EVERYBODY who reaches 0.0.0.0:PORT may run flows, take tasks and read blobs")
    assert in_clear == "what goes through 0.0.0.0:PORT can be read on its way: give --tls-cert FILE and --tls-key FILE"


async def test_a_token_in_clear_is_warned_of(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    (in_clear,) = await warnings_of(engine, caplog, host="0.0.0.0", tokens=FixedTokens(["secret-word"]))

    assert "the tokens too" in in_clear
    assert "secret-word" not in in_clear


async def test_launchers_find_the_port_whether_or_not_http_has_its_own(engine: Engine) -> None:
    async with Server(engine, port=0) as server:
        assert _announcement(server) == f'{{"port":{server.port}}}\n'
    async with Server(engine, port=0, http_port=0) as server:
        assert _announcement(server) == f'{{"port":{server.port},"httpPort":{server.http_port}}}\n'
