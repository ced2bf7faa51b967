"""What an engine has claimed of others' tasks in one queue, so that none stays with it which it does not know of."""

import logging
from collections.abc import Callable, Sequence

import anyio
from anyio.abc import TaskGroup
from msgspec.structs import replace

from stepflow.errors import StoreError
from stepflow.execution.patience import patiently
from stepflow.protocols import Clock, Dispatch
from stepflow.records import Offer, TaskId

logger = logging.getLogger("stepflow.engine")

LATE_S = 30.0
"""How long after a claim failed it may still be carried out: it was on its way, or the server had not ended it."""


class Claims:
    """The claims of one engine in one queue.

    A claim whose answer is lost may have been carried out. What it took is freed at once, and after a while again.
    """

    def __init__(
        self, dispatch: Dispatch, clock: Clock, tasks: TaskGroup, owner: Callable[[], str], queue: str
    ) -> None:
        self._dispatch = dispatch
        self._clock = clock
        self._tasks = tasks
        self._owner = owner
        self._queue = queue
        self._known: dict[tuple[TaskId, int], Offer] = {}
        self._claiming = anyio.Lock()  # what is free can be told only while no claim is on its way
        self._failures = 0
        self._is_following_up = False

    async def settled(self) -> None:
        """Wait until nothing is being freed: whoever holds credit shall not."""
        async with self._claiming:
            return

    async def take(self, limit: int) -> Sequence[Offer]:
        """Offers that nobody has, until `done`; none while the store does not say."""
        async with self._claiming:
            try:
                taken = await self._dispatch.claim(self._owner(), self._queue, limit=limit)
            except StoreError as error:
                logger.warning("no offers can be taken now: %s", error)
                taken = []
                self._failed()
            for offer in taken:
                self._known[offer.task_id, offer.attempt] = replace(offer, body=b"")
        return taken

    def done(self, offer: Offer) -> None:
        """It was answered durably."""
        self._known.pop((offer.task_id, offer.attempt), None)

    def _failed(self) -> None:
        self._failures += 1
        self._tasks.start_soon(self._free_lost)
        if not self._is_following_up:
            self._is_following_up = True
            self._tasks.start_soon(self._follow_up)

    async def _follow_up(self) -> None:
        seen = 0
        while seen != self._failures:
            seen = self._failures
            await self._clock.sleep(LATE_S)
        self._is_following_up = False
        await self._free_lost()

    async def _free_lost(self) -> None:
        async with self._claiming:
            try:
                await patiently(self._clock, self._give_back_others)
            except StoreError as error:
                logger.warning("what the last claim of offers took is not freed: %s", error)

    async def _give_back_others(self) -> None:
        await self._dispatch.give_back_others(self._owner(), self._queue, list(self._known.values()))
