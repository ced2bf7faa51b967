"""What a worker says on the fast path, in which frames. No grpc in it, and no waiting."""

import asyncio
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from stepflow.records import ErrorCode, Failed, Json, Outcome, TaskId
from stepflow_grpc.frames import Begun, FromServer, FromWorker, Progress, Reply, frame
from stepflow_grpc.worker.link import Desk, Given

MOST_ANSWERS = 64
"""Of one frame: the server is at the first ones while the next are made."""

MOST_PROGRESS = 32
"""Of one frame: as many of the longest as a server takes."""

FRAME_BYTES = 1024 * 1024
"""What a frame of several answers is kept near; it may have twice as many."""

LONGEST_ANSWER = 4 * 1024 * 1024 - 64 * 1024
"""Bytes of one answer that a server takes."""

MOST_UNHEARD = 2
"""Frames with answers on the way: what ends meanwhile waits for the next, so that a busy server gets large ones."""


class Speech:
    """What is to be said on one stream, and what was said there and is not acknowledged."""

    TICK_S: ClassVar = 0.025  # a task that is not answered within one to two of these is said to have begun
    AGAIN_S: ClassVar = 1.0  # an answer whose run is on the way to another engine is said again so much later

    def __init__(self, desk: Desk) -> None:
        self.some_began = asyncio.Event()
        self.some_again = asyncio.Event()
        self.has_told_draining = False
        self._desk = desk
        self._components = desk.components
        self._granted = 0  # tasks that the server may still send
        self._to_say: dict[TaskId, Reply] = {}
        self._said: dict[TaskId, Reply] = {}
        self._again: list[TaskId] = []
        self._declined: list[TaskId] = []
        self._new: dict[TaskId, int] = {}  # begun since the last tick, and which attempt
        self._older: dict[TaskId, int] = {}
        self._begun: list[Begun] = []
        self._progress: dict[TaskId, Progress] = {}
        self._unheard = 0
        self._bytes_an_answer = 0.0

    def answer(self, given: Given, outcome: Outcome) -> None:
        task = given.task
        if self._new.pop(given.id, None) is None:
            self._older.pop(given.id, None)
        self._to_say[given.id] = Reply(given.id, task.attempt, task.run_id, task.item, task.step, outcome)

    def began(self, task_id: TaskId, attempt: int) -> None:
        """A task came, and is being begun."""
        if not self._new:
            self.some_began.set()
        self._new[task_id] = attempt

    def progress(self, given: Given, value: Json) -> None:
        """How far a task is; what was said before and is not sent yet is out of date."""
        self._progress[given.id] = Progress(given.id, given.task.attempt, value)

    def decline(self, task_id: TaskId) -> None:
        """It could not be begun."""
        self._new.pop(task_id, None)
        self._declined.append(task_id)

    def heard(self, said: FromServer) -> None:
        """Note what the server said of former frames, and that it gave what it gave."""
        self._granted -= len(said.tasks)
        self._unheard -= said.heard
        for gone in said.gone:
            self._new.pop(gone.id, None)
            self._older.pop(gone.id, None)
            self._progress.pop(gone.id, None)
        if said.again:
            self._again += said.again
            self.some_again.set()

    def recorded(self, task_id: TaskId, attempt: int) -> None:
        """What was answered to this attempt, or to one before it, need not be said again."""
        reply = self._said.get(task_id)
        if reply is not None and reply.attempt <= attempt:
            del self._said[task_id]

    def tick(self) -> bool:
        """Whether tasks that began a while ago are to be told of."""
        older, self._older, self._new = self._older, self._new, {}
        self._begun += [Begun(task_id, attempt) for task_id, attempt in older.items()]
        if not self._older:
            self.some_began.clear()
        return bool(older)

    def repeat(self) -> None:
        """Say again what the server could not place."""
        self.some_again.clear()
        again, self._again = self._again, []
        self._to_say.update({task_id: self._said[task_id] for task_id in again if task_id in self._said})

    @property
    def has_more(self) -> bool:
        """Whether another frame can be sent at once."""
        return bool(self._to_say and self._unheard < MOST_UNHEARD) or bool(self._progress) or self._is_urgent()

    def frames(self, has: Sequence[TaskId] | None = None) -> Sequence[Any]:
        """The next ones; none where a busy server has enough to do, and nothing is urgent."""
        is_urgent = has is not None or self._is_urgent()
        answers = self._next_answers() if self._unheard < MOST_UNHEARD else ()
        told = self._told_progress()
        if not (answers or is_urgent) and (told or self._unheard):
            return told
        said = self._next(answers, has)
        message = frame(said)
        if answers:
            self._bytes_an_answer = len(message.json) / len(answers)
            self._unheard += 1
        if len(message.json) <= 2 * FRAME_BYTES:
            return (*told, message)
        parts = self._split(answers)
        self._unheard += len(parts) - 1
        return (*told, frame(msgspec.structs.replace(said, answers=())), *parts)

    def _told_progress(self) -> Sequence[Any]:
        """Frames of their own, before those that might say that the tasks have ended."""
        if not self._progress:
            return ()
        progress, self._progress = list(self._progress.values()), {}
        firsts = range(0, len(progress), MOST_PROGRESS)
        return [frame(FromWorker(progress=progress[first : first + MOST_PROGRESS])) for first in firsts]

    def _is_urgent(self) -> bool:
        """Whether something is to be said that waits for nothing."""
        desk = self._desk
        if self._begun or self._declined or desk.free < self._granted:
            return True
        return desk.is_draining != self.has_told_draining or desk.components is not self._components

    def _next(self, answers: Sequence[Reply], has: Sequence[TaskId] | None) -> FromWorker:
        desk = self._desk
        credit = desk.free - self._granted
        self._granted += credit
        begun, self._begun = self._begun, []
        declined, self._declined = self._declined, []
        known, self._components = self._components, desk.components
        self.has_told_draining = desk.is_draining
        return FromWorker(
            credit=credit,
            begun=begun,
            answers=answers,
            declined=declined,
            components=None if known is self._components else self._components,
            is_draining=desk.is_draining,
            has=has,
        )

    def _next_answers(self) -> Sequence[Reply]:
        limit = MOST_ANSWERS
        if self._bytes_an_answer:
            limit = max(1, min(limit, int(FRAME_BYTES / self._bytes_an_answer)))
        if len(self._to_say) <= limit:
            answers, self._to_say = list(self._to_say.values()), {}
        else:
            answers = [self._to_say.pop(task_id) for task_id in list(self._to_say)[:limit]]
        for reply in answers:
            self._said[reply.id] = reply
        return answers

    def _split(self, answers: Sequence[Reply]) -> Sequence[Any]:
        """Answers that are too much for one frame."""
        message = frame(FromWorker(answers=answers))
        if len(message.json) <= 2 * FRAME_BYTES:
            return (message,)
        if len(answers) > 1:
            half = len(answers) // 2
            return (*self._split(answers[:half]), *self._split(answers[half:]))
        if len(message.json) <= LONGEST_ANSWER:
            return (message,)
        return (frame(FromWorker(answers=[_refused(answers[0], len(message.json))])),)


def _refused(reply: Reply, size: int) -> Reply:
    mib = 1024 * 1024
    what = f"the output is too large: {size / mib:.1f} MiB of JSON, and {LONGEST_ANSWER / mib:.1f} MiB can be sent"
    message = f"{what}; put the value into a blob and give its id, or set STEPFLOW_BLOB_THRESHOLD_BYTES"
    return msgspec.structs.replace(reply, outcome=Failed(ErrorCode.INVALID_INPUT, message, may_retry=False))
