"""The virtual loop: what it jumps over and what it really waits for."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TypeVar

import anyio
import anyio.to_thread
import pytest

from stepflow.testing.clock import TurnedClock
from stepflow.testing.loop import VirtualLoop

T = TypeVar("T")


def run(main: Callable[[], Awaitable[T]], *, quiet_s: float = 1.0) -> T:
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(quiet_s=quiet_s)) as runner:
        return runner.run(main())


def test_plain_asyncio_sleep_is_virtual() -> None:
    async def main() -> float:
        await asyncio.sleep(7 * 86_400)
        return asyncio.get_running_loop().time()

    assert run(main) == 7 * 86_400


def test_a_thread_of_the_executor_is_waited_for() -> None:
    async def main() -> tuple[str, float]:
        loop = asyncio.get_running_loop()
        go = threading.Event()
        timer = asyncio.ensure_future(asyncio.sleep(3600, "timer"))
        thread = asyncio.ensure_future(asyncio.to_thread(go.wait, 10))
        loop.call_soon(go.set)
        done, _ = await asyncio.wait({timer, thread}, return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        return ("thread" if thread in done else "timer"), loop.time()

    assert run(main) == ("thread", 0.0)


def test_a_thread_of_anyio_is_waited_for_once_a_clock_is_made() -> None:
    async def main() -> float:
        clock = TurnedClock()
        gate = threading.Event()
        asyncio.get_running_loop().call_soon(gate.set)
        with clock.timeout(3600):
            await anyio.to_thread.run_sync(gate.wait, 10)
        return clock.elapsed_s

    assert run(main) == 0.0


def test_a_thread_that_outlasts_the_next_timer_lets_it_fire() -> None:
    async def main() -> tuple[bool, float]:
        clock = TurnedClock()
        gate = threading.Event()
        with clock.busy():
            thread = asyncio.ensure_future(asyncio.to_thread(gate.wait, 10))
            with clock.timeout(0.01) as scope:
                await asyncio.shield(thread)
            gate.set()
            await thread
        return scope.cancelled_caught, clock.elapsed_s

    assert run(main) == (True, 0.01)


def test_a_socket_in_flight_is_waited_for() -> None:
    async def main() -> tuple[bytes, float]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        async with asyncio.timeout(3600):
            line = await reader.readline()
        writer.close()
        server.close()
        return line, asyncio.get_running_loop().time()

    assert run(main) == (b"hello\n", 0.0)


def test_a_silent_socket_does_not_hold_the_time_for_ever() -> None:
    async def main() -> float:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        await asyncio.sleep(3600)
        server.close()
        return asyncio.get_running_loop().time()

    assert run(main, quiet_s=0.0) == 3600


def test_an_idle_pipe_does_not_hold_the_time() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        read, write = os.pipe()
        with open(read, "rb") as reader, open(write, "wb"):
            transport, _ = await loop.connect_read_pipe(asyncio.Protocol, reader)
            await asyncio.sleep(3600)
            transport.close()
            await asyncio.sleep(0)
        return loop.time()

    assert run(main, quiet_s=60.0) == 3600


def test_a_wait_that_nothing_can_end_is_told_when_the_clock_is_turned_by_hand() -> None:
    loop = VirtualLoop()
    clock = TurnedClock(loop.turn)
    clock.manual()
    task = loop.create_task(asyncio.sleep(60))
    loop.turn.on_stuck = task.cancel

    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)

    loop.close()
    assert clock.elapsed_s == 0


@pytest.mark.parametrize("in_scopes", [False, True])
def test_what_is_cancelled_together_ends_in_the_same_order_each_time(in_scopes: bool) -> None:
    async def main() -> list[int]:
        ended: list[int] = []

        async def wait(number: int) -> None:
            try:
                with anyio.CancelScope() if in_scopes else nullcontext():
                    await anyio.sleep_forever()
            finally:
                ended.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(wait, number)
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
        return ended

    orders = []
    litter: list[object] = []
    for number in range(3):
        litter = [bytearray(size % 2_000) for size in range(number, 3_000 * number, 7) if size % 3]
        orders.append(run(main))

    assert len(litter) > 0
    assert orders == [orders[0]] * 3
    assert sorted(orders[0]) == list(range(100))


def test_other_loops_have_scopes_as_they_are() -> None:
    made = type(asyncio.run(scope_here()))

    assert type(run(scope_here)) is not made
    assert type(asyncio.run(scope_here())) is made


async def scope_here() -> anyio.CancelScope:
    return anyio.CancelScope()
