"""Tasks that nobody here can do: there is no other engine in a SQLite file to offer them to."""

from collections.abc import Sequence

from stepflow.protocols import PAGE
from stepflow.records import Answer, Offer, TaskId


class SqliteDispatch:
    """Nobody takes an offer, so nobody answers one."""

    async def offer(self, owner: str, offers: Sequence[Offer]) -> None:
        return None

    async def claim(self, owner: str, queue: str, *, limit: int = 1) -> Sequence[Offer]:
        return []

    async def give_back(self, owner: str, offers: Sequence[Offer]) -> None:
        return None

    async def answer(self, answer: Answer) -> bool:
        return False

    async def answers(self, owner: str, *, limit: int = PAGE) -> Sequence[Answer]:
        return []

    async def withdraw(self, task_ids: Sequence[TaskId]) -> None:
        return None
