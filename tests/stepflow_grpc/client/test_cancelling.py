"""Calls of a client that a scope cancels while the server says nothing."""

from typing import Any

import anyio
import pytest

from stepflow.engine import Engine
from stepflow_grpc.client.client import Client
from stepflow_grpc.services.operator import OperatorService

pytestmark = pytest.mark.anyio


class Silence:
    """Instead of a method: nobody ever hears of it again."""

    def __init__(self) -> None:
        self.is_asked = anyio.Event()

    async def __call__(self, *asked: Any, **options: Any) -> Any:
        self.is_asked.set()
        await anyio.sleep_forever()


async def cancelled(silence: Silence, work: Any) -> bool:
    """Whether a scope that is cancelled once the server was asked ends as such a scope does."""
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await work

        tasks.start_soon(run)
        with anyio.fail_after(30):
            await silence.is_asked.wait()
        tasks.cancel_scope.cancel()
    return tasks.cancel_scope.cancelled_caught


@pytest.mark.parametrize("inputs", [[1], (number for number in range(2))], ids=["list", "iterator"])
async def test_a_batch_whose_run_is_not_stored_yet_can_be_left(
    ours: Client, engine: Engine, flows: dict[str, Any], inputs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence = Silence()
    monkeypatch.setattr(engine, "submit", silence)

    assert await cancelled(silence, ours.submit(flows["same"], inputs))


async def test_a_question_of_an_operator_can_be_left(ours: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    silence = Silence()
    monkeypatch.setattr(OperatorService, "_answer", silence)

    assert await cancelled(silence, ours.queues())
