"""Queues that no worker serves are warned of, once, and only where somebody waits."""

import pytest
from queue_bench import Bench

pytestmark = pytest.mark.anyio


async def test_a_queue_without_a_worker_is_warned_of(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.offer(1)
    await bench.offer(2)

    await bench.turn(29)
    before = caplog.text
    await bench.turn(2)

    assert before == ""
    assert "no worker has served queue 'q' for 30 s, and 2 tasks wait in it" in caplog.text
