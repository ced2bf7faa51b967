"""What is at work: slots, executions of the same task, and answers that are kept."""

import asyncio
from typing import Any

import pytest
from sample_task import RUN, task_of

from stepflow.records import ErrorCode, Failed, Outcome, Succeeded, Task
from stepflow_grpc.worker.link import Given
from stepflow_grpc.worker.pauses import FIRST_S, Pauses
from stepflow_grpc.worker.running import RunningTasks

pytestmark = pytest.mark.anyio

FAILED = Failed(ErrorCode.COMPONENT_FAILED, "no")


class Wire:
    """What a desk says to a link, kept. Nothing of it is sent, and no progress is told here."""

    engine = ""

    def __init__(self) -> None:
        self.is_live = True
        self.said: list[tuple[str, int, Outcome]] = []
        self.changes = 0
        self.asked: list[list[str]] = []

    def changed(self) -> None:
        self.changes += 1

    def answer(self, given: Given, outcome: Outcome) -> None:
        self.said.append((given.id, given.task.attempt, outcome))

    def say_what_is_there(self, has: Any) -> None:
        self.asked.append(list(has))


class Site:
    """A desk, whose tasks end when a test says so."""

    def __init__(self, slots: int = 2) -> None:
        self.begun: list[tuple[Any, int]] = []
        self.ends: dict[Any, asyncio.Future[Outcome]] = {}
        self.link = Wire()
        self.desk = RunningTasks(self._perform, worker_id="w", queue="q", slots=slots, components=list)
        self.desk.attach(self.link)

    async def _perform(self, task: Task) -> Outcome:
        self.begun.append((task.input, task.attempt))
        self.ends[task.input] = asyncio.get_running_loop().create_future()
        return await self.ends[task.input]

    async def give(self, name: str, attempt: int = 1, link: Wire | None = None) -> bool:
        is_begun = self.desk.begin(given(name, attempt), link or self.link)
        await settled()
        return is_begun

    async def end(self, name: str, outcome: Outcome) -> None:
        self.ends[name].set_result(outcome)
        await settled()


def given(name: str, attempt: int = 1) -> Given:
    task = task_of(0, component="/x", target="x", input=name, attempt=attempt)
    return Given(name, task, "127.0.0.1:1")


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_has_no_slot_does_not_begin() -> None:
    site = Site(slots=1)

    begun = [await site.give("a"), await site.give("b")]
    free_meanwhile = site.desk.free
    await site.end("a", Succeeded(1))

    assert begun == [True, False]
    assert (free_meanwhile, site.desk.free) == (0, 1)
    assert site.link.said == [("a", 1, Succeeded(1))]


async def test_a_later_attempt_of_a_running_task_becomes_its_execution() -> None:
    site, other = Site(), Wire()
    await site.give("a", attempt=1)

    await site.give("a", attempt=2, link=other)
    await site.end("a", Succeeded(1))

    assert site.begun == [("a", 1)]
    assert (site.link.said, other.said) == ([], [("a", 2, Succeeded(1))])


async def test_a_success_that_is_kept_answers_a_later_attempt_and_a_failure_does_not() -> None:
    site = Site()
    for name, outcome in (("good", Succeeded(1)), ("bad", FAILED)):
        await site.give(name)
        await site.end(name, outcome)

    await site.give("good", attempt=2)
    await site.give("bad", attempt=2)

    assert site.begun == [("good", 1), ("bad", 1), ("bad", 2)]
    assert site.link.said[2:] == [("good", 2, Succeeded(1))]


async def test_an_answer_is_kept_until_it_is_acknowledged() -> None:
    site = Site()
    await site.give("a")
    await site.end("a", Succeeded(1))
    kept = site.desk.has()
    site.desk.acknowledged("a")

    assert (list(kept), list(site.desk.has())) == (["a"], [])
    async with asyncio.timeout(60):
        await site.desk.idle()


async def test_an_answer_is_kept_when_only_that_of_an_earlier_attempt_is_acknowledged() -> None:
    site = Site()
    await site.give("a", attempt=2)
    await site.end("a", Succeeded(1))

    site.desk.acknowledged("a", 1)
    after_first = list(site.desk.has())
    site.desk.acknowledged("a", 2)

    assert (after_first, list(site.desk.has())) == (["a"], [])


async def test_what_a_lost_link_had_to_say_another_one_says() -> None:
    site, other = Site(), Wire()
    site.desk.attach(other)
    await site.give("answered")
    await site.end("answered", Succeeded(1))
    await site.give("running")

    site.link.is_live = False
    site.desk.detach(site.link)
    await site.end("running", Succeeded(2))

    assert other.said == [("answered", 1, Succeeded(1)), ("running", 1, Succeeded(2))]
    assert other.asked == [["running", "answered"]]


async def test_a_stopped_attempt_is_not_answered_and_a_later_one_goes_on() -> None:
    site = Site()
    await site.give("a", attempt=1)
    await site.give("b", attempt=2)

    site.desk.stop("a", 1)
    site.desk.stop("b", 1)
    await settled()
    await site.end("b", Succeeded(2))

    assert site.link.said == [("b", 2, Succeeded(2))]
    assert list(site.desk.has()) == ["b"]


async def test_a_task_that_rests_holds_no_slot_and_gets_one_before_new_tasks() -> None:
    site = Site(slots=1)
    await site.give("resting")
    may_return = asyncio.Event()

    async def rest() -> None:
        async with site.desk.resting("resting"):
            await may_return.wait()

    resting = asyncio.create_task(rest())
    await settled()
    await site.give("new")
    may_return.set()
    await settled()
    is_waiting, taken_in = not resting.done(), await site.give("newer")
    await site.end("new", Succeeded(1))

    assert (is_waiting, taken_in) == (True, False)
    assert resting.done()
    assert site.desk.free == 0


async def test_who_is_cancelled_while_it_waits_for_its_slot_takes_none() -> None:
    site = Site(slots=1)
    await site.give("resting")

    async def rest() -> None:
        async with site.desk.resting("resting"):
            pass

    site.desk.at_work("resting").has_slot = False  # type: ignore[union-attr]
    site.desk._slots.give_back()
    await site.give("new")
    resting = asyncio.create_task(rest())
    await settled()
    resting.cancel()
    await asyncio.gather(resting, return_exceptions=True)
    await site.end("new", Succeeded(1))

    assert site.desk.free == 1


async def test_what_is_given_up_is_answered_so_that_others_do_it_at_once() -> None:
    site = Site()
    await site.give("a")
    site.desk.drain()

    given_up = site.desk.give_up()
    await settled()

    assert given_up == 1
    ((name, _, outcome),) = site.link.said
    assert name == "a"
    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.UNREACHABLE


async def test_an_error_of_the_worker_itself_is_an_answer() -> None:
    site = Site()
    await site.give("a")
    site.ends["a"].set_exception(RuntimeError("broken"))
    await settled()

    ((_, _, outcome),) = site.link.said
    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.WORKER_ERROR


class Lowest:
    def random(self) -> float:
        return 0.0

    def run_id(self, now: float) -> str:
        return RUN


async def test_pauses_grow_to_their_limit_and_begin_again() -> None:
    pauses = Pauses(Lowest(), longest_s=1.0)

    first = [pauses.next() for _ in range(6)]
    pauses.reset()

    assert first == [FIRST_S / 2, FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 0.5, 0.5]
    assert pauses.next() == FIRST_S / 2
