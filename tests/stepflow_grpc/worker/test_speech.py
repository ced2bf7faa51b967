"""Which frames a worker says what in."""

from typing import Any

import pytest
from sample_task import task_of

from stepflow.records import ComponentInfo, Outcome, Succeeded
from stepflow_grpc import frames
from stepflow_grpc.frames import FromServer, FromWorker
from stepflow_grpc.worker.link import Given
from stepflow_grpc.worker.speech import MOST_ANSWERS, MOST_PROGRESS, MOST_UNHEARD, Speech

pytestmark = pytest.mark.anyio


class Desk:
    """What a speech asks of a worker."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.is_draining = False
        self.components = (ComponentInfo(id="echo"),)


def given(item: int, attempt: int = 1) -> Given:
    task = task_of(item, component="/w/echo", target="echo", attempt=attempt)
    return Given(task.id, task, "127.0.0.1:1")


def answer(speech: Speech, *items: int, outcome: Outcome | None = None) -> None:
    for item in items:
        speech.answer(given(item), outcome or Succeeded(item))


def said(speech: Speech) -> list[FromWorker]:
    return [frames.from_worker(each) for each in speech.frames()]


def items(said: list[FromWorker]) -> list[int]:
    return [reply.item for each in said for reply in each.answers]


async def test_all_that_is_ready_goes_into_one_frame_with_the_credit() -> None:
    speech: Any = Speech(Desk(free=3))  # type: ignore[arg-type]
    answer(speech, 1, 2)

    (frame,) = said(speech)

    assert ([reply.item for reply in frame.answers], frame.credit) == ([1, 2], 3)


async def test_answers_wait_while_the_server_has_not_heard_two_frames_and_then_go_together() -> None:
    speech = Speech(Desk(free=1))  # type: ignore[arg-type]
    sent = []
    for item in range(5):
        answer(speech, item)
        sent.append(items(said(speech)))

    assert sent == [[0], [1], [], [], []]
    assert not speech.has_more
    speech.heard(FromServer(heard=1))
    assert items(said(speech)) == [2, 3, 4]
    assert MOST_UNHEARD == 2


async def test_a_frame_has_no_more_answers_than_it_may() -> None:
    speech = Speech(Desk(free=1))  # type: ignore[arg-type]
    answer(speech, *range(MOST_ANSWERS + 5))

    assert [len(items(said(speech))) for _ in range(2)] == [MOST_ANSWERS, 5]


async def test_credit_is_taken_back_though_the_server_is_busy() -> None:
    desk = Desk(free=4)
    speech = Speech(desk)  # type: ignore[arg-type]
    for item in range(MOST_UNHEARD):
        answer(speech, item)
        said(speech)
    desk.free = 1

    (frame,) = said(speech)

    assert frame.credit == -3


async def test_only_what_is_not_answered_within_the_moment_is_said_to_have_begun() -> None:
    speech = Speech(Desk(free=1))  # type: ignore[arg-type]
    slow, quick = given(1), given(2)
    speech.began(slow.id, 1)
    speech.began(quick.id, 1)
    speech.tick()
    answer(speech, 2)

    assert speech.tick()
    begun = [each.id for frame in said(speech) for each in frame.begun]
    assert begun == [slow.id]
    assert not speech.some_began.is_set()


async def test_an_answer_is_said_again_though_that_to_an_earlier_attempt_is_recorded() -> None:
    speech = Speech(Desk(free=1))  # type: ignore[arg-type]
    later = given(1, attempt=2)
    speech.answer(later, Succeeded(1))
    said(speech)
    speech.heard(FromServer(heard=1, again=[later.id]))
    speech.recorded(later.id, 1)

    speech.repeat()

    assert items(said(speech)) == [1]
    speech.heard(FromServer(heard=1, again=[later.id]))
    speech.recorded(later.id, 2)
    speech.repeat()
    assert items(said(speech)) == []


async def test_an_answer_is_said_again_until_it_is_recorded() -> None:
    speech = Speech(Desk(free=1))  # type: ignore[arg-type]
    answer(speech, 1, 2)
    said(speech)
    speech.heard(FromServer(heard=1, again=[given(1).id, given(2).id]))
    speech.recorded(given(2).id, 1)
    assert speech.some_again.is_set()

    speech.repeat()

    assert items(said(speech)) == [1]
    assert not speech.some_again.is_set()


async def test_the_last_progress_of_a_task_is_said_before_its_answer_whatever_the_server_has_heard() -> None:
    speech = Speech(Desk(free=1))  # type: ignore[arg-type]
    for item in range(MOST_UNHEARD):
        answer(speech, item)
        said(speech)
    speech.progress(given(7), 0.5)
    speech.progress(given(7), {"stage": 2})
    answer(speech, 7)

    (told,) = said(speech)
    speech.heard(FromServer(heard=1))
    (answered,) = said(speech)

    assert [(each.id, each.attempt, each.value) for each in told.progress] == [(given(7).id, 1, {"stage": 2})]
    assert (items([answered]), list(answered.progress)) == ([7], [])


async def test_progress_of_many_tasks_goes_in_several_frames() -> None:
    speech = Speech(Desk(free=0))  # type: ignore[arg-type]
    for item in range(MOST_PROGRESS + 1):
        speech.progress(given(item), item)

    assert [len(each.progress) for each in said(speech)] == [MOST_PROGRESS, 1]


async def test_progress_of_what_nobody_wants_is_not_said() -> None:
    speech = Speech(Desk(free=0))  # type: ignore[arg-type]
    speech.progress(given(1), 0.5)
    speech.heard(FromServer(gone=[frames.Gone(given(1).id, 1)]))

    assert [each.progress for each in said(speech)] == [()]
