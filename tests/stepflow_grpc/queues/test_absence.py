"""Queues that no worker serves are warned of, once, and only where somebody waits."""

import pytest
from queue_bench import Bench, ours, queued_of

from stepflow_grpc.queues.absence import TRUSTED_S
from stepflow_grpc.queues.queue import WARNED_AFTER_S

pytestmark = pytest.mark.anyio


@pytest.fixture
def warned_of(bench: Bench) -> list[str]:
    """The queues that were warned of."""
    queues: list[str] = []
    bench.queues.absence.warned_of = queues.append
    return queues


async def test_a_queue_without_a_worker_is_warned_of_once(
    bench: Bench, warned_of: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    await bench.offer(1)
    await bench.offer(2)

    await bench.turn(29)
    before = caplog.text
    await bench.turn(2)
    await bench.offer(3)
    await bench.turn(100)

    assert before == ""
    assert "no worker has served queue 'q' for 30 s, and 2 tasks wait in it" in caplog.text
    assert warned_of == ["q"]
    assert bench.waits[:2] == ["no worker serves queue 'q'"] * 2
    assert bench.waits[-1] == "no worker has served queue 'q' for 30 s"


async def test_a_queue_whose_components_somebody_waits_to_hear_of_is_warned_of(
    bench: Bench, warned_of: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    bench.queues.want("q")

    await bench.turn(WARNED_AFTER_S + 1)

    assert warned_of == ["q"]
    assert "and steps wait for one" in caplog.text


async def test_a_queue_that_nobody_waits_for_any_more_is_not_warned_of(bench: Bench, warned_of: list[str]) -> None:
    id = await bench.offer(1)

    await bench.turn(10)
    bench.queues.cancel(id)
    await bench.turn(WARNED_AFTER_S)

    assert warned_of == []


async def test_after_a_worker_has_come_and_gone_a_queue_may_be_warned_of_again(
    bench: Bench, warned_of: list[str]
) -> None:
    await bench.offer(1)
    await bench.turn(WARNED_AFTER_S - 1)
    stream = ours(bench, "w", 0)
    stream.disconnect()
    await bench.turn(WARNED_AFTER_S - 1)
    before = list(warned_of)

    await bench.turn(2)
    ours(bench, "w", 0).disconnect()
    await bench.turn(WARNED_AFTER_S + 1)

    assert before == []
    assert warned_of == ["q", "q"]


async def test_a_queue_that_workers_of_another_engine_serve_is_not_warned_of(
    bench: Bench, warned_of: list[str]
) -> None:
    (queue,) = bench.queues.all()
    await bench.offer(1)

    await bench.turn(WARNED_AFTER_S - 1)
    bench.queues.absence.note_served_elsewhere(queue)
    await bench.turn(2)

    assert warned_of == []


async def test_a_queue_whose_last_workers_were_those_of_another_engine_is_warned_of(
    bench: Bench, warned_of: list[str]
) -> None:
    (queue,) = bench.queues.all()
    await bench.offer(1)
    for _ in range(5):
        await bench.turn(TRUSTED_S - 1)
        bench.queues.absence.note_served_elsewhere(queue)

    await bench.turn(WARNED_AFTER_S - 1)
    before = list(warned_of)
    await bench.turn(2)
    after = list(warned_of)
    bench.queues.absence.note_served_elsewhere(queue)
    again = queue.unserved
    await bench.turn(WARNED_AFTER_S + 1)

    assert (before, after, again) == ([], ["q"], "no worker serves queue 'q'")
    assert warned_of == ["q", "q"]


async def test_another_engine_is_trusted_for_a_while_to_serve_a_queue(bench: Bench) -> None:
    (queue,) = bench.queues.all()
    absence = bench.queues.absence
    seen = [absence.is_served_somewhere(queue)]

    absence.note_served_elsewhere(queue)
    for seconds in (TRUSTED_S - 0.1, 0.2):
        await bench.turn(seconds)
        seen.append(absence.is_served_somewhere(queue))
    ours(bench, "w", 0)
    seen.append(absence.is_served_somewhere(queue))

    assert seen == [False, True, False, True]


async def test_whoever_waits_looks_again_once_another_engine_is_seen_to_serve_the_queue(bench: Bench) -> None:
    entry = bench.queues.enter(queued_of(1))
    change = entry.changed()

    bench.queues.absence.note_served_elsewhere(entry.queue)

    await change
    assert not entry.is_over
    bench.queues.leave(entry)
