"""What a program asks of our server as its operator does."""

from typing import Any

import anyio
import pytest

from stepflow.engine import Engine
from stepflow.errors import RunNotFoundError
from stepflow.records import RunStatus
from stepflow_grpc.client.client import Client

pytestmark = pytest.mark.anyio


async def test_a_run_is_paused_and_resumed(ours: Client, flows: dict[str, Any], gate: Any) -> None:
    run = await ours.submit(flows["gated"], [0])
    await ours.pause(run.id)
    paused = await run.record()
    gate.open(0)
    await ours.resume(run.id)
    with anyio.fail_after(60):
        ended = await run.wait()

    assert [paused.status, ended.status] == [RunStatus.PAUSED, RunStatus.COMPLETED]


async def test_failed_items_are_tried_again(ours: Client, engine: Engine, flows: dict[str, Any]) -> None:
    failed = await ours.submit(flows["double"], [{"n": 1}, {"n": -1}])
    await failed.wait()

    again = await ours.retry(failed.id)
    record = await again.wait()

    assert again.id != failed.id
    assert (await engine.get(again.id)).retry_of == failed.id
    assert (record.succeeded, record.failed) == (1, 1)


@pytest.mark.parametrize("name", ["pause", "resume", "retry"])
async def test_a_run_that_is_not_there_is_said_to_be_none(ours: Client, name: str) -> None:
    with pytest.raises(RunNotFoundError):
        await getattr(ours, name)("01933f2c-0000-7000-8000-000000000000")
