"""What every `Inbox` must do: whoever wants something of a run's owner asks here."""

import anyio

from stepflow.protocols import Backend
from stepflow.records import Message, MessageKind, RunId
from stepflow.testing.suites.writes import FIRST, Ids, begin, child, end, record, take_over


def message(id: str, run_id: RunId, *, kind: str = MessageKind.CANCEL, payload: bytes = b"") -> Message:
    return Message(id=id, run_id=run_id, kind=kind, payload=payload)


class InboxSuite:
    """Give a `store` fixture: an open, empty `Backend` that `engine-1` has entered."""

    async def test_a_message_reaches_the_owner_of_the_run(self, store: Backend, ids: Ids) -> None:
        root = await begin(store, record(ids.draw()))
        inner = await begin(store, child(ids.draw(), root))
        sent = [
            message("a", root),
            message("b", inner, kind=MessageKind.PAUSE),
            message("c", root, kind="of another package", payload=b'\x00\xff"'),
        ]

        answers = [await store.inbox.send(one) for one in sent]

        assert answers == [True] * 3
        assert list(await store.inbox.receive(FIRST.owner)) == sent
        assert list(await store.inbox.receive("engine-2")) == []

    async def test_messages_come_in_the_order_they_were_sent(self, store: Backend, ids: Ids) -> None:
        runs = [await begin(store, record(ids.draw())) for _ in range(2)]
        sent = [message(f"{9 - number}", runs[number % 2]) for number in range(6)]
        for one in sent:
            await store.inbox.send(one)

        assert list(await store.inbox.receive(FIRST.owner)) == sent
        assert list(await store.inbox.receive(FIRST.owner, limit=2)) == sent[:2]

    async def test_a_message_is_given_until_it_is_done(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        sent = [message(id, run) for id in "abc"]
        for one in sent:
            await store.inbox.send(one)

        first = list(await store.inbox.receive(FIRST.owner))
        await store.inbox.done([sent[0], sent[2]])
        second = list(await store.inbox.receive(FIRST.owner))
        await store.inbox.done(sent)

        assert (first, second) == (sent, [sent[1]])
        assert list(await store.inbox.receive(FIRST.owner)) == []

    async def test_sending_a_message_again_changes_nothing(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        sent = message("a", run)

        answers = [await store.inbox.send(one) for one in (sent, sent, message("a", run, kind=MessageKind.PAUSE))]

        assert answers == [True] * 3
        assert list(await store.inbox.receive(FIRST.owner)) == [sent]

    async def test_nothing_is_kept_for_a_run_that_ended_or_never_was(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await end(store, run)

        assert not await store.inbox.send(message("a", run))
        assert not await store.inbox.send(message("b", ids.draw()))
        assert list(await store.inbox.receive(FIRST.owner)) == []

    async def test_a_message_that_came_before_the_end_is_still_given(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.inbox.send(message("a", run))

        await end(store, run)

        assert list(await store.inbox.receive(FIRST.owner)) == [message("a", run)]

    async def test_a_message_goes_to_whoever_owns_the_run_when_it_is_read(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.inbox.send(message("a", run))

        await take_over(store, run)
        await store.inbox.send(message("b", run))

        assert list(await store.inbox.receive("engine-2")) == [message("a", run), message("b", run)]
        assert list(await store.inbox.receive(FIRST.owner)) == []

    async def test_a_message_to_a_run_that_nobody_drives_waits(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.owners.leave(FIRST.owner)

        kept = await store.inbox.send(message("a", run))
        await take_over(store, run)

        assert kept
        assert list(await store.inbox.receive("engine-2")) == [message("a", run)]

    async def test_messages_sent_at_once_all_arrive(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        async def send(sender: int) -> None:
            for number in range(10):
                await store.inbox.send(message(f"{sender} {number}", run))

        async with anyio.create_task_group() as senders:
            for sender in range(8):
                senders.start_soon(send, sender)

        got = [one.id.split() for one in await store.inbox.receive(FIRST.owner)]
        assert sorted(got) == sorted([str(sender), str(number)] for sender in range(8) for number in range(10))
        for sender in range(8):
            assert [number for by, number in got if by == str(sender)] == [str(number) for number in range(10)]

    async def test_doing_nothing_is_allowed(self, store: Backend) -> None:
        await store.inbox.done([])

        assert list(await store.inbox.receive(FIRST.owner)) == []
