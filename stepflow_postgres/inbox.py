"""Messages to the owners of runs, in a table that is all but empty."""

from collections.abc import Sequence

from stepflow.protocols import PAGE, inbox_topic
from stepflow.records import Message
from stepflow_postgres.arrays import texts
from stepflow_postgres.connection import Database
from stepflow_postgres.escape import escaped, plain
from stepflow_postgres.signals import PostgresSignals


class PostgresInbox:
    def __init__(self, database: Database, signals: PostgresSignals) -> None:
        self._database = database
        self._signals = signals

    async def send(self, message: Message) -> bool:
        rows = await self._database.write(
            "send_message",
            {
                "id": escaped(message.id),
                "run_id": escaped(message.run_id),
                "kind": escaped(message.kind),
                "payload": message.payload,
            },
        )
        self._signals.send(inbox_topic(plain(owner)) for (owner,) in rows)
        return bool(rows)

    async def receive(self, owner: str, *, limit: int = PAGE) -> Sequence[Message]:
        rows = await self._database.ask("receive_messages", {"owner": escaped(owner), "limit": limit})
        return [
            Message(id=plain(id), run_id=plain(run_id), kind=plain(kind), payload=payload)
            for id, run_id, kind, payload in rows
        ]

    async def done(self, messages: Sequence[Message]) -> None:
        if messages:
            await self._database.write("delete_messages", {"ids": texts([escaped(one.id) for one in messages])})
