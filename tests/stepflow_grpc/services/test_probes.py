"""gRPC's own probes, and tools that ask what a server speaks."""

import asyncio
from typing import Any

import anyio
import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from stepflow.engine import Engine
from stepflow_grpc.address import read_address
from stepflow_grpc.channel import open_channel
from stepflow_grpc.credentials import Credentials
from stepflow_grpc.messages import message, methods
from stepflow_grpc.server import Server
from stepflow_grpc.services.probes import PACKAGE, Probes
from stepflow_grpc.services.reflection import PACKAGES

pytestmark = pytest.mark.anyio

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


def check(service: str = "") -> Any:
    return message(f"{PACKAGE}.HealthCheckRequest")(service=service)


def stub(channel: Any, name: str) -> Any:
    method = methods("Health", PACKAGE)[name]
    make = channel.unary_stream if method.streams else channel.unary_unary
    return make(method.path, method.request.SerializeToString, method.response.FromString)


@pytest.fixture
async def opened(server: Server) -> grpc.aio.Channel:
    return open_channel(read_address(f"127.0.0.1:{server.port}"), Credentials())


@pytest.mark.parametrize("service", ["", "stepflow.v1.TasksService", "stepflow.worker.v1.WorkService"])
async def test_a_service_that_is_served_is_well(opened: grpc.aio.Channel, service: str) -> None:
    async with opened as channel:
        assert (await stub(channel, "Check")(check(service), timeout=60)).status == SERVING


async def test_a_service_that_is_not_there_is_unknown(opened: grpc.aio.Channel) -> None:
    async with opened as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub(channel, "Check")(check("no.Such"), timeout=60)
        watched = stub(channel, "Watch")(check("no.Such"))
        assert (await watched.read()).status == SERVICE_UNKNOWN
        watched.cancel()

    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_who_watches_hears_that_the_server_closes(engine: Engine) -> None:
    told: list[int] = []

    with anyio.fail_after(60):
        async with Server(engine, port=0) as server:
            channel = open_channel(read_address(f"127.0.0.1:{server.port}"), Credentials())
            watched = aiter(stub(channel, "Watch")(check()))
            told.append((await anext(watched)).status)
        told += [update.status async for update in watched]
        await channel.close()

    assert told == [SERVING, NOT_SERVING]


async def test_a_server_that_starts_is_not_well_yet() -> None:
    probes = Probes()
    probes.know(["a.Service"])
    told: list[int] = []

    async def watch() -> None:
        async for update in probes.Watch(check("a.Service")):
            told.append(update.status)
            asked.set()

    asked = asyncio.Event()
    watching = asyncio.create_task(watch())
    await asked.wait()
    asked.clear()
    assert (await probes.Check(check())).status == NOT_SERVING
    probes.say(serves=True)
    await asked.wait()
    probes.say(serves=False, is_over=True)
    await watching

    assert told == [NOT_SERVING, SERVING, NOT_SERVING]


async def test_what_changes_while_it_is_told_how_things_were_is_told_too() -> None:
    probes = Probes()
    probes.say(serves=True)
    watched = probes.Watch(check())
    told = [(await anext(watched)).status]

    probes.say(serves=False, is_over=True)
    told += [update.status async for update in watched]

    assert told == [SERVING, NOT_SERVING]


class Tool:
    """Asks as command-line tools do: names first, then the files of what it wants to call."""

    def __init__(self, channel: Any, package: str) -> None:
        method = methods("ServerReflection", package)["ServerReflectionInfo"]
        self._call = channel.stream_stream(method.path, method.request.SerializeToString, method.response.FromString)()
        self._request = method.request

    async def ask(self, **question: Any) -> Any:
        await self._call.write(self._request(**question))
        return await self._call.read()

    async def close(self) -> None:
        await self._call.done_writing()


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_tool_that_knows_nothing_can_call_what_it_finds(opened: grpc.aio.Channel, package: str) -> None:
    async with opened as channel:
        tool = Tool(channel, package)
        services = (await tool.ask(list_services="")).list_services_response.service
        name = next(service.name for service in services if service.name.endswith("HealthService"))
        files = (await tool.ask(file_containing_symbol=name)).file_descriptor_response.file_descriptor_proto
        await tool.close()

        pool = descriptor_pool.DescriptorPool()
        for content in reversed(files):
            pool.Add(descriptor_pb2.FileDescriptorProto.FromString(content))
        method = pool.FindServiceByName(name).methods[0]
        request, response = (
            message_factory.GetMessageClass(found) for found in (method.input_type, method.output_type)
        )
        call = channel.unary_unary(f"/{name}/{method.name}", request.SerializeToString, response.FromString)
        assert (await call(request(), timeout=60)).status == "healthy"


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"file_by_filename": "no.proto"}, "'no.proto' not found"),
        ({"file_containing_symbol": "no.Such"}, "'no.Such' not found"),
        ({"file_containing_symbol": "stepflow.v1.RunsService.Nothing"}, "'stepflow.v1.RunsService.Nothing' not found"),
        ({"file_containing_symbol": ""}, "'' not found"),
        (
            {"file_containing_extension": {"containing_type": "google.rpc.Status", "extension_number": 5}},
            "extension 5 of 'google.rpc.Status' not found",
        ),
        ({"all_extension_numbers_of_type": "no.Such"}, "'no.Such' not found"),
        ({}, "the request asks nothing"),
    ],
)
async def test_what_is_not_there_is_said_and_the_stream_goes_on(
    opened: grpc.aio.Channel, question: dict[str, Any], said: str
) -> None:
    async with opened as channel:
        tool = Tool(channel, PACKAGES[0])
        refused = await tool.ask(**question)
        after = await tool.ask(file_containing_symbol="stepflow.v1.RunsService.GetRun")
        none = await tool.ask(all_extension_numbers_of_type="google.rpc.Status")
        await tool.close()

    assert refused.error_response.error_message == said
    assert after.file_descriptor_response.file_descriptor_proto
    assert list(none.all_extension_numbers_response.extension_number) == []
