"""Messages to the owners of the runs in a SQLite file."""

import sqlite3
from collections.abc import Sequence

from stepflow.protocols import PAGE, inbox_topic
from stepflow.records import Message, RunStatus
from stepflow.stores.sqlite.file import SqliteFile
from stepflow.stores.sqlite.signals import SqliteSignals
from stepflow.stores.sqlite.statements import statement


class SqliteInbox:
    """Anybody who can write to the file may send."""

    def __init__(self, file: SqliteFile, signals: SqliteSignals) -> None:
        self._file = file
        self._signals = signals

    async def send(self, message: Message) -> bool:
        now = self._file.clock.now()
        owner = await self._file.write(lambda conn: _keep(conn, message, now), by_readers=True)
        if owner is None:
            return False
        self._signals.send(inbox_topic(owner))
        return True

    async def receive(self, owner: str, *, limit: int = PAGE) -> Sequence[Message]:
        asked = (owner, limit)
        rows = await self._file.ask(lambda conn: conn.execute(statement("receive_messages"), asked).fetchall())
        return [Message(id=id, run_id=run_id, kind=kind, payload=payload) for id, run_id, kind, payload in rows]

    async def done(self, messages: Sequence[Message]) -> None:
        ids = [(message.id,) for message in messages]
        if ids:
            await self._file.write(lambda conn: conn.executemany(statement("remove_message"), ids))


def _keep(conn: sqlite3.Connection, message: Message, now: float) -> str | None:
    """The run's owner; None: there is nobody to tell."""
    found = conn.execute(statement("find_owner"), (message.run_id,)).fetchone()
    if found is None or RunStatus(found[2]).is_terminal:
        return None
    row = (message.id, message.run_id, message.kind, message.payload, now)
    conn.execute(statement("send_message"), row)
    owner: str = found[0]
    return owner
