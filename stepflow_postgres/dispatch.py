"""Tasks that engines hand to each other, in a table that many take from at once."""

from collections.abc import Sequence

from stepflow.protocols import LAST_ATTEMPT, PAGE, announced_topic, answers_topic, offers_topic
from stepflow.records import Answer, Offer, TaskId
from stepflow_postgres.arrays import blobs, ints, texts
from stepflow_postgres.connection import Database
from stepflow_postgres.escape import escaped, plain
from stepflow_postgres.signals import PostgresSignals


class PostgresDispatch:
    def __init__(self, database: Database, signals: PostgresSignals) -> None:
        self._database = database
        self._signals = signals

    async def offer(self, owner: str, offers: Sequence[Offer]) -> None:
        newest = _newest(offers)
        if not newest:
            return
        await self._database.write(
            "offer_tasks",
            {
                "owner": escaped(owner),
                "task_ids": texts([offer.task_id for offer in newest]),
                "attempts": ints([offer.attempt for offer in newest]),
                "run_ids": texts([offer.run_id for offer in newest]),
                "queues": texts([escaped(offer.queue) for offer in newest]),
                "bodies": blobs([offer.body for offer in newest]),
            },
        )
        self._signals.send(offers_topic(offer.queue) for offer in newest)

    async def claim(self, owner: str, queue: str, *, limit: int = 1) -> Sequence[Offer]:
        asked = {"owner": escaped(owner), "queue": escaped(queue), "limit": limit}
        rows = await self._database.write("claim_offers", asked)
        return [
            Offer(task_id=task_id, attempt=attempt, run_id=run_id, queue=queue, body=body)
            for _, task_id, attempt, run_id, body in sorted(rows)
        ]

    async def give_back(self, owner: str, offers: Sequence[Offer]) -> None:
        if not offers:
            return
        given = {
            "owner": escaped(owner),
            "task_ids": texts([offer.task_id for offer in offers]),
            "attempts": ints([offer.attempt for offer in offers]),
        }
        rows = await self._database.write("give_back_offers", given)
        self._signals.send(offers_topic(plain(queue)) for (queue,) in rows)

    async def give_back_others(self, owner: str, queue: str, known: Sequence[Offer]) -> None:
        kept = {
            "owner": escaped(owner),
            "queue": escaped(queue),
            "task_ids": texts([offer.task_id for offer in known]),
            "attempts": ints([offer.attempt for offer in known]),
        }
        if await self._database.write("give_back_other_offers", kept):
            self._signals.send([offers_topic(queue)])

    async def answer(self, answer: Answer) -> bool:
        given = {"task_id": answer.task_id, "attempt": answer.attempt, "body": answer.body}
        rows = await self._database.write("answer_offer", given)
        self._signals.send(answers_topic(plain(owner)) for (owner,) in rows if owner is not None)
        return bool(rows)

    async def answers(self, owner: str, *, limit: int = PAGE) -> Sequence[Answer]:
        rows = await self._database.ask("receive_answers", {"owner": escaped(owner), "limit": limit})
        return [
            Answer(task_id=task_id, attempt=attempt, run_id=run_id, body=body)
            for task_id, attempt, run_id, body in rows
        ]

    async def take_back(self, owner: str, task_ids: Sequence[TaskId]) -> Sequence[TaskId]:
        if not task_ids:
            return []
        given = {"owner": escaped(owner), "task_ids": texts(task_ids)}
        back = {task_id for (task_id,) in await self._database.write("take_back_offers", given)}
        return [task_id for task_id in task_ids if task_id in back]

    async def withdraw(self, task_ids: Sequence[TaskId], *, through: int = LAST_ATTEMPT) -> None:
        if task_ids:
            await self._database.write("withdraw_offers", {"task_ids": texts(task_ids), "through": through})

    async def announce(self, owner: str, queue: str, listed: bytes) -> None:
        await self._database.write(
            "announce_components", {"owner": escaped(owner), "queue": escaped(queue), "listed": listed}
        )
        self._signals.send([announced_topic(queue)])

    async def announced(self, owner: str, queue: str) -> Sequence[bytes]:
        rows = await self._database.ask("announced_components", {"owner": escaped(owner), "queue": escaped(queue)})
        return [listed for (listed,) in rows]


def _newest(offers: Sequence[Offer]) -> list[Offer]:
    """The last attempt of each task: one statement can change a row only once."""
    newest: dict[TaskId, Offer] = {}
    for offer in offers:
        known = newest.get(offer.task_id)
        if known is None or known.attempt < offer.attempt:
            newest[offer.task_id] = offer
    return list(newest.values())
