"""Who waits when the server closes."""

import anyio
import pytest

from stepflow_grpc.refusals import CallError
from stepflow_grpc.services.watchers import Watchers

pytestmark = pytest.mark.anyio


async def test_who_is_sent_away_does_not_wait_until_a_slot_is_taken_back() -> None:
    watchers, is_free, has_slot = Watchers(), anyio.Event(), anyio.Event()

    async def lending() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await is_free.wait()
                has_slot.set()

    async def ask() -> None:
        with pytest.raises(CallError, match="run r1 goes on"):
            await watchers.wait(lending(), "r1")

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            watchers.close()

        assert not has_slot.is_set()
        is_free.set()
        await has_slot.wait()


async def test_what_was_waited_for_is_given_and_what_went_wrong_is_raised() -> None:
    watchers = Watchers()

    async def fail() -> None:
        raise ValueError("no")

    async def answer() -> int:
        return 3

    assert await watchers.wait(answer(), "r1") == 3
    with pytest.raises(ValueError, match="no"):
        await watchers.wait(fail(), "r1")
    assert watchers.waiting == 0


async def test_a_server_that_is_closing_lets_nobody_wait() -> None:
    watchers = Watchers()
    watchers.close()

    with anyio.fail_after(60), pytest.raises(CallError, match="the server is closing; run r1 goes on: ask again"):
        await watchers.wait(anyio.sleep_forever(), "r1")
