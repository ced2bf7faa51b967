"""Messages to the owners of the runs of a memory store."""

from collections.abc import Sequence
from itertools import islice

from stepflow.protocols import PAGE, inbox_topic
from stepflow.records import Message
from stepflow.stores.memory.tables import Tables


class MemoryInbox:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def send(self, message: Message) -> bool:
        run = self._tables.runs.get(message.run_id)
        if run is None or run.record.status.is_terminal:
            return False
        self._tables.messages.setdefault(message.id, message)
        self._tables.signals.send(inbox_topic(run.lease.owner))
        return True

    async def receive(self, owner: str, *, limit: int = PAGE) -> Sequence[Message]:
        tables = self._tables
        mine = (message for message in tables.messages.values() if tables.owner_of(message.run_id) == owner)
        return list(islice(mine, limit))

    async def done(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._tables.messages.pop(message.id, None)
