"""Integers stay integers from the flow to the result, and a whole double is taken where an integer is wanted."""

import dataclasses
import json
from typing import TypedDict

import msgspec
import pytest

import stepflow
from stepflow.errors import RunFailedError
from stepflow.records import ErrorCode

pytestmark = pytest.mark.anyio


class Struct(msgspec.Struct):
    count: int
    share: float = 0.5


@dataclasses.dataclass
class Data:
    count: int
    share: float = 0.5


class Typed(TypedDict):
    count: int
    share: float


def exact(value):
    return json.dumps(value)


@pytest.mark.parametrize("value", [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, [1, {"a": 2}]])
async def test_an_integer_is_the_same_wherever_it_comes_from(make_engine, one_step, value):
    variable = {"output": [{"$variable": "n"}, {"$input": "$"}, {"$literal": value}, value]}
    async with make_engine() as engine:
        assert exact(await engine.run(one_step("/echo", input={"$input": "$"}), value)) == exact(value)
        assert exact(await engine.run(one_step("/echo", input={"$literal": value}))) == exact(value)
        assert exact(await engine.run(one_step("/echo"), overrides={"it": {"input": {"$literal": value}}})) == exact(
            value
        )
        assert exact(await engine.run(variable, value, variables={"n": value})) == exact([value] * 4)


@pytest.mark.parametrize("text", ["3", "3.0", "3e0"])
def test_whole_numbers_of_a_document_are_integers(text):
    flow = stepflow.flow_text(f'{{"output": {text}}}', format="json")

    assert exact(stepflow.run(flow)) == "3"


@pytest.mark.parametrize(("kind", "read"), [(int, lambda v: v), (Struct, lambda v: v.count), (Data, lambda v: v.count)])
async def test_a_whole_double_is_taken_for_an_integer(make_engine, app, one_step, kind, read):
    async def count(value):
        assert type(read(value)) is int
        return read(value)

    count.__annotations__["value"] = kind
    app.component("/count")(count)
    given = 3.0 if kind is int else {"count": 3.0, "share": 2.0}
    async with make_engine() as engine:
        assert exact(await engine.run(one_step("/count", input={"$input": "$"}), given)) == "3"
        assert exact(await engine.run(one_step("/count", input={"$literal": given}))) == "3"


async def test_a_whole_double_stays_one_where_a_double_is_wanted(make_engine, app, one_step):
    @app.component("/typed")
    async def typed(value: Typed) -> list[str]:
        return [type(value["count"]).__name__, type(value["share"]).__name__]

    async with make_engine() as engine:
        flow = one_step("/typed", input={"$input": "$"})
        assert await engine.run(flow, {"count": 2.0, "share": 3.0}) == ["int", "float"]
        assert await engine.run(flow, {"count": 2, "share": 3}) == ["int", "float"]


@pytest.mark.parametrize("input", [1.5, "1", True, None, {"count": 1.0}])
async def test_nothing_else_is_taken_for_an_integer(make_engine, app, one_step, input):
    @app.component("/count")
    async def count(value: int) -> int:
        return value

    async with make_engine() as engine:
        with pytest.raises(RunFailedError, match="Expected `int`") as caught:
            await engine.run(one_step("/count", input={"$input": "$"}), input)

    assert caught.value.code is ErrorCode.INVALID_INPUT
