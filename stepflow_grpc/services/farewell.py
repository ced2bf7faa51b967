"""What workers of the reference system are at when the server closes.

They open a connection for each answer. One that is refused is repeated only after four seconds and more, when the next
server has given the task to another.
"""

from collections.abc import Callable, Sequence

from stepflow.protocols import Clock
from stepflow_grpc.queues.records import WorkerKind, WorkerStatistics

LOOK_S = 0.05
_QUIET_LOOKS = 2  # a worker that has answered claims in a moment what it was sent before


async def answered(workers: Callable[[], Sequence[WorkerStatistics]], clock: Clock, *, within_s: float) -> None:
    """Return once they have answered all that they have claimed, or the time is over."""
    quiet = 0
    with clock.timeout(within_s):
        while quiet < _QUIET_LOOKS:
            is_busy = any(worker.claimed and worker.kind is WorkerKind.UPSTREAM for worker in workers())
            quiet = 0 if is_busy else quiet + 1
            await clock.sleep(LOOK_S)
