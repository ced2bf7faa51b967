"""Which engine has which run, and what others ask of it."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from stepflow.protocols.store import PAGE
from stepflow.records import JOURNAL_FORMAT, EngineRecord, Lease, Message, Ownership, RunId, RunRecord


class Owners(Protocol):
    """Which engine may write to which run. An engine makes itself known, is heard of, and takes over what others left.

    An engine that is not heard of for its time to live, by the store's own clock, is dead: it may be fenced, which
    means that nothing it writes is taken any more, whatever it believes.
    """

    async def enter(self, engine: EngineRecord, *, ttl_s: float) -> EngineRecord:
        """Make an engine known, and give its row. It may be dead after `ttl_s` seconds without `beat`.

        Engines of the same name are fenced at once: the operator's word that they are gone. In a store that only one
        engine at a time can open, all others are.
        """
        ...

    async def beat(self, owner: str) -> bool:
        """Say that the engine lives, for another time to live. False: it was fenced, and its runs are others'."""
        ...

    def keep_alive(self, owner: str) -> AbstractAsyncContextManager[None]:
        """While inside, the engine is heard of even where its threads get no turn to run.

        It is heard of no longer than its process exists and is not stopped. A store that only one engine can open
        needs to do nothing.
        """
        ...

    async def leave(self, owner: str) -> None:
        """The engine goes in an orderly way: its runs are free at once."""
        ...

    async def announce(self, owner: str, url: str | None) -> None:
        """The engine can be reached there from now on. An engine that was fenced says it in vain."""
        ...

    async def claim(
        self,
        owner: str,
        *,
        root_id: RunId | None = None,
        limit: int = 100,
        journal_format: int = JOURNAL_FORMAT,
    ) -> Sequence[tuple[RunRecord, Lease]]:
        """Take over the unfinished runs of at most `limit` trees whose owner is dead or has left, oldest trees first.

        Only trees of the engine's own group whose journal format is at most `journal_format`; with `root_id` that one
        tree, whatever its group. A tree is a root run and its sub-runs, and goes as a whole. Dead owners are fenced,
        each run gets a lease with a higher epoch and one more claim, in one transaction: what a former owner still
        writes is refused. Engines that claim at the same moment do not wait for each other and never get the same run.
        Runs that were taken by a call whose answer was lost are given by the next.
        """
        ...

    async def ownership(self, run_id: RunId) -> Ownership | None:
        """Who has a run; None: no run has this id."""
        ...

    async def engines(self) -> Sequence[EngineRecord]:
        """Those that are alive, oldest first."""
        ...


class Inbox(Protocol):
    """Messages to the owners of runs. Only an owner writes to a run's journal; others ask for what they want here."""

    async def send(self, message: Message) -> bool:
        """Keep a message until the run's owner has done what it says; durable when this returns.

        False: there is no such run or it has ended, and nothing was kept.
        """
        ...

    async def receive(self, owner: str, *, limit: int = PAGE) -> Sequence[Message]:
        """Messages to the runs that this engine owns, in the order they were sent, at most `limit`.

        They are given again until they are `done`. Those to runs that have ended are among them.
        """
        ...

    async def done(self, messages: Sequence[Message]) -> None:
        """What these say has been done, durably."""
        ...
