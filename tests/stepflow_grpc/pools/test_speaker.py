import asyncio
import threading

import pytest

from stepflow_grpc.pools.speaker import MOST_KEPT, Speaker

pytestmark = pytest.mark.anyio


async def test_texts_are_said_in_their_order_and_waited_for() -> None:
    said: list[str] = []
    speaker = Speaker(said.append)

    speaker.post("first")
    await speaker.say("second")

    assert said == ["first", "second"]
    speaker.close()


async def test_nobody_who_listens_late_holds_the_loop_up() -> None:
    said: list[str] = []
    reading = threading.Event()

    def slowly(text: str) -> None:
        reading.wait(60)
        said.append(text)

    speaker = Speaker(slowly)
    waiting = asyncio.create_task(speaker.say("held"))
    await asyncio.sleep(0)
    for _ in range(2 * MOST_KEPT):
        speaker.post("more")
    before = list(said)
    reading.set()
    await waiting
    await speaker.say("last")

    assert before == []
    assert said[0] == "held"
    assert said[-1] == "last"
    assert len(said) <= MOST_KEPT + 3
    speaker.close()


async def test_a_listener_who_has_left_is_spoken_to_in_vain() -> None:
    def broken(text: str) -> None:
        raise BrokenPipeError

    speaker = Speaker(broken)

    for _ in range(3):
        await speaker.say("anybody?")
    speaker.close()
