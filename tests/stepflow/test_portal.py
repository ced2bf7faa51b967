import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal

from stepflow.errors import EngineClosedError
from stepflow.portal import Portal

BOUND_S = 120

PROGRAM = """
import signal
from contextlib import asynccontextmanager

import anyio

from stepflow.portal import Portal

heard = []


def interrupt(number, frame):
    heard.append(number)
    raise KeyboardInterrupt


signal.signal(signal.SIGINT, interrupt)


@asynccontextmanager
async def inside():
    try:
        BEFORE
        yield
    finally:
        AFTER
        print("closed", flush=True)


async def wait():
    print("waiting", flush=True)
    await anyio.sleep_forever()


async def linger():
    print("waiting", flush=True)
    with anyio.CancelScope(shield=True):
        while not heard:
            await anyio.sleep(0.01)
        await anyio.sleep(0.1)


portal = Portal(inside(), "thing", "with thing:")
try:
    portal.open()
    portal.close()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal(nothing(), "engine", "with …")
    portal.open()
    try:
        yield portal
    finally:
        portal.close()


class Interrupting:
    """What runs on a loop as ever, but hands nobody the future: a signal comes first."""

    def __init__(self, portal: BlockingPortal, at: int) -> None:
        self._portal = portal
        self._left = at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._portal, name)

    def start_task_soon(self, function: Any, *args: Any) -> Any:
        future = self._portal.start_task_soon(function, *args)
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt
        return future


def interrupt(portal: Portal, monkeypatch: pytest.MonkeyPatch, at: int = 1) -> None:
    """Interrupt the `at`-th thing that is started from now on, when it has been."""
    loop = portal._loop
    assert loop is not None
    monkeypatch.setattr(loop, "portal", Interrupting(loop.portal, at))


@pytest.mark.parametrize(("before", "after"), [("await wait()", "pass"), ("pass", "await linger()")])
def test_an_interrupt_while_it_opens_or_closes_is_raised_once_all_is_closed(before: str, after: str) -> None:
    program = PROGRAM.replace("BEFORE", before).replace("AFTER", after)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(signal.SIGINT)
            printed, said = process.communicate(timeout=BOUND_S)
        finally:
            process.kill()

    assert (printed.splitlines(), said) == (["closed", "interrupted"], "")


def test_a_call_that_has_not_ended_when_it_is_closed_says_so() -> None:
    portal = Portal(nothing(), "thing", "with thing:")
    portal.open()
    begun = threading.Event()
    heard: list[str] = []

    async def wait() -> None:
        begun.set()
        await anyio.sleep_forever()

    def call() -> None:
        try:
            portal.call(wait)
        except EngineClosedError as error:
            heard.append(str(error))

    calling = threading.Thread(target=call)
    calling.start()
    assert begun.wait(BOUND_S)
    portal.close()
    calling.join(BOUND_S)

    assert heard == ["the thing was closed before the call ended"]


def test_what_opening_and_closing_raise_is_raised_where_it_is_opened_and_closed() -> None:
    @asynccontextmanager
    async def broken(*, is_early: bool) -> AsyncIterator[None]:
        if is_early:
            raise ZeroDivisionError("opening")
        yield
        raise ZeroDivisionError("closing")

    early, late = (Portal(broken(is_early=is_early), "thing", "with thing:") for is_early in (True, False))

    with pytest.raises(ZeroDivisionError, match="opening"):
        early.open()
    late.open()
    with pytest.raises(ZeroDivisionError, match="closing"):
        late.close()
    assert [early.is_open, late.is_open] == [False, False]


def test_what_is_awaited_there_is_given_here(portal: Portal) -> None:
    async def double(number: int) -> int:
        await anyio.sleep(0)
        return 2 * number

    assert portal.call(double, 4) == 8


def test_what_is_raised_there_is_raised_here_also_where_it_is_a_timeout(portal: Portal) -> None:
    async def late() -> None:
        raise TimeoutError("too late")

    with pytest.raises(TimeoutError, match="too late"):
        portal.call(late)


def test_a_call_is_cancelled_though_the_interrupt_came_before_its_future(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_over = threading.Event()

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            is_over.set()

    interrupt(portal, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        portal.call(wait)

    assert is_over.wait(BOUND_S)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_an_iterator_is_closed_though_an_interrupt_came_before_the_future_of_a_step(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    heard: list[object] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(steps):
                yield number
            await anyio.sleep_forever()
        finally:
            heard.append("closed")

    interrupt(portal, monkeypatch, at=steps + 1)
    with pytest.raises(KeyboardInterrupt):
        heard.extend(portal.iterate(numbers()))

    assert heard == [*range(steps), "closed"]


def test_an_iterator_that_is_left_early_is_closed(portal: Portal) -> None:
    heard: list[object] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            heard.append("closed")

    found = portal.iterate(numbers())
    assert next(found) == 1
    found.close()  # type: ignore[attr-defined]

    assert heard == ["closed"]


def test_one_that_is_closed_runs_nothing(portal: Portal) -> None:
    portal.close()

    with pytest.raises(EngineClosedError, match="the engine is not open: use it inside `with …`"):
        portal.call(anyio.sleep, 0)


def test_one_that_is_open_is_not_opened_again(portal: Portal) -> None:
    with pytest.raises(EngineClosedError, match="open already"):
        portal.open()


def test_closing_what_another_thread_still_opens_ends_the_opening() -> None:
    begun = threading.Event()
    heard: list[str] = []

    @asynccontextmanager
    async def slow() -> AsyncIterator[None]:
        begun.set()
        await anyio.sleep_forever()
        yield

    portal = Portal(slow(), "thing", "with thing:")

    def open_it() -> None:
        try:
            portal.open()
        except EngineClosedError as error:
            heard.append(str(error))

    opening = threading.Thread(target=open_it)
    opening.start()
    assert begun.wait(120)
    portal.close()
    opening.join(120)

    assert heard == ["it was closed while it opened"]


def test_what_is_dropped_on_its_own_loop_is_closed() -> None:
    closed = threading.Event()

    @asynccontextmanager
    async def inside() -> AsyncIterator[None]:
        yield
        closed.set()

    held = [Portal(inside(), "thing", "with thing:")]
    held[0].open()

    async def drop() -> None:
        held.clear()

    held[0].start(drop)

    assert closed.wait(120)
