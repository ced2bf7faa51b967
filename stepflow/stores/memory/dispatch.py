"""Tasks that the engines of a memory store hand to each other."""

from collections.abc import Sequence
from itertools import count, islice

from stepflow.protocols import LAST_ATTEMPT, PAGE, announced_topic, answers_topic, offers_topic
from stepflow.records import Answer, Offer, TaskId
from stepflow.stores.memory.tables import StoredOffer, Tables


class MemoryDispatch:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._answered = count(1)

    async def offer(self, owner: str, offers: Sequence[Offer]) -> None:
        for offer in offers:
            before = self._tables.offers.get(offer.task_id)
            if before is not None and before.offer.attempt >= offer.attempt:
                continue
            self._tables.offers.pop(offer.task_id, None)
            self._tables.offers[offer.task_id] = StoredOffer(offer, owner)
            self._tables.signals.send(offers_topic(offer.queue))

    async def claim(self, owner: str, queue: str, *, limit: int = 1) -> Sequence[Offer]:
        if owner not in self._tables.engines:
            return []
        free = (one for one in self._tables.offers.values() if one.offer.queue == queue and self._is_free(one, owner))
        claimed = list(islice(free, limit))
        for one in claimed:
            one.claimed_by = owner
        return [one.offer for one in claimed]

    def _is_free(self, one: StoredOffer, owner: str) -> bool:
        return (
            one.answer is None
            and one.offered_by != owner
            and (one.claimed_by is None or (one.claimed_by != owner and not self._tables.is_alive(one.claimed_by)))
            and self._tables.is_alive(one.offered_by)
        )

    async def give_back(self, owner: str, offers: Sequence[Offer]) -> None:
        for offer in offers:
            one = self._tables.offers.get(offer.task_id)
            if one is not None and one.claimed_by == owner and one.offer.attempt == offer.attempt:
                one.claimed_by = None
                self._tables.signals.send(offers_topic(offer.queue))

    async def give_back_others(self, owner: str, queue: str, known: Sequence[Offer]) -> None:
        kept = {(offer.task_id, offer.attempt) for offer in known}
        claimed = [one.offer for one in self._tables.offers.values() if one.claimed_by == owner and one.answer is None]
        others = [one for one in claimed if one.queue == queue and (one.task_id, one.attempt) not in kept]
        await self.give_back(owner, others)

    async def answer(self, answer: Answer) -> bool:
        one = self._tables.offers.get(answer.task_id)
        if one is None or one.answer is not None or one.offer.attempt != answer.attempt:
            return False
        one.answer = answer
        one.answered = next(self._answered)
        owner = self._tables.owner_of(answer.run_id)
        if owner is not None:
            self._tables.signals.send(answers_topic(owner))
        return True

    async def answers(self, owner: str, *, limit: int = PAGE) -> Sequence[Answer]:
        tables = self._tables
        mine = [one for one in tables.offers.values() if one.answer and tables.owner_of(one.offer.run_id) == owner]
        return [one.answer for one in sorted(mine, key=lambda one: one.answered)[:limit] if one.answer]

    async def take_back(self, owner: str, task_ids: Sequence[TaskId]) -> Sequence[TaskId]:
        back = [id for id in task_ids if (one := self._tables.offers.get(id)) and self._is_nobodys(one, owner)]
        await self.withdraw(back)
        return back

    def _is_nobodys(self, one: StoredOffer, owner: str) -> bool:
        has_claimer = one.claimed_by is not None and self._tables.is_alive(one.claimed_by)
        return one.offered_by == owner and one.answer is None and not has_claimer

    async def withdraw(self, task_ids: Sequence[TaskId], *, through: int = LAST_ATTEMPT) -> None:
        for task_id in task_ids:
            one = self._tables.offers.get(task_id)
            if one is not None and one.offer.attempt <= through:
                del self._tables.offers[task_id]

    async def announce(self, owner: str, queue: str, listed: bytes) -> None:
        self._tables.announced.setdefault(queue, {})[owner] = listed
        self._tables.signals.send(announced_topic(queue))

    async def announced(self, owner: str, queue: str) -> Sequence[bytes]:
        told = self._tables.announced.get(queue, {})
        for gone in [name for name in told if name not in self._tables.engines]:
            del told[gone]
        return [told[name] for name in sorted(told) if name != owner and self._tables.is_alive(name)]
