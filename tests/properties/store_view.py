"""What an engine believes of a run that it drives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stepflow.protocols import Backend
from stepflow.records import Entries, Lease, RunId, RunStatus, Write
from stepflow.testing.suites.writes import write

STATUS_OF = {"cancel": RunStatus.CANCELLED, "pause": RunStatus.PAUSED, "resume": RunStatus.RUNNING}


@dataclass
class View:
    """What an engine believes of a run that it drives. It may have lost the run without knowing."""

    run_id: RunId
    root_id: RunId
    lease: Lease
    total: int
    last: int = 0
    status: RunStatus = RunStatus.RUNNING
    done: list[int] = field(default_factory=list)

    @property
    def open(self) -> list[int]:
        return [item for item in range(self.total) if item not in self.done]

    def write(self, kind: str, by: int, item: int = -1, **more: Any) -> Write:
        entry = {"kind": kind, "item": item, "by": by, "done": sorted(self.done), "status": self.status}
        return write(self.run_id, self.last + 1, [entry], lease=self.lease, items=(item, item), **more)

    def apply(self, entry: dict[str, Any]) -> None:
        """What the journal says, as an engine that takes the run over reads it."""
        match entry["kind"]:
            case "completed":
                self.done.append(entry["item"])
            case "pause" | "resume" | "cancel" as kind:
                self.status = STATUS_OF[kind]
            case "checkpoint":
                self.done = list(entry["done"])
                self.status = RunStatus(entry["status"])


async def read(store: Backend, run_id: RunId) -> Sequence[Entries]:
    """All rows that are still needed, read in small pages."""
    rows: list[Entries] = []
    after = 0
    while page := await store.journal.read(run_id, after=after, limit=3):
        rows += page
        after = page[-1].first + page[-1].count - 1
    return rows
