"""Batches that no single message could hold."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import grpc
import grpc.aio
import pytest

from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.flow.read import flow_from_json
from stepflow_grpc.batches import (
    FromClient,
    Opening,
    Question,
    frame,
    from_run,
    part_frames,
    submitted,
)
from stepflow_grpc.messages import WORK_PACKAGE, Frame, methods
from stepflow_grpc.refusals import CallError
from stepflow_grpc.services.batch import BatchService
from stepflow_grpc.services.watchers import Watchers

pytestmark = pytest.mark.anyio

FLOW = {
    "schemas": {"properties": {"input": {"type": "object", "required": ["n"]}}},
    "steps": [{"id": "d", "component": "/double", "input": {"$input": "n"}}],
    "output": {"$step": "d"},
}


GARBAGE = [
    b"",
    b"{",
    b"null",
    b"\xff",
    b'{"part":"\xff"}',
    b'{"inputs":[1e999]}',
    b'{"inputs":[' + b"[" * 50_000 + b"]" * 50_000 + b"]}",
    b'{"part":"[","is_last_part":true}',
]


@pytest.fixture
def app() -> Components:
    registry = Components()

    @registry.component("/double")
    async def double(n: int) -> int:
        if n < 0:
            raise ValueError("it is negative")
        return n * 2

    return registry


@pytest.fixture
async def flow_id(engine: Engine) -> str:
    return await engine.store_flow(flow_from_json(FLOW))


async def told(*frames: Frame) -> AsyncIterator[Frame]:
    for each in frames:
        yield each


@pytest.fixture
def submit(calls: Any) -> Callable[..., Any]:
    async def call(*frames: Frame) -> Any:
        method = methods("BatchService", WORK_PACKAGE)["Submit"]
        made = calls._channel.stream_stream(method.path, Frame.SerializeToString, Frame.FromString)
        return [submitted(message).run async for message in made(told(*frames), timeout=60)]

    return call


@pytest.fixture
def results(calls: Any) -> Callable[..., Any]:
    async def call(run_id: str, **asked: Any) -> Any:
        method = methods("BatchService", WORK_PACKAGE)["Results"]
        made = calls._channel.unary_stream(method.path, Frame.SerializeToString, Frame.FromString)
        messages = [message async for message in made(frame(Question(run_id=run_id, **asked)), timeout=60)]
        return [result for message in messages for result in from_run(message).results]

    return call


async def refused(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code().name, raised.value.details() or ""


def inputs(*numbers: int, last: bool = False) -> Frame:
    return frame(FromClient(inputs=[{"n": n} for n in numbers], is_complete=last))


async def test_a_batch_in_several_frames_is_one_run(submit: Any, results: Any, flow_id: str) -> None:
    (run,) = await submit(frame(FromClient(opening=Opening(flow_id=flow_id))), inputs(1, 2), inputs(-3, last=True))

    found = await results(run.id)

    assert run.total == 3
    assert [result.output for result in found] == [2, 4, None]
    assert found[2].error.message == "it is negative"


async def test_results_go_on_where_they_were_left(submit: Any, results: Any, flow_id: str) -> None:
    (run,) = await submit(frame(FromClient(opening=Opening(flow_id=flow_id))), inputs(*range(700), last=True))

    for order in ("item", "completion"):
        found = await results(run.id, order=order, skip=300)

        assert len(found) == 400, order
        assert len({result.index for result in found}) == 400


async def test_an_input_may_come_in_parts(submit: Any, results: Any, flow_id: str) -> None:
    text = '{"n": 21, "text": "' + '\\"' * 300_000 + '"}'
    opening = frame(FromClient(opening=Opening(flow_id=flow_id)))

    (run,) = await submit(opening, *part_frames(text), inputs(2, last=True))

    assert [result.output for result in await results(run.id)] == [42, 4]


async def test_a_key_gives_the_run_that_has_it(submit: Any, flow_id: str) -> None:
    frames = frame(FromClient(opening=Opening(flow_id=flow_id, key="nightly"))), inputs(1, last=True)

    assert [run.id for run in await submit(*frames)] == [run.id for run in await submit(*frames)]


async def test_an_opening_that_asks_is_answered_before_the_inputs(engine: Engine, flow_id: str) -> None:
    service = BatchService(engine, is_ready=lambda: True)
    opening = frame(FromClient(opening=Opening(flow_id=flow_id, asks=True)))
    frames = told(opening, inputs(1, last=True))

    said = [(message.json, len(await engine.list_runs())) async for message in service.Submit(frames)]

    assert said[0] == (b"{}", 0)
    assert said[1][1] == 1


@pytest.mark.parametrize(
    ("frames", "code", "words"),
    [
        ([inputs(1, last=True)], "INVALID_ARGUMENT", "does not say first which flow"),
        *(([Frame(json=text)], "INVALID_ARGUMENT", "can't be read") for text in GARBAGE),
        ([frame(FromClient(opening=Opening(flow_id="a" * 64), is_complete=True))], "NOT_FOUND", "flow"),
    ],
)
async def test_what_is_no_batch_is_refused(submit: Any, frames: list[Frame], code: str, words: str) -> None:
    found = await refused(submit(*frames))

    assert found[0] == code
    assert words in found[1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([FromClient(part="[1,"), FromClient(is_complete=True)], "ends in the midst of an input"),
        ([FromClient(opening=Opening(flow_id="b" * 64))], "was said already"),
    ],
)
async def test_a_batch_that_is_no_whole_starts_nothing(
    submit: Any, engine: Engine, flow_id: str, more: list[FromClient], words: str
) -> None:
    found = await refused(submit(frame(FromClient(opening=Opening(flow_id=flow_id))), *map(frame, more)))

    assert found[0] == "INVALID_ARGUMENT"
    assert words in found[1]
    assert not await engine.backend.runs.list()


async def test_a_batch_that_breaks_off_starts_nothing(submit: Any, engine: Engine, flow_id: str) -> None:
    found = await refused(submit(frame(FromClient(opening=Opening(flow_id=flow_id))), inputs(1)))

    assert found[0] == "INVALID_ARGUMENT"
    assert "nothing was started" in found[1]
    assert await engine.list_runs() == []


async def test_an_input_that_does_not_fit_is_named_and_nothing_started(
    submit: Any, engine: Engine, flow_id: str
) -> None:
    bad = frame(FromClient(opening=Opening(flow_id=flow_id), inputs=[{"n": 1}, {}], is_complete=True))

    found = await refused(submit(bad))

    assert found[0] == "INVALID_ARGUMENT"
    assert "item 1" in found[1]
    assert await engine.list_runs() == []


async def test_more_than_the_server_may_hold_is_refused(engine: Engine, flow_id: str) -> None:
    service = BatchService(engine, is_ready=lambda: True, most_bytes=100)

    with pytest.raises(CallError, match="put large documents into blobs"):
        async for _ in service.Submit(told(frame(FromClient(opening=Opening(flow_id=flow_id))), inputs(*range(20)))):
            pass


async def test_results_of_a_run_that_is_not_there_are_refused(results: Any) -> None:
    assert (await refused(results("0199aaaa-0000-7000-8000-000000000000")))[0] == "NOT_FOUND"
    assert (await refused(results("x")))[0] == "INVALID_ARGUMENT"


async def test_who_waits_for_results_is_sent_away_when_the_server_closes(engine: Engine, app: Components) -> None:
    @app.component("/never")
    async def never(input: Any) -> Any:
        await anyio.sleep_forever()

    flow = {"steps": [{"id": "n", "component": "/never"}], "output": {"$step": "n"}}
    run = await engine.submit(flow, [1])
    watchers = Watchers()
    service = BatchService(engine, is_ready=lambda: True, watchers=watchers)
    results = service.Results(frame(Question(run_id=run.id)))
    refusals = []

    async def ask() -> None:
        try:
            await anext(results)
        except CallError as error:
            refusals.append(error.code)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        watchers.close()

    assert refusals == [grpc.StatusCode.UNAVAILABLE]
    run.cancel_now()
