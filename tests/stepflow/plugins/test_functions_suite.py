"""The function plugin is a plugin like any other."""

import os

import anyio
import pytest

from stepflow.components import Components
from stepflow.errors import InvalidInputError, ResourceUnavailableError, RetryAfter
from stepflow.plugins.functions import FunctionsPlugin
from stepflow.records import ErrorCode, Json
from stepflow.testing.suites.plugin import PluginSuite


def registry() -> Components:
    app = Components()

    @app.component("/echo")
    async def echo(input: Json) -> Json:
        return input

    @app.component("/thread")
    def thread(input: Json) -> Json:
        return input

    @app.component("/one/{name}")
    def one(input: Json, name: str) -> Json:
        return [name, input]

    @app.component("/spoil")
    async def spoil(input: dict) -> int:
        input["items"].append(len(input["items"]))
        return len(input["items"])

    @app.component("/fail")
    async def fail(input: Json) -> Json:
        raise ValueError("no")

    @app.component("/refuse")
    def refuse(input: Json) -> Json:
        raise InvalidInputError("not this", data={"field": "x"})

    @app.component("/later")
    async def later(input: Json) -> Json:
        raise RetryAfter(20)

    @app.component("/gone")
    async def gone(input: Json) -> Json:
        raise ResourceUnavailableError("the disk is away")

    @app.component("/refused_by_a_server")
    def refused_by_a_server(input: Json) -> Json:
        raise ConnectionRefusedError(os.strerror(111))

    @app.component("/nan")
    async def nan(input: Json) -> Json:
        return {"deep": [float("nan")]}

    @app.component("/surrogate")
    async def surrogate(input: Json) -> Json:
        return {"text": "\ud800"}

    @app.component("/number")
    async def number(input: int) -> int:
        return input

    @app.component("/wait")
    async def wait(input: Json) -> Json:
        await anyio.sleep_forever()

    return app


VALUE = {"n": 9_007_199_254_740_993, "list": [None, True, 1.5, "🦆 \0"], "empty": {}}


class TestFunctionsPlugin(PluginSuite):
    succeeds = (
        ("echo", VALUE, VALUE),
        ("echo", None, None),
        ("thread", VALUE, VALUE),
        ("spoil", {"items": []}, 1),
        ("number", 7, 7),
        ("/one/first", [1], ["first", [1]]),
    )
    fails = (
        ("fail", {}, ErrorCode.COMPONENT_FAILED),
        ("refuse", {}, ErrorCode.INVALID_INPUT),
        ("number", "seven", ErrorCode.INVALID_INPUT),
        ("later", {}, ErrorCode.RESOURCE_UNAVAILABLE),
        ("gone", {}, ErrorCode.RESOURCE_UNAVAILABLE),
        ("refused_by_a_server", {}, ErrorCode.RESOURCE_UNAVAILABLE),
        ("nan", {}, ErrorCode.COMPONENT_FAILED),
        ("surrogate", {}, ErrorCode.COMPONENT_FAILED),
    )
    waits = ("wait", {})

    @pytest.fixture
    def plugin(self) -> FunctionsPlugin:
        return FunctionsPlugin(registry())
