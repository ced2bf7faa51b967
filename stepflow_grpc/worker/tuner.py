"""Looks how a worker gets on, and has its slots be as many as are of use."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from stepflow.protocols import Clock
from stepflow.records import Failed, Outcome
from stepflow_grpc.worker.figures import memory_share
from stepflow_grpc.worker.tuning import Sample, Tuning

logger = logging.getLogger("stepflow.worker")

LOOK_S = 2.0


class Slotted(Protocol):
    """What has slots."""

    @property
    def busy(self) -> int:
        """How many are taken."""
        ...

    def resize(self, slots: int) -> None:
        """Have so many from now on."""
        ...


class Tuner:
    """Counts what ends, and looks at the clock and at the memory.

    Args:
        memory: gives the share that is in use, where that is known.
    """

    def __init__(self, first: int, clock: Clock, *, memory: Callable[[], float | None] = memory_share) -> None:
        self._tuning = Tuning(first=first)
        self._clock = clock
        self._memory = memory
        self._ended = self._failed = 0

    @property
    def slots(self) -> int:
        return self._tuning.slots

    async def counted(self, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        """What the work gives."""
        outcome = await work
        self._ended += 1
        self._failed += isinstance(outcome, Failed)
        return outcome

    async def run(self, slotted: Slotted) -> None:
        """Until it is cancelled."""
        while True:
            slots = self.slots
            sample = await self._look(slotted)
            if self._tuning.look(sample) != slots:
                logger.info("slots: %d, until now %d", self.slots, slots)
                slotted.resize(self.slots)

    async def _look(self, slotted: Slotted) -> Sample:
        began, ended, failed = self._clock.now(), self._ended, self._failed
        await self._clock.sleep(LOOK_S)
        seconds = self._clock.now() - began
        return Sample(
            seconds=seconds,
            ended=self._ended - ended,
            failed=self._failed - failed,
            is_full=slotted.busy >= self.slots,
            late_s=seconds - LOOK_S,
            memory=self._memory(),
        )
