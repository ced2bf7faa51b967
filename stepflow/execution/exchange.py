"""Where the tasks of all engines that share a store meet the workers of all.

A task whose own engine has had nobody for it for a moment is offered to the others, if there are any; an engine with
workers to spare takes offers. The engine that offered a task stays the one that records what came of it.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

import anyio
from anyio.abc import TaskGroup

from stepflow.errors import SecretKeyError, StoreError
from stepflow.execution.claims import Claims
from stepflow.execution.envelope import Envelope
from stepflow.execution.patience import patiently
from stepflow.protocols import NOT_DONE, Backend, Clock, Credit, Work, announced_topic, answers_topic, offers_topic
from stepflow.records import Answer, Offer, RunId, TaskId

logger = logging.getLogger("stepflow.engine")

OFFERED_AFTER_S = 0.05
"""How long a task waits for a worker of its own engine before it is offered to others."""

LOOK_S = 1.0
"""How often to look for offers and answers when no signal comes."""

TAKEN_BACK_WITHIN_S = 5.0
"""How long a cancelled step waits to know whether its task is back."""

MOST_TAKEN = 64
"""How many offers are taken at once."""

FOLLOW_S = 5.0
"""The same for what others' workers can do."""


class EngineExchange:
    """The exchange as one engine takes part in it."""

    def __init__(
        self, backend: Backend, clock: Clock, tasks: TaskGroup, owner: Callable[[], str], envelope: Envelope
    ) -> None:
        self.kept: Callable[[RunId, TaskId], None] = lambda run_id, task_id: None  # told of answers to others' tasks
        self._envelope = envelope
        self._backend = backend
        self._dispatch = backend.dispatch
        self._clock = clock
        self._tasks = tasks
        self._owner = owner
        self._waiting: dict[TaskId, _Wait] = {}
        self._early: dict[TaskId, Answer] = {}  # to tasks of runs that were taken over and have not begun again
        self._answered: dict[TaskId, int] = {}  # by attempt; what came of them is not recorded yet
        self._withdrawing: dict[TaskId, anyio.Event] = {}
        self._claims: dict[str, Claims] = {}  # by queue
        self._is_listening = False
        self._asking = anyio.Lock()
        self._asked_at: float | None = None
        self._others = False  # as of then
        self._listed: dict[str, bytes] = {}  # what the workers of each queue can do
        self._announced: dict[str, tuple[str, bytes]] = {}  # by whom it was said, and what

    async def perform(self, offer: Offer, credit: Credit, work: Work) -> bytes:
        if offer.attempt > 1:
            await self._withdrawn(offer.task_id)
            await patiently(self._clock, self._collect)
        early = self._early.pop(offer.task_id, None)
        if early is not None:
            self._answered[offer.task_id] = early.attempt
            with suppress(SecretKeyError):  # sealed with a key that is used no more: the task is done again
                return self._envelope.opened(early.body)
        if await self._acquired(credit):
            return await self._work(offer.body, credit, work)
        closed = self._envelope.closed(offer)
        if closed is None:
            await credit.acquire()
            return await self._work(offer.body, credit, work)
        return await self._offered(offer, closed, credit, work)

    async def _acquired(self, credit: Credit) -> bool:
        """Whether there is a worker here; False once there is none while other engines may have one."""
        wait_s = OFFERED_AFTER_S if self._backend.is_shared else _FOREVER_S
        while True:
            with self._clock.timeout(wait_s):
                await credit.acquire()
                return True
            if await self._has_others():
                return False
            wait_s = LOOK_S

    async def _has_others(self) -> bool:
        """Whether more engines use the store: where there are none, nothing has to be written for them."""
        async with self._asking:
            now = self._clock.now()
            if self._asked_at is None or not 0 <= now - self._asked_at < LOOK_S:
                try:
                    engines = await self._backend.owners.engines()
                except StoreError:
                    return True
                self._others = any(engine.owner != self._owner() for engine in engines)
                self._asked_at = now
        return self._others

    async def serve(self, queue: str, credit: Credit, work: Work) -> None:
        async with anyio.create_task_group() as tasks:
            for name in self._envelope.queues(queue):
                tasks.start_soon(self._serve_queue, name, credit, work, tasks)

    async def _serve_queue(self, queue: str, credit: Credit, work: Work, tasks: TaskGroup) -> None:
        claims = self._claims_of(queue)
        while True:
            with self._backend.signals.listen(offers_topic(queue)) as listener:
                most = 1
                while await self._take(claims, most, credit, work, tasks):
                    most = min(2 * most, MOST_TAKEN)
                await listener.wait(LOOK_S)

    def announce(self, queue: str, listed: bytes) -> None:
        self._listed[queue] = listed
        self._tasks.start_soon(patiently, self._clock, lambda: self._announce(queue))

    async def _announce(self, queue: str) -> None:
        """What was said ends with the name under which it was said: an engine that was fenced says it again."""
        listed = self._listed.get(queue)
        owner = self._owner()
        if listed is not None and self._announced.get(queue) != (owner, listed):
            await self._dispatch.announce(owner, queue, listed)
            self._announced[queue] = (owner, listed)

    async def follow(self, queue: str, heard: Callable[[Sequence[bytes]], None]) -> None:
        with self._backend.signals.listen(announced_topic(queue)) as listener:
            while True:
                try:
                    await self._announce(queue)
                    heard(await self._dispatch.announced(self._owner(), queue))
                except StoreError as error:
                    logger.warning("what the workers of other engines can do is not known now: %s", error)
                await listener.wait(FOLLOW_S)

    def recorded(self, task_id: TaskId) -> None:
        """What came of a task is durable: its offer and answer are not needed any more."""
        attempt = self._answered.pop(task_id, None)
        if attempt is not None:
            self._withdraw_soon(task_id, attempt)

    @property
    def is_used(self) -> bool:
        """Whether anything is to be withdrawn once it is recorded."""
        return bool(self._answered)

    async def _work(self, body: bytes, credit: Credit, work: Work) -> bytes:
        try:
            return await work(body)
        finally:
            credit.release()

    async def _offered(self, offer: Offer, closed: Offer, credit: Credit, work: Work) -> bytes:
        """Offer a task, and take what comes first: an answer, or a worker of one's own while nobody has it."""
        self._listen()
        wait = self._waiting[offer.task_id] = _Wait()
        try:
            await patiently(self._clock, lambda: self._dispatch.offer(self._owner(), [closed]))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._take_back, closed, credit, wait)
                await wait.over.wait()
                tasks.cancel_scope.cancel()
        finally:
            del self._waiting[offer.task_id]
            if wait.answer is None and not wait.is_back:
                self._withdraw_soon(offer.task_id, offer.attempt)
        if wait.answer is not None:
            if wait.is_back:
                credit.release()
            self._answered[offer.task_id] = offer.attempt
            return self._envelope.opened(wait.answer.body)
        return await self._work(offer.body, credit, work)

    async def _take_back(self, offer: Offer, credit: Credit, wait: "_Wait") -> None:
        while not wait.is_back:
            await credit.acquire()
            is_known = False
            try:
                with self._clock.timeout(TAKEN_BACK_WITHIN_S, shield=True):
                    wait.is_back = bool(await self._dispatch.take_back(self._owner(), [offer.task_id]))
                    is_known = True
            except StoreError as error:
                logger.warning("task %s can't be taken back now: %s", offer.task_id, error)
            finally:
                if not wait.is_back:
                    credit.release()
            if not is_known:  # nobody would do it, if it is back after all
                await patiently(self._clock, lambda: self._dispatch.offer(self._owner(), [offer]))
            if not wait.is_back:
                await self._clock.sleep(LOOK_S)  # somebody is at work on it
        wait.over.set()

    def _claims_of(self, queue: str) -> Claims:
        """The same for all who serve the queue."""
        if queue not in self._claims:
            self._claims[queue] = Claims(self._dispatch, self._clock, self._tasks, self._owner, queue)
        return self._claims[queue]

    async def _take(self, claims: Claims, most: int, credit: Credit, work: Work, tasks: TaskGroup) -> bool:
        """Take as many offers as there is credit for, and no more than so many. False: there are none now.

        To look takes credit away from the engine's own tasks for a moment: so little is asked until something is there.
        """
        await claims.settled()
        await credit.acquire()
        more = 0
        with suppress(anyio.WouldBlock):
            while more < most - 1:
                credit.acquire_nowait()
                more += 1
        taken: Sequence[Offer] = []
        try:
            taken = await claims.take(1 + more)
        finally:
            for _ in range(1 + more - len(taken)):
                credit.release()
        for offer in taken:
            tasks.start_soon(self._serve, offer, claims, credit, work)
        return bool(taken)

    async def _serve(self, offer: Offer, claims: Claims, credit: Credit, work: Work) -> None:
        try:
            task = self._envelope.opened(offer.body)
        except SecretKeyError as error:
            credit.release()
            logger.error("task %s is not done here: %s", offer.task_id, error)
            return
        body = await self._work(task, credit, work)
        if body == NOT_DONE:
            await patiently(self._clock, lambda: self._dispatch.give_back(self._owner(), [offer]))
            claims.done(offer)
            return
        answer = Answer(
            task_id=offer.task_id,
            attempt=offer.attempt,
            run_id=offer.run_id,
            body=self._envelope.answered(body, offer.body),
        )
        is_kept = await patiently(self._clock, lambda: self._dispatch.answer(answer))
        claims.done(offer)
        if is_kept:
            self.kept(offer.run_id, offer.task_id)

    def _listen(self) -> None:
        if not self._is_listening:
            self._is_listening = True
            self._tasks.start_soon(self._hear)

    async def _hear(self) -> None:
        """Hand answers to those who wait, for as long as anybody does."""
        while self._waiting:
            with self._backend.signals.listen(answers_topic(self._owner())) as listener:
                while self._waiting:
                    try:
                        await self._collect()
                    except StoreError as error:
                        logger.warning("no answers can be read now: %s", error)
                    await listener.wait(LOOK_S)
        self._is_listening = False

    async def _collect(self) -> None:
        for answer in await self._dispatch.answers(self._owner()):
            wait = self._waiting.get(answer.task_id)
            if wait is not None:
                wait.answer = answer
                wait.over.set()
            elif not (answer.task_id in self._answered or answer.task_id in self._withdrawing):
                self._early[answer.task_id] = answer

    async def _withdraw(self, task_id: TaskId, attempt: int, gone: anyio.Event) -> None:
        try:
            await patiently(self._clock, lambda: self._dispatch.withdraw([task_id], through=attempt))
        finally:
            if self._withdrawing.get(task_id) is gone:
                del self._withdrawing[task_id]
            gone.set()

    def _withdraw_soon(self, task_id: TaskId, attempt: int) -> None:
        gone = self._withdrawing[task_id] = anyio.Event()
        self._tasks.start_soon(self._withdraw, task_id, attempt, gone)

    async def _withdrawn(self, task_id: TaskId) -> None:
        """Wait for what is being withdrawn: the next attempt's offer would go with it, and its old answer be taken."""
        while (gone := self._withdrawing.get(task_id)) is not None:
            await gone.wait()


class _Wait:
    __slots__ = ("answer", "is_back", "over")

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.answer: Answer | None = None
        self.is_back = False  # nobody had it: it is served here


_FOREVER_S = 1e10
