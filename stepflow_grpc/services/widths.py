"""What workers that know only the protocol can't take: larger messages than gRPC takes by itself, and deep values."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from stepflow.records import ErrorCode, Failed, Task
from stepflow_grpc.wire import UnfitError

USUAL_BYTES = 4 * 1024 * 1024
"""What gRPC takes by itself, and with it workers that were written for the reference system."""

BREAKS = 2
"""So many connections have to break while such a message is on them: one may do so by chance."""

MOST_KNOWN = 10_000


_REMEDY = "or let `stepflow worker` serve the queue"


def unfit(task: Task, reason: UnfitError) -> Failed:
    """The outcome of a task whose input no message of the protocol carries."""
    text = f"the input of step {task.step_id!r} can't be sent to this kind of worker: {reason}. Pass it as JSON text, "
    return Failed(ErrorCode.INVALID_INPUT, text + _REMEDY)


class Widths:
    """A worker whose gRPC refuses a message loses its connection, comes back, and says nothing of the reason.

    It would be sent the same task again and again, and some give up after a number of connections.
    """

    def __init__(self) -> None:
        self._breaks: OrderedDict[str, int] = OrderedDict()

    def broke(self, worker: str, unclaimed: Iterable[Any]) -> None:
        """A worker's connection is gone, and it has claimed none of these messages."""
        if any(message.ByteSize() > USUAL_BYTES for message in unclaimed):
            self._breaks[worker] = self._breaks.pop(worker, 0) + 1
            if len(self._breaks) > MOST_KNOWN:
                self._breaks.popitem(last=False)

    def refusal(self, worker: str, message: Any) -> Failed | None:
        """The outcome of a task that a worker can't take; None: it may be able to."""
        if self._breaks.get(worker, 0) < BREAKS or (size := message.ByteSize()) <= USUAL_BYTES:
            return None
        return Failed(
            ErrorCode.INVALID_INPUT,
            f"the input of step {message.execute.observability.step_id!r} makes a message of {size / 1024**2:.1f} MiB, "
            f"and worker {worker!r} seems to take {USUAL_BYTES / 1024**2:.0f} MiB at most, gRPC's own limit: twice "
            "its connection broke over more. Pass large documents as blobs, whose ids the component reads; "
            f"{_REMEDY}; or raise grpc.max_receive_message_length at the worker",
        )
