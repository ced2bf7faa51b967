"""Tasks that the engine of a SQLite file finds nobody for. There is no other engine to take them."""

import sqlite3
from collections.abc import Sequence

from stepflow.protocols import LAST_ATTEMPT, PAGE, answers_topic, offers_topic
from stepflow.records import Answer, Offer, TaskId
from stepflow.stores.sqlite.file import SqliteFile
from stepflow.stores.sqlite.signals import SqliteSignals
from stepflow.stores.sqlite.statements import statement


class SqliteDispatch:
    """Nobody claims, as nobody's own offers are given to him; but an answer is kept, whoever brings it."""

    def __init__(self, file: SqliteFile, signals: SqliteSignals) -> None:
        self._file = file
        self._signals = signals

    async def offer(self, owner: str, offers: Sequence[Offer]) -> None:
        rows = [(offer.task_id, offer.attempt, offer.run_id, offer.queue, offer.body, owner) for offer in offers]
        if rows:
            await self._file.write(lambda conn: conn.executemany(statement("offer_task"), rows))
        for queue in dict.fromkeys(offer.queue for offer in offers):
            self._signals.send(offers_topic(queue))

    async def claim(self, owner: str, queue: str, *, limit: int = 1) -> Sequence[Offer]:
        return []

    async def give_back(self, owner: str, offers: Sequence[Offer]) -> None:
        return None

    async def give_back_others(self, owner: str, queue: str, known: Sequence[Offer]) -> None:
        return None

    async def answer(self, answer: Answer) -> bool:
        owner = await self._file.write(lambda conn: _keep(conn, answer))
        if owner is None:
            return False
        self._signals.send(answers_topic(owner))
        return True

    async def answers(self, owner: str, *, limit: int = PAGE) -> Sequence[Answer]:
        asked = (owner, limit)
        rows = await self._file.ask(lambda conn: conn.execute(statement("select_answers"), asked).fetchall())
        return [Answer(task_id=id, attempt=attempt, run_id=run, body=body) for id, attempt, run, body in rows]

    async def take_back(self, owner: str, task_ids: Sequence[TaskId]) -> Sequence[TaskId]:
        return await self._file.write(lambda conn: [id for id in task_ids if _take_back(conn, id, owner)])

    async def announce(self, owner: str, queue: str, listed: bytes) -> None:
        return None

    async def announced(self, owner: str, queue: str) -> Sequence[bytes]:
        return []

    async def withdraw(self, task_ids: Sequence[TaskId], *, through: int = LAST_ATTEMPT) -> None:
        ids = [(id, through) for id in task_ids]
        if ids:
            await self._file.write(lambda conn: conn.executemany(statement("withdraw_task"), ids))


def _take_back(conn: sqlite3.Connection, task_id: TaskId, owner: str) -> bool:
    return bool(conn.execute(statement("take_back_task"), (task_id, owner)).rowcount)


def _keep(conn: sqlite3.Connection, answer: Answer) -> str | None:
    """The owner of the run that the answer is for; None: nobody waits for it."""
    if not conn.execute(statement("answer_task"), (answer.body, answer.task_id, answer.attempt)).rowcount:
        return None
    found = conn.execute(statement("find_owner"), (answer.run_id,)).fetchone()
    return "" if found is None else str(found[0])
