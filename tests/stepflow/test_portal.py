import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from stepflow.errors import EngineClosedError
from stepflow.portal import Portal

PROGRAM = """
from contextlib import asynccontextmanager

import anyio

from stepflow.portal import Portal


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
        await anyio.sleep(0.5)


portal = Portal(inside(), "thing", "with thing:")
try:
    portal.open()
    portal.close()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


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
            printed, said = process.communicate(timeout=120)
        finally:
            process.kill()

    assert (printed.splitlines(), said) == (["closed", "interrupted"], "")


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


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
    assert begun.wait(120)
    portal.close()
    calling.join(120)

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
