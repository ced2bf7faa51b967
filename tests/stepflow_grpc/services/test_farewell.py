"""A server that closes lets workers of the reference system answer what they are at."""

import pytest

from stepflow.clock import SystemClock
from stepflow_grpc.queues.records import WorkerKind, WorkerStatistics
from stepflow_grpc.services.farewell import answered

pytestmark = pytest.mark.anyio


class Workers:
    """One worker, with so many tasks at each look; with the last of them from then on."""

    def __init__(self, *claimed: int, kind: WorkerKind = WorkerKind.UPSTREAM) -> None:
        self.looks = 0
        self._claimed = claimed
        self._kind = kind

    def __call__(self) -> list[WorkerStatistics]:
        claimed = self._claimed[min(self.looks, len(self._claimed) - 1)]
        self.looks += 1
        kind = self._kind
        return [
            WorkerStatistics(
                id="w", kind=kind, queues=("q",), claimed=claimed, unclaimed=0, slots=4, silent_s=0.0, report=None
            )
        ]


async def test_it_is_over_when_nothing_is_claimed_any_more_nor_a_moment_later() -> None:
    workers = Workers(4, 2, 0, 1, 0, 0, 5)

    await answered(workers, SystemClock(), within_s=60.0)

    assert workers.looks == 6


async def test_it_is_over_when_the_time_is() -> None:
    workers = Workers(1)

    await answered(workers, SystemClock(), within_s=0.12)

    assert workers.looks >= 1


async def test_our_workers_are_not_waited_for_since_they_keep_their_answers() -> None:
    workers = Workers(3, kind=WorkerKind.OURS)

    await answered(workers, SystemClock(), within_s=60.0)

    assert workers.looks == 2
