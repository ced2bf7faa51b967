"""What every `Signals` must do: wake those who wait for what somebody else does."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from stepflow.protocols import Backend, Listener, answers_topic, ended_topic, inbox_topic, offers_topic
from stepflow.records import RunChange, RunId, RunStatus
from stepflow.testing.suites.dispatch import answer, offer
from stepflow.testing.suites.inbox import message
from stepflow.testing.suites.shared import SharedSuite
from stepflow.testing.suites.writes import FIRST, Ids, begin, end, enter, record, take_over, write

LONG_S = 1e6


async def woken(listener: Listener, act: Callable[[], Awaitable[object]]) -> bool:
    """Whether a listener that waits already is woken by what is done meanwhile."""
    with anyio.move_on_after(30):
        async with anyio.create_task_group() as waiters:
            waiters.start_soon(listener.wait, LONG_S)
            await anyio.wait_all_tasks_blocked()
            await act()
        return True
    return False


async def wakes(listener: Listener) -> bool:
    """Whether a wait that begins only now is over."""
    with anyio.move_on_after(30):
        await listener.wait(LONG_S)
        return True
    return False


class SignalsSuite:
    """Give a `store` fixture: an open, empty `Backend` that `engine-1` has entered."""

    async def test_a_wait_ends_when_its_time_is_over(self, store: Backend, ids: Ids) -> None:
        with anyio.fail_after(30), store.signals.listen(ended_topic(ids.draw())) as listener:
            await listener.wait(0)
            await listener.wait(0.01)

        assert list(await store.runs.list()) == []

    async def test_who_waits_is_woken_by_the_end_of_a_run(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        with store.signals.listen(ended_topic(run)) as listener:
            assert await woken(listener, lambda: end(store, run))

        assert [one.status for one in await store.runs.list()] == [RunStatus.COMPLETED]

    async def test_what_was_sent_before_the_wait_is_not_missed(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        with store.signals.listen(ended_topic(run)) as listener:
            await end(store, run)
            assert await wakes(listener)

    async def test_everybody_who_listens_is_woken(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        topic = ended_topic(run)

        with store.signals.listen(topic) as one, store.signals.listen(topic) as two:
            await end(store, run)
            assert await wakes(one)
            assert await wakes(two)

    async def test_an_owner_is_woken_by_a_message(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        with store.signals.listen(inbox_topic(FIRST.owner)) as listener:
            assert await woken(listener, lambda: store.inbox.send(message("a", run)))
            assert await woken(listener, lambda: store.inbox.send(message("b", run)))

    async def test_the_new_owner_is_woken_by_messages_and_answers(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.dispatch.offer(FIRST.owner, [offer("a", run)])
        await take_over(store, run)

        with store.signals.listen(inbox_topic("engine-2")) as messages:
            assert await woken(messages, lambda: store.inbox.send(message("a", run)))
        with store.signals.listen(answers_topic("engine-2")) as answers:
            assert await woken(answers, lambda: store.dispatch.answer(answer(offer("a", run))))

    async def test_who_serves_a_queue_is_woken_by_an_offer(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        with store.signals.listen(offers_topic("gpu")) as listener:
            assert await woken(listener, lambda: store.dispatch.offer(FIRST.owner, [offer("a", run)]))

    @pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.RECOVERY_FAILED])
    async def test_every_end_wakes(self, store: Backend, ids: Ids, status: RunStatus) -> None:
        run = await begin(store, record(ids.draw()))

        with store.signals.listen(ended_topic(run)) as listener:
            await end(store, run, status=status)
            assert await wakes(listener)

    async def test_many_runs_that_end_in_one_commit_wake_each_of_theirs(self, store: Backend, ids: Ids) -> None:
        runs = [await begin(store, record(ids.draw())) for _ in range(3)]
        change = RunChange(status=RunStatus.COMPLETED, ended_at=9.0)

        with store.signals.listen(ended_topic(runs[0])) as first, store.signals.listen(ended_topic(runs[2])) as last:
            await store.journal.commit([write(run, 2, ["ended"], change=change) for run in runs])
            assert await wakes(first)
            assert await wakes(last)


class SharedSignalsSuite(SharedSuite):
    """The same where several engines share the store."""

    @pytest.mark.parametrize("topic", ["end", "inbox", "offers", "answers"])
    async def test_who_waits_elsewhere_is_woken(self, store: Backend, other: Backend, ids: Ids, topic: str) -> None:
        run = await begin(store, record(ids.draw()))
        await enter(other, "engine-2")
        await store.dispatch.offer(FIRST.owner, [offer("a", run)])
        name, act = self._told(topic, other if topic in ("inbox", "answers") else store, run)

        with (store if topic in ("inbox", "answers") else other).signals.listen(name) as listener:
            assert await woken(listener, act)

    def _told(self, topic: str, by: Backend, run: RunId) -> tuple[str, Callable[[], Awaitable[object]]]:
        """A topic's name, and what makes a backend send it."""
        acts: dict[str, tuple[str, Callable[[], Awaitable[object]]]] = {
            "end": (ended_topic(run), lambda: end(by, run)),
            "inbox": (inbox_topic(FIRST.owner), lambda: by.inbox.send(message("a", run))),
            "offers": (offers_topic("cpu"), lambda: by.dispatch.offer(FIRST.owner, [offer("b", run, queue="cpu")])),
            "answers": (answers_topic(FIRST.owner), lambda: by.dispatch.answer(answer(offer("a", run)))),
        }
        return acts[topic]
