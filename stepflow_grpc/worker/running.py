"""What a worker is at work on, and what it has not been thanked for."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias

from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, Succeeded, Task, TaskId
from stepflow_grpc.queues.records import WorkerReport
from stepflow_grpc.worker.link import Given, Link
from stepflow_grpc.worker.slots import Slots

logger = logging.getLogger("stepflow.worker")

MOST_UNANSWERED = 100_000
"""Answers that are kept while no server takes them; beyond it the oldest are forgotten, and their tasks run again."""

MOST_UNWANTED = 64
"""Successes that came while nobody waited for them, such as between two attempts: a later attempt is answered so."""

Perform: TypeAlias = Callable[[Task], Coroutine[Any, Any, Outcome]]


class Heart(Protocol):
    """Says of single tasks that the worker lives, for servers that have to hear it of each."""

    @property
    def is_catching_up(self) -> bool:
        """Whether the worker was held up until just now: what it is given may have been given to another since."""
        ...

    def begin(self, begun: Sequence[tuple[TaskId, int]]) -> None:
        """Tasks that need no claim begin, and which attempts; after that the worker may get no turn to say so."""
        ...

    def add(self, given: Given) -> None: ...

    def remove(self, task_id: TaskId) -> None: ...


class Work:
    """A task at work."""

    __slots__ = ("coroutine", "given", "has_slot", "is_stopped", "link", "rests", "sub_runs", "told_at", "untold")

    def __init__(self, given: Given, link: Link) -> None:
        self.given = given
        self.link = link
        self.coroutine: asyncio.Task[None] | None = None
        self.has_slot = True
        self.is_stopped = False
        self.rests = 0
        self.sub_runs = 0  # calls for a sub-run that gave no key
        self.told_at = 0.0  # when its progress was last told
        self.untold: Sequence[Json] = ()  # the progress that is told as soon as it may be: one, or none


class RunningTasks:
    """The `Desk`: slots, at most one execution of a task at a time, and answers until they are acknowledged."""

    def __init__(
        self,
        perform: Perform,
        *,
        worker_id: str,
        queue: str,
        slots: int,
        components: Callable[[], Sequence[ComponentInfo]],
        report: Callable[[], WorkerReport] | None = None,
        heart: Heart | None = None,
        batched: int = 0,
    ) -> None:
        """
        Args:
            batched: how many tasks may wait for their batch without a slot.
        """
        self.worker_id = worker_id
        self.queue = queue
        self.links: list[Link] = []
        self.is_draining = False
        self.heart = heart
        self._perform = perform
        self._components = components
        self._report = report
        self._at_work: dict[TaskId, Work] = {}
        self._answers: dict[TaskId, tuple[Given, Outcome, Link]] = {}
        self._unwanted: dict[TaskId, tuple[Given, Outcome, Link]] = {}
        self._claiming: set[asyncio.Task[None]] = set()
        self._batched = batched
        self._slots = Slots(slots)
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def components(self) -> Sequence[ComponentInfo]:
        return self._components()

    @property
    def free(self) -> int:
        return 0 if self.is_draining else self._slots.free

    @property
    def busy(self) -> int:
        """How many slots are taken."""
        return self._slots.taken

    @property
    def running(self) -> int:
        """How many tasks are at work, those that wait for a sub-run among them."""
        return len(self._at_work)

    def report(self) -> WorkerReport:
        return WorkerReport(slots=self._slots.total, busy=self._slots.taken) if self._report is None else self._report()

    def has(self) -> Sequence[TaskId]:
        return [*self._at_work, *self._answers]

    def at_work(self, task_id: TaskId) -> Work | None:
        return self._at_work.get(task_id)

    # Beginning

    def begin(self, given: Given, link: Link) -> bool:
        return not self.begin_each((given,), link)

    def begin_each(self, given: Sequence[Given], link: Link) -> Sequence[TaskId]:
        declined: list[TaskId] = []
        begun: list[tuple[TaskId, int]] = []
        loop = asyncio.get_running_loop()
        is_late = self.heart is not None and self.heart.is_catching_up
        for each in given:
            is_on = self._goes_on(each, link, is_late=is_late)
            if is_on is None:
                if each.claim is None:
                    begun.append((each.id, each.task.attempt))
                self._slots.take()
                work = self._at_work[each.id] = Work(each, link)
                work.coroutine = loop.create_task(self._do(work))  # which has no turn before the heart knows of it
            elif not is_on:
                declined.append(each.id)
        if self._at_work:
            self._idle.clear()
        if begun and self.heart is not None:
            self.heart.begin(begun)
        return declined

    def _goes_on(self, given: Given, link: Link, *, is_late: bool) -> bool | None:
        """Whether what is known of a task is used for this attempt, or it can't begin; None: it can, and has to."""
        known = self._at_work.get(given.id)
        if known is not None:
            return self._go_on(known, given, link)
        if self._unwanted and given.id in self._unwanted:
            self._answers[given.id] = self._unwanted.pop(given.id)
        if given.id in self._answers and self._say_again(given, link):
            return True
        if self.is_draining or self._slots.free <= 0 or (is_late and given.claim is None):
            return False
        return None

    def _go_on(self, work: Work, given: Given, link: Link) -> bool:
        """A later attempt of what is at work, or the same one delivered again: what runs becomes its execution."""
        if work.is_stopped:
            return False
        work.given, work.link = given, link
        if given.claim is not None:
            claiming = asyncio.get_running_loop().create_task(self._claim_again(work, given))
            self._claiming.add(claiming)
            claiming.add_done_callback(self._claiming.discard)
        return True

    async def _claim_again(self, work: Work, given: Given) -> None:
        assert given.claim is not None
        is_ours = await given.claim()
        if work.given is not given or given.id not in self._at_work:
            return
        if is_ours:
            self._beat_for(given)
        else:
            self.stop(given.id, given.task.attempt)

    def _say_again(self, given: Given, link: Link) -> bool:
        """Whether the answer that is kept answers this attempt too. A failure is the answer of its own attempt only."""
        old, outcome, _ = self._answers[given.id]
        if isinstance(outcome, Failed) and old.task.attempt != given.task.attempt:
            self._forget(given.id)
            return False
        self._answers[given.id] = given, outcome, link
        self._idle.clear()
        link.answer(given, outcome)
        return True

    async def _do(self, work: Work) -> None:
        given = work.given
        outcome: Outcome | None = None
        try:
            if given.claim is not None and not await given.claim():
                return
            self._beat_for(given)
            outcome = await self._perform(given.task)
        except Exception as error:
            logger.exception("task %s of %s", given.id, given.task.target)
            outcome = Failed(ErrorCode.WORKER_ERROR, f"the worker failed: {type(error).__name__}: {error}")
        finally:
            self._end(work, outcome)

    def _beat_for(self, given: Given) -> None:
        if given.heartbeat_s and self.heart is not None:
            self.heart.add(given)

    def _end(self, work: Work, outcome: Outcome | None) -> None:
        task_id = work.given.id
        del self._at_work[task_id]
        if work.has_slot:
            self._slots.give_back()
        if outcome is not None and not work.is_stopped:
            self._answer(work.given, outcome, work.link)
        elif task_id not in self._answers:
            self._forget(task_id)
        self.changed()

    # Answering

    def _answer(self, given: Given, outcome: Outcome, link: Link) -> None:
        link = self._living(link)
        self._answers[given.id] = given, outcome, link
        if len(self._answers) > MOST_UNANSWERED:
            oldest = next(iter(self._answers))
            logger.warning("the answer to task %s is forgotten: %d wait for a server", oldest, MOST_UNANSWERED)
            self._forget(oldest)
        link.answer(given, outcome)

    def _living(self, link: Link) -> Link:
        """The link itself, or where it is lost another one: every orchestrator takes every answer."""
        if link.is_live:
            return link
        return next((other for other in self.links if other.is_live), link)

    def acknowledged(self, task_id: TaskId, attempt: int | None = None) -> None:
        kept = self._answers.get(task_id)
        if kept is not None and (attempt is None or kept[0].task.attempt <= attempt):
            self._forget(task_id)

    def unwanted(self, task_id: TaskId) -> None:
        kept = self._answers.get(task_id)
        self.acknowledged(task_id)
        if kept is not None and isinstance(kept[1], Succeeded):
            self._unwanted[task_id] = kept
            if len(self._unwanted) > MOST_UNWANTED:
                del self._unwanted[next(iter(self._unwanted))]

    def _forget(self, task_id: TaskId) -> None:
        self._answers.pop(task_id, None)
        if self.heart is not None:
            self.heart.remove(task_id)
        if not self._at_work and not self._answers:
            self._idle.set()
            if self.is_draining:
                self.changed()

    def unanswered(self) -> Sequence[tuple[Given, Outcome]]:
        return [(given, outcome) for given, outcome, _ in self._answers.values()]

    def attach(self, link: Link) -> None:
        self.links.append(link)

    def detach(self, link: Link) -> None:
        """A link ended: what it had to say, another one says."""
        self.links.remove(link)
        for other in self.links:
            other.say_what_is_there(self.has())
        for given, outcome, sayer in list(self._answers.values()):
            if not sayer.is_live and (other := self._living(sayer)) is not sayer:
                self._answers[given.id] = given, outcome, other
                other.answer(given, outcome)

    # Ending

    def stop(self, task_id: TaskId, attempt: int) -> None:
        work = self._at_work.get(task_id)
        if work is not None and work.given.task.attempt <= attempt:
            self._cancel(work)
        kept = self._answers.get(task_id)
        if kept is not None and kept[0].task.attempt <= attempt and not isinstance(kept[1], Succeeded):
            self._forget(task_id)

    def _cancel(self, work: Work) -> None:
        work.is_stopped = True
        assert work.coroutine is not None
        work.coroutine.cancel()

    def drain(self) -> None:
        """Take nothing more."""
        self.is_draining = True
        self.changed()

    async def done(self) -> None:
        """Wait until nothing is at work."""
        while self._at_work:
            await asyncio.wait([work.coroutine for work in self._at_work.values() if work.coroutine is not None])

    async def idle(self) -> None:
        """Wait until nothing is at work, and every answer is acknowledged."""
        await self._idle.wait()

    async def close(self) -> None:
        """Stop everything, and answer nothing more."""
        for work in list(self._at_work.values()):
            self._cancel(work)
        left = [*self._claiming, *(work.coroutine for work in self._at_work.values() if work.coroutine is not None)]
        await asyncio.gather(*left, return_exceptions=True)

    def give_up(self) -> int:
        """Stop what is at work, so that others may do it at once; how many tasks that were."""
        stopped = [work for work in self._at_work.values() if not work.is_stopped]
        failed = Failed(ErrorCode.UNREACHABLE, "the worker was stopped before the task had ended")
        for work in stopped:
            self._cancel(work)
            self._answer(work.given, failed, work.link)
        return len(stopped)

    def changed(self) -> None:
        for link in self.links:
            link.changed()

    # Slots

    def resize(self, slots: int) -> None:
        """Do so many at a time from now on; what is at work beyond that is finished."""
        self._slots.resize(slots)
        self.changed()

    @asynccontextmanager
    async def resting(self, task_id: TaskId) -> AsyncIterator[None]:
        """While inside, the task holds no slot; at the end it waits for one, before any new task gets it."""
        work = self._at_work.get(task_id)
        if work is None:
            yield
            return
        work.rests += 1
        if work.has_slot:
            work.has_slot = False
            self._slots.give_back()
            self.changed()
        try:
            yield
        finally:
            work.rests -= 1
            if not work.rests:
                await self._slots.take_again()
                work.has_slot = True

    @asynccontextmanager
    async def in_batch(self, task_id: TaskId) -> AsyncIterator[None]:
        """While inside, the task waits for its batch, and holds no slot as long as not too many do so."""
        if not self._batched:
            yield
            return
        self._batched -= 1
        try:
            async with self.resting(task_id):
                yield
        finally:
            self._batched += 1
