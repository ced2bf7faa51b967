"""The calls that are being answered."""

import asyncio
import logging
from contextlib import aclosing
from typing import Any

from stepflow_grpc.http2.call import Call
from stepflow_grpc.http2.methods import Ended, Status

logger = logging.getLogger("stepflow.server")

CLOSING = Ended(Status.UNAVAILABLE, "the server is closing; try again")
_LATE = Ended(Status.DEADLINE_EXCEEDED, "the time that the caller gave is over")


class Calls:
    """How many calls are under way on all connections."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0


class Answering:
    """Has one connection's calls answered, each in a task of its own, until it has ended: whether or not its caller
    waits for it.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[None], None] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def is_full(self) -> bool:
        """Whether all connections together have as many calls as there may be."""
        return self._calls.count >= self._calls.most

    def begin(self, call: Call, request: Any) -> None:
        self._calls.count += 1
        call.task = task = self._loop.create_task(self._answer(call, request))
        self._tasks[task] = None
        task.add_done_callback(self._done)

    def expect(self, call: Call, within_s: float) -> None:
        """The caller waits no longer than this."""
        call.timer = self._loop.call_later(within_s, self._be_late, call)

    def cancel(self) -> None:
        """End all of them."""
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> None:
        """Return once none is left."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._calls.count -= 1
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a call was left without its answer", exc_info=error)

    async def _answer(self, call: Call, request: Any) -> None:
        rpc = call.rpc
        try:
            if rpc.streams:
                async with aclosing(rpc.answer(request, call)) as messages:
                    async for message in messages:
                        await call.send(message)
                call.finish()
            else:
                call.reply(await rpc.answer(request, call))
        except Ended as ended:
            call.fail(ended)
        except asyncio.CancelledError:
            call.fail(_LATE if call.is_late else CLOSING)
            raise
        except Exception as error:
            logger.exception("%s failed", call.head.path)
            call.fail(Ended(Status.INTERNAL, f"internal error: {type(error).__name__}"))

    def _be_late(self, call: Call) -> None:
        call.is_late = True
        if call.task is None:
            call.fail(_LATE)
        else:
            call.task.cancel()
