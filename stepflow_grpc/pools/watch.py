"""Tells people how queues are served, whenever that has changed."""

from collections.abc import Callable, Sequence

from stepflow.protocols import Clock
from stepflow_grpc.pools.board import QueueRow, change, why_unserved

LOOKS_S = 0.5

PATIENCE_S = 5.0
"""A change is told when it has held for one look, or after so long: twenty workers that start are not twenty lines."""

_Face = tuple[object, ...]


async def watch(
    rows: Callable[[], Sequence[QueueRow]],
    explain: Callable[[str, str | None], None],
    tell: Callable[[str], None],
    clock: Clock,
    url: str,
) -> None:
    """Until it is cancelled. How it is at first is taken as told.

    Args:
        explain: takes a queue's name and why it has no worker, or None.
        tell: takes a line.
        url: where workers find the server.
    """
    told = {row.queue: _face(row) for row in rows()}
    seen = dict(told)
    since: dict[str, float] = {}
    while True:
        await clock.sleep(LOOKS_S)
        found = rows()
        for row in found:
            explain(row.queue, why_unserved(row))
            face, before = _face(row), seen.get(row.queue)
            seen[row.queue] = face
            if face == told.get(row.queue):
                since.pop(row.queue, None)
            elif face == before or clock.now() - since.setdefault(row.queue, clock.now()) >= PATIENCE_S:
                told[row.queue] = face
                since.pop(row.queue, None)
                tell(change(row, found, url))


def _face(row: QueueRow) -> _Face:
    """What of a queue people want to hear of."""
    return (row.workers, row.slots, row.service)
