"""How much a worker is sent ahead, and what its reader gets."""

import anyio
import pytest
from queue_bench import Bench, items, ours

from stepflow_grpc.queues.records import Discovery

pytestmark = pytest.mark.anyio


async def test_an_upstream_worker_is_sent_little_until_it_claims_quickly(bench: Bench) -> None:
    stream = bench.queues.connect("q", "w")
    for item in range(100):
        await bench.offer(item)
    widths = []
    for _ in range(10):
        widths.append(len(stream.out))
        bench.claim(stream)

    assert widths == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]


async def test_an_upstream_worker_that_claims_slowly_is_sent_less(bench: Bench) -> None:
    stream = bench.queues.connect("q", "w")
    for item in range(100):
        await bench.offer(item)
    for _ in range(10):
        bench.claim(stream)
    full = len(stream.out)

    await bench.turn(0.2)
    bench.claim(stream)
    bench.claim(stream)
    await bench.turn(0.3)

    assert full == 8
    assert stream.window == 1


async def test_questions_go_ahead_of_tasks_and_need_no_credit(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    await bench.offer(1)

    stream.tell(Discovery("discovery-1"))

    assert await stream.next() == Discovery("discovery-1")
    assert items(stream) == [1]


async def test_a_closed_stream_ends_its_reader(bench: Bench) -> None:
    stream = ours(bench, "w", 1)
    ended: list[str] = []

    async def read() -> None:
        try:
            await stream.next()
        except anyio.EndOfStream:
            ended.append("ended")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await bench.turn(0)
        stream.disconnect()
        stream.disconnect()

    assert ended == ["ended"]
