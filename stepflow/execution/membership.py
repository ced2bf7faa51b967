"""An engine among others: it is heard of, takes over what others left, and does what it is asked."""

import logging
import os
import socket
from collections.abc import Awaitable, Callable

import anyio
import msgspec

from stepflow.errors import SecretKeyError, StoreError
from stepflow.execution.answers import Answers
from stepflow.execution.executor import Executor
from stepflow.execution.live import LiveRun
from stepflow.execution.options import RecoverySettings, RetentionSettings
from stepflow.execution.patience import patiently
from stepflow.execution.recovery import Recovery
from stepflow.protocols import Backend, Chance, Clock, inbox_topic
from stepflow.records import (
    DEFAULT_GROUP,
    EngineRecord,
    ErrorCode,
    Failed,
    Lease,
    Message,
    MessageKind,
    RunId,
    RunRecord,
    RunStatus,
)

logger = logging.getLogger("stepflow.engine")

INBOX_POLL_S = 1.0
"""How often an inbox is looked into when no signal comes."""

PRUNED_AT_ONCE = 100


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine is known to others."""

    name: str | None = None  # None: no start is like another
    group: str = DEFAULT_GROUP
    url: str | None = None


class Membership:
    """The place of one engine among those that share its store. A fenced engine gives up its runs and begins anew."""

    def __init__(
        self,
        *,
        backend: Backend,
        executor: Executor,
        clock: Clock,
        chance: Chance,
        identity: Identity,
        settings: RecoverySettings,
        retention: RetentionSettings | None,
    ) -> None:
        self.recovery: Recovery  # set by whoever builds it, which needs `heed`
        self.answers: Answers  # set with it
        self.identity = identity
        self.recovers = settings.enabled
        self._backend = backend
        self._executor = executor
        self._clock = clock
        self._chance = chance
        self._settings = settings
        self._retention = retention
        self._engine = EngineRecord(owner="", name="")
        self._fenced = anyio.Event()
        self._is_heard = anyio.Event()

    @property
    def owner(self) -> str:
        return self._engine.owner

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def lease(self) -> Lease:
        """Under which runs that begin here are written."""
        return Lease(self._engine.owner, 1)

    async def enter(self) -> None:
        """Become known, under an owner's name that nobody had before."""
        owner = self._chance.run_id(self._clock.now())
        engine = EngineRecord(
            owner=owner,
            name=self.identity.name or owner,
            group=self.identity.group,
            url=self.identity.url,
            place=f"{socket.gethostname()}:{os.getpid()}" if self._backend.is_shared else f"process {os.getpid()}",
            started_at=self._clock.now(),
        )
        asked_at = self._clock.now()
        self._engine = await self._backend.owners.enter(engine, ttl_s=self._settings.lease_ttl_s)
        self._fenced = anyio.Event()
        self._heard(asked_at)

    def _heard(self, asked_at: float) -> None:
        """The store has said that this engine is alive: nobody takes its runs over before its time to live is over."""
        if self._backend.is_shared:
            self._executor.term.until = asked_at + self._settings.lease_ttl_s
            self._executor.term.confirmed = self._confirmed
            heard, self._is_heard = self._is_heard, anyio.Event()
            heard.set()

    async def _confirmed(self) -> None:
        """Wait for the store's word on a beat that was sent in time. Runs that others have are gone then."""
        while self._executor.term.until is not None and self._clock.now() > self._executor.term.until:
            await self._is_heard.wait()

    async def renewed(self, owner: str) -> None:
        """Wait until this engine has another owner's name than this one, which was fenced."""
        if self.owner == owner:
            self._fenced.set()
        while self.owner == owner:
            await self._clock.sleep(self._settings.check_interval_s / 4)

    async def announce(self, url: str) -> None:
        """Be reachable there from now on, also where this engine has to begin anew."""
        self.identity = msgspec.structs.replace(self.identity, url=url)
        await self._backend.owners.announce(self.owner, url)

    async def leave(self) -> None:
        """Set free what this engine has."""
        await self._backend.owners.leave(self.owner)

    async def recover(
        self, *, root_id: RunId | None = None, limit: int | None = None, is_held: bool = False
    ) -> "list[RunId]":
        """Take over runs that nobody drives; see `Recovery.recover`."""
        found = await self.recovery.recover(
            self.owner, self.name, root_id=root_id, limit=limit or 1_000_000, is_held=is_held
        )
        return list(found)

    async def recover_at_start(self) -> None:
        if self.recovers and self._settings.max_startup_recovery:
            await patiently(self._clock, lambda: self.recover(limit=self._settings.max_startup_recovery))

    async def serve(self) -> None:
        """All that goes on for as long as the engine is open."""
        async with anyio.create_task_group() as tasks:
            if self._backend.is_shared:
                tasks.start_soon(self._stay_alive)
                if self.recovers:
                    tasks.start_soon(self._forever, self._take_over, self._settings.check_interval_s)
            elif self.recovers:
                tasks.start_soon(self._take_over_the_rest)
            if self._backend.is_durable or self._backend.is_shared:
                tasks.start_soon(self._read_inbox)
            if self._retention is not None:
                tasks.start_soon(self._forever, self._prune, self._retention.every_s)

    async def _stay_alive(self) -> None:
        """Be heard of, by a helper too, which beats where this process gets no turn."""
        while True:
            owner = self.owner
            async with self._backend.owners.keep_alive(owner), anyio.create_task_group() as tasks:
                tasks.start_soon(self._beat, owner)
                await self._fenced.wait()
                tasks.cancel_scope.cancel()
            await self._begin_anew(owner)

    async def _beat(self, owner: str) -> None:
        while True:
            asked_at = self._clock.now()
            try:
                if not await self._backend.owners.beat(owner):
                    self._fenced.set()
                    return
                self._heard(asked_at)
            except StoreError as error:
                logger.warning("the store did not hear that this engine is alive: %s", error)
            await self._clock.sleep(self._settings.lease_ttl_s / 3)

    async def _begin_anew(self, owner: str) -> None:
        logger.warning("engine %s (%s) was taken for dead; its runs are others' now", self.name, owner)
        self._executor.abandon_all()
        while self.owner == owner:
            try:
                await self.enter()
            except StoreError as error:
                logger.warning("the store did not take this engine back: %s", error)
                await self._clock.sleep(self._settings.check_interval_s)

    async def _take_over(self) -> None:
        """All that nobody drives, a few at a time, so that engines that look at the same moment share it."""
        while found := await self.recover(limit=self._settings.max_claims_per_check):
            for root_id in found:
                logger.info("run %s was taken over", root_id)
            await self._clock.sleep(0)

    async def _take_over_the_rest(self) -> None:
        """The runs that were too many at the start, in a store where nobody else comes for them."""
        while True:
            try:
                return await self._take_over()
            except StoreError as error:
                logger.warning("the store failed; it is tried again: %s", error)
                await self._clock.sleep(self._settings.check_interval_s)

    async def _prune(self) -> None:
        rules = self._retention
        assert rules is not None
        retention, now = self._backend.retention, self._clock.now()
        before = None if rules.age_s is None else now - rules.age_s
        while await retention.prune(ended_before=before, keep=rules.keep, limit=PRUNED_AT_ONCE):
            await self._clock.sleep(0)
        if rules.age_s is not None:
            untouched = now - rules.age_s - rules.longest_deadline_s
            while await retention.prune_blobs(untouched_before=untouched, limit=PRUNED_AT_ONCE):
                await self._clock.sleep(0)

    async def _forever(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        """Do something at once, and again and again; a store that fails for a while does not end it."""
        while True:
            try:
                await work()
            except StoreError as error:
                logger.warning("the store failed; it is tried again: %s", error)
            await self._clock.sleep(every_s)

    async def _read_inbox(self) -> None:
        while True:
            owner = self.owner
            with self._backend.signals.listen(inbox_topic(owner)) as listener:
                while self.owner == owner:
                    try:
                        await self.drain()
                    except StoreError as error:
                        logger.warning("the inbox can't be read; it is tried again: %s", error)
                    await listener.wait(INBOX_POLL_S)

    async def drain(self) -> None:
        """Do what was asked of the runs that are driven here."""
        done: list[Message] = []
        for message in await self._backend.inbox.receive(self.owner):
            run = self._executor.live(message.run_id)
            if run is not None:
                self.heed(run, message)
                await self._executor.durable(run)
            elif not await self._has_ended(message.run_id):
                continue  # it is being read; whoever begins it does what is asked
            done.append(message)
        if done:
            await self._backend.inbox.done(done)

    async def _has_ended(self, run_id: RunId) -> bool:
        record = await self._backend.runs.get(run_id)
        return record is None or record.status.is_terminal

    def heed(self, run: LiveRun, message: Message) -> None:
        """Do what a message asks for. Doing it twice does no more than once."""
        match message.kind:
            case MessageKind.CANCEL:
                self._executor.end(run, RunStatus.CANCELLED, CANCELLED)
            case MessageKind.PAUSE:
                self._executor.pause(run)
            case MessageKind.RESUME:
                self._executor.resume(run)
                self.recovery.blocked.look_soon()
            case MessageKind.ANSWER:
                self._heed_answer(run, message)
            case _:
                logger.warning("run %s: a message of kind %r is not known here", run.id, message.kind)

    def _heed_answer(self, run: LiveRun, message: Message) -> None:
        try:
            self.answers.heed(run, message)
        except (SecretKeyError, msgspec.DecodeError, RecursionError) as error:  # the task is done again
            logger.error("run %s: an answer to one of its tasks can't be read: %s", run.id, error)

    async def ask(self, record: RunRecord, kind: MessageKind) -> None:
        """Have something done to a run, whoever drives it; one that has ended stays as it is.

        Returns once it is asked for durably, or done where that is possible here.
        """
        run = self._executor.live(record.id)
        message = Message(id=self._chance.run_id(self._clock.now()), run_id=record.id, kind=kind)
        if run is not None:
            self.heed(run, message)
            await self._executor.durable(run)
            return
        if record.status.is_terminal or not await self._backend.inbox.send(message):
            return
        if kind is MessageKind.CANCEL or not self.recovers:
            await self.recover(root_id=record.root_id, is_held=True)
            run = self._executor.live(record.id)
            if run is not None:
                await self._executor.durable(run)
                await self.drain()


CANCELLED = Failed(ErrorCode.CANCELLED, "the run was cancelled")
