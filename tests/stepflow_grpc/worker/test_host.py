"""What components of a worker ask of the orchestrator: blobs and sub-runs."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import stepflow
from stepflow.components import Components
from stepflow.context import Context
from stepflow.engine import Engine
from stepflow.records import BlobType, ErrorCode
from stepflow_grpc.server import Server
from stepflow_grpc.worker.references import resolved

pytestmark = pytest.mark.anyio

INNER = {"steps": [{"id": "s", "component": "/w/inner", "input": {"$input": "$"}}], "output": {"$step": "s"}}


async def test_blobs_come_and_go_through_the_orchestrator(
    engine: Engine, working: Any, outputs: Any, fast_path: bool
) -> None:
    app = Components()

    @app.component("/store")
    async def store(n: int, ctx: Context) -> list[Any]:
        data = await ctx.put_blob({"n": n, "half": 0.5})
        binary = await ctx.put_blob(b"\x00\xff", filename="two.bin")
        return [data, await ctx.get_blob(data), binary, len(await ctx.get_blob(binary))]

    async with working(app, fast_path=fast_path):
        ((data, read, binary, size),) = await outputs(["/w/store"], [7])

    assert (read, size) == ({"n": 7, "half": 0.5}, 2)
    assert (await engine.get_blob(data)).type is BlobType.DATA
    assert (await engine.get_blob(binary)).filename == "two.bin"


async def test_a_blob_that_is_not_there_is_said_to_be_missing(working: Any, results: Any, fast_path: bool) -> None:
    app = Components()

    @app.component("/read")
    async def read(id: str, ctx: Context) -> Any:
        return await ctx.get_blob(id)

    async with working(app, fast_path=fast_path):
        found = await results(["/w/read"], ["ab" * 32, "no id"])

    assert [result.error and result.error.code for result in found] == [ErrorCode.RESOURCE_UNAVAILABLE] * 2


async def test_a_sub_run_gives_what_became_of_each_input(working: Any, outputs: Any, fast_path: bool) -> None:
    app = Components()

    @app.component("/inner")
    async def inner(n: int) -> int:
        if n < 0:
            raise stepflow.InvalidInputError(f"{n} is negative")
        return n + 1

    @app.component("/outer")
    async def outer(inputs: list[int], ctx: Context) -> list[Any]:
        found = await ctx.run_flow(INNER, inputs)
        return [result.output if result.error is None else str(result.error.code) for result in found]

    async with working(app, fast_path=fast_path):
        (found,) = await outputs(["/w/outer"], [[1, -1, 3]])

    assert found == [2, "INVALID_INPUT", 4]


async def test_a_sub_run_belongs_to_the_step_that_asked_for_it(engine: Engine, working: Any, line: Any) -> None:
    app = Components()
    app.component("/inner")(lambda n: n)

    @app.component("/outer")
    async def outer(n: int, ctx: Context) -> Any:
        return await ctx.evaluate(INNER, n, key="mine")

    async with working(app), asyncio.timeout(60):
        run = await engine.submit(line("/w/inner", "/w/outer"), [1])
        await run.wait()
    (child,) = await engine.backend.runs.list(parent_id=run.id)

    assert child.root_id == run.id
    assert child.parent is not None
    assert (child.parent.item, child.parent.step) == (0, 1)


async def test_a_sub_run_that_is_refused_says_why(working: Any, results: Any, fast_path: bool) -> None:
    app = Components()

    @app.component("/outer")
    async def outer(flow: Any, ctx: Context) -> Any:
        return await ctx.evaluate(flow, 1)

    async with working(app, fast_path=fast_path):
        broken, missing = await results(["/w/outer"], [{"steps": [{"id": 1}]}, "ab" * 32])

    assert broken.error is not None
    assert missing.error is not None
    assert broken.error.code is ErrorCode.COMPONENT_FAILED
    assert "refused" in broken.error.message
    assert missing.error.code is ErrorCode.RESOURCE_UNAVAILABLE


@pytest.mark.slow
async def test_an_attempt_after_another_finds_the_sub_run_again(engine: Engine, working: Any, line: Any) -> None:
    app, attempts, inner_calls = Components(), [], []

    @app.component("/inner")
    async def inner(n: int) -> int:
        inner_calls.append(n)
        return n + 1

    @app.component("/outer")
    async def outer(n: int, ctx: Context) -> int:
        attempts.append(ctx.attempt)
        found = await ctx.evaluate(INNER, n)
        if ctx.attempt == 1:
            raise stepflow.ResourceUnavailableError("once")
        return int(found)

    flow = line("/w/outer")
    flow["steps"][0]["onError"] = {"action": "retry"}
    async with working(app), asyncio.timeout(60):
        run = await engine.submit(flow, [1])
        (result,) = [result async for result in run.results()]

    assert result.output == 2
    assert attempts == [1, 2]
    assert inner_calls == [1]


async def test_references_in_inputs_are_resolved_and_large_fields_become_references(
    engine: Engine, working: Any, line: Any, fast_path: bool
) -> None:
    app, seen = Components(), []

    @app.component("/make")
    async def make(n: int) -> dict[str, Any]:
        return {"small": n, "large": ["x" * 100]}

    @app.component("/take")
    async def take(value: dict[str, Any]) -> int:
        seen.append(value)
        return len(value["large"][0])

    async with working(app, blob_threshold=50, fast_path=fast_path), asyncio.timeout(60):
        made = await engine.submit(line("/w/make"), [1])
        (first,) = [result async for result in made.results()]
        run = await engine.submit(line("/w/make", "/w/take"), [1])
        (result,) = [result async for result in run.results()]

    assert first.output["small"] == 1
    assert set(first.output["large"]) == {"$blob", "size"}
    assert result.output == 100
    assert seen == [{"small": 1, "large": ["x" * 100]}]


async def test_references_to_references_are_followed_and_other_objects_left_alone(engine: Engine) -> None:
    blobs = engine.backend.blobs
    inner = await blobs.put(b'{"deep":1}')
    outer = await blobs.put(b'[{"$blob":"%s"}]' % inner.encode())
    value = {"a": {"$blob": outer}, "b": {"$blob": "no id"}}

    assert await resolved(value, blobs) == {"a": [{"deep": 1}], "b": {"$blob": "no id"}}


async def test_a_blob_server_of_its_own_is_used_for_blobs(
    call: Any, working: Any, outputs: Any, make_engine: Callable[..., Engine]
) -> None:
    app = Components()
    app_engine = make_engine()

    @app.component("/store")
    async def store(n: int, ctx: Context) -> str:
        return await ctx.put_blob([n])

    async with app_engine as other, Server(other, port=0) as apart:
        async with working(app, blob_url=f"http://127.0.0.1:{apart.port}"):
            (id,) = await outputs(["/w/store"], [1])
        blob = await other.get_blob(id)

    assert blob.content == b"[1]"
