"""Says lines to people and waits for nobody: a pipe that is not read must not stop the server that writes to it."""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

MOST_KEPT = 1_000
"""How many texts may wait to be said before `post` drops more."""

_Word = tuple[str, Callable[[], None]]


class Speaker:
    """Calls `say` in a thread of its own, one text after the other."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._words: queue.SimpleQueue[_Word | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def say(self, text: str) -> None:
        """Return once it is said, which takes as long as nobody reads."""
        loop = asyncio.get_running_loop()
        said = loop.create_future()
        self._put(text, lambda: _tell(loop, said))
        await said

    def post(self, text: str) -> None:
        """Have it said some time."""
        if self._words.qsize() < MOST_KEPT:
            self._put(text, lambda: None)

    def close(self, within_s: float = 0.0) -> None:
        """Let the thread end when it has said all, and wait so long for it."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._words.put(None)
            thread.join(within_s)

    def _put(self, text: str, then: Callable[[], None]) -> None:
        if self._thread is None:
            # as a daemon, so that a text which is never read keeps no process from ending
            self._thread = threading.Thread(target=self._run, name="speaker", daemon=True)
            self._thread.start()
        self._words.put((text, then))

    def _run(self) -> None:
        while (word := self._words.get()) is not None:
            text, then = word
            with suppress(OSError, ValueError):  # whoever listened has left
                self._say(text)
            then()


def _tell(loop: asyncio.AbstractEventLoop, said: "asyncio.Future[None]") -> None:
    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(_done, said)


def _done(said: "asyncio.Future[None]") -> None:
    if not said.done():
        said.set_result(None)
