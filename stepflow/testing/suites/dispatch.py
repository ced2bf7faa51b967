"""What every `Dispatch` must do: engines hand each other the tasks that they find nobody for."""

import anyio
import anyio.lowlevel

from stepflow.protocols import Backend, announced_topic
from stepflow.records import Answer, Offer, RunId
from stepflow.testing.suites.shared import SharedSuite
from stepflow.testing.suites.writes import FIRST, Ids, begin, enter, record, take_over


def offer(task_id: str, run_id: RunId, *, attempt: int = 1, queue: str = "gpu") -> Offer:
    return Offer(task_id=task_id, attempt=attempt, run_id=run_id, queue=queue, body=b'\x00"' + task_id.encode())


def answer(to: Offer, body: bytes = b'\x00"done') -> Answer:
    return Answer(task_id=to.task_id, attempt=to.attempt, run_id=to.run_id, body=body)


class DispatchSuite:
    """Give a `store` fixture: an open, empty `Backend` that `engine-1` has entered."""

    async def test_an_engine_does_not_claim_its_own_offers(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        await store.dispatch.offer(FIRST.owner, [offer("a", run)])

        assert list(await store.dispatch.claim(FIRST.owner, "gpu")) == []

    async def test_an_answer_comes_to_the_owner_until_it_is_withdrawn(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        offers = [offer(task, run) for task in "abc"]
        await store.dispatch.offer(FIRST.owner, offers)

        taken = [await store.dispatch.answer(answer(offers[place])) for place in (2, 0)]
        first = list(await store.dispatch.answers(FIRST.owner))
        await store.dispatch.withdraw(["c"])
        second = list(await store.dispatch.answers(FIRST.owner))
        await store.dispatch.withdraw(["a", "b"])

        assert taken == [True, True]
        assert first == [answer(offers[2]), answer(offers[0])]
        assert second == [answer(offers[0])]
        assert list(await store.dispatch.answers(FIRST.owner)) == []

    async def test_offers_of_later_attempts_than_are_withdrawn_stay(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.dispatch.offer(FIRST.owner, [offer("a", run, attempt=3), offer("b", run, attempt=2)])

        await store.dispatch.withdraw(["a", "b"], through=2)
        kept = [await store.dispatch.answer(answer(offer(task, run, attempt=3))) for task in "ab"]
        await store.dispatch.withdraw(["a"], through=3)

        assert kept == [True, False]
        assert list(await store.dispatch.answers(FIRST.owner)) == []

    async def test_answers_are_given_a_few_at_a_time(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        offers = [offer(task, run) for task in "abc"]
        await store.dispatch.offer(FIRST.owner, offers)
        for one in offers:
            await store.dispatch.answer(answer(one))

        assert list(await store.dispatch.answers(FIRST.owner, limit=2)) == [answer(one) for one in offers[:2]]

    async def test_the_first_answer_stays(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.dispatch.offer(FIRST.owner, [offer("a", run)])

        taken = [await store.dispatch.answer(answer(offer("a", run), body)) for body in (b"first", b"second")]

        assert taken == [True, False]
        assert list(await store.dispatch.answers(FIRST.owner)) == [answer(offer("a", run), b"first")]

    async def test_an_answer_that_nobody_waits_for_is_not_kept(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        early, late = [offer("a", run, attempt=attempt) for attempt in (1, 2)]
        await store.dispatch.offer(FIRST.owner, [early, offer("b", run)])
        await store.dispatch.offer(FIRST.owner, [late])
        await store.dispatch.withdraw(["b"])

        taken = [await store.dispatch.answer(answer(one)) for one in (early, offer("b", run), offer("c", run), late)]

        assert taken == [False, False, False, True]
        assert list(await store.dispatch.answers(FIRST.owner)) == [answer(late)]

    async def test_a_later_attempt_is_not_replaced_by_an_earlier_one(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        early, late = [offer("a", run, attempt=attempt) for attempt in (1, 2)]

        await store.dispatch.offer(FIRST.owner, [late])
        await store.dispatch.offer(FIRST.owner, [early])

        assert [await store.dispatch.answer(answer(one)) for one in (early, late)] == [False, True]

    async def test_an_answer_goes_to_whoever_owns_the_run_by_then(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        before, after = offer("a", run), offer("b", run)
        await store.dispatch.offer(FIRST.owner, [before, after])
        await store.dispatch.answer(answer(before))

        await take_over(store, run)
        taken = await store.dispatch.answer(answer(after))

        assert taken
        assert list(await store.dispatch.answers("engine-2")) == [answer(before), answer(after)]
        assert list(await store.dispatch.answers(FIRST.owner)) == []

    async def test_one_of_several_answers_at_once_is_taken(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.dispatch.offer(FIRST.owner, [offer("a", run)])
        taken: list[bytes] = []

        async def give(body: bytes) -> None:
            if await store.dispatch.answer(answer(offer("a", run), body)):
                taken.append(body)

        async with anyio.create_task_group() as givers:
            for number in range(10):
                givers.start_soon(give, b"%d" % number)

        assert len(taken) == 1
        assert list(await store.dispatch.answers(FIRST.owner)) == [answer(offer("a", run), taken[0])]

    async def test_what_nobody_has_is_taken_back(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        offers = [offer(task, run) for task in "ab"]
        await store.dispatch.offer(FIRST.owner, offers)
        await store.dispatch.answer(answer(offers[0]))

        back = list(await store.dispatch.take_back(FIRST.owner, ["a", "b", "never offered"]))

        assert back == ["b"]
        assert [await store.dispatch.answer(answer(one)) for one in offers] == [False, False]
        assert list(await store.dispatch.answers(FIRST.owner)) == [answer(offers[0])]

    async def test_an_engine_takes_back_only_what_it_offered_itself(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        again = offer("b", run, attempt=2)
        await store.dispatch.offer(FIRST.owner, [offer("a", run), offer("b", run)])
        await take_over(store, run)
        await store.dispatch.offer("engine-2", [again])

        theirs = list(await store.dispatch.take_back("engine-2", ["a", "b"]))
        mine = list(await store.dispatch.take_back(FIRST.owner, ["a", "b"]))

        assert theirs == ["b"]
        assert mine == ["a"]

    async def test_who_claimed_nothing_gives_nothing_back(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.dispatch.offer(FIRST.owner, [offer("a", run)])

        await store.dispatch.give_back_others(FIRST.owner, "gpu", [])

        assert list(await store.dispatch.claim(FIRST.owner, "gpu")) == []
        assert await store.dispatch.answer(answer(offer("a", run)))

    async def test_nothing_may_be_offered_and_withdrawn(self, store: Backend) -> None:
        await store.dispatch.offer(FIRST.owner, [])
        await store.dispatch.withdraw([])
        await store.dispatch.withdraw(["never offered"])

        assert list(await store.dispatch.answers(FIRST.owner)) == []


class SharedDispatchSuite(SharedSuite):
    """The same where several engines share the store."""

    async def test_offers_are_claimed_by_others_oldest_first(self, store: Backend, other: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await enter(other, "engine-2")
        offers = [offer(task, run) for task in "cab"]
        await store.dispatch.offer(FIRST.owner, [*offers, offer("elsewhere", run, queue="cpu")])

        claims = [list(await other.dispatch.claim("engine-2", "gpu", limit=2)) for _ in range(3)]

        assert claims == [offers[:2], offers[2:], []]
        assert list(await other.dispatch.claim("engine-2", "none")) == []

    async def test_an_offer_is_claimed_once_though_it_is_offered_again(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        run = await begin(store, record(ids.draw()))
        for owner in ("engine-2", "engine-3"):
            await enter(other, owner)
        await store.dispatch.offer(FIRST.owner, [offer("a", run)])
        await other.dispatch.claim("engine-2", "gpu")

        await store.dispatch.offer(FIRST.owner, [offer("a", run)])

        assert list(await other.dispatch.claim("engine-3", "gpu")) == []

    async def test_a_later_attempt_is_free_though_an_earlier_one_was_claimed(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        run = await begin(store, record(ids.draw()))
        for owner in ("engine-2", "engine-3"):
            await enter(other, owner)
        await store.dispatch.offer(FIRST.owner, [offer("a", run)])
        await other.dispatch.claim("engine-2", "gpu")

        await store.dispatch.offer(FIRST.owner, [offer("a", run, attempt=2)])

        assert list(await other.dispatch.claim("engine-3", "gpu")) == [offer("a", run, attempt=2)]

    async def test_what_was_given_back_is_free_at_its_old_place(self, store: Backend, other: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        for owner in ("engine-2", "engine-3"):
            await enter(other, owner)
        offers = [offer(task, run) for task in "abc"]
        await store.dispatch.offer(FIRST.owner, offers)
        claimed = await other.dispatch.claim("engine-2", "gpu", limit=2)

        await other.dispatch.give_back("engine-2", claimed[:1])

        assert list(await other.dispatch.claim("engine-3", "gpu", limit=3)) == [offers[0], offers[2]]

    async def test_only_its_claimer_gives_an_offer_back(self, store: Backend, other: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        for owner in ("engine-2", "engine-3"):
            await enter(other, owner)
        await store.dispatch.offer(FIRST.owner, [offer("a", run)])
        await other.dispatch.claim("engine-2", "gpu")

        await other.dispatch.give_back("engine-3", [offer("a", run)])

        assert list(await other.dispatch.claim("engine-3", "gpu")) == []

    async def test_what_a_lost_answer_told_of_is_given_back_by_naming_the_rest(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        run = await begin(store, record(ids.draw()))
        for owner in ("engine-2", "engine-3"):
            await enter(other, owner)
        offers = [offer(task, run) for task in "abcd"]
        elsewhere = offer("elsewhere", run, queue="cpu")
        await store.dispatch.offer(FIRST.owner, [*offers, elsewhere])
        await other.dispatch.claim("engine-2", "cpu")
        await other.dispatch.claim("engine-3", "gpu")
        claimed = await other.dispatch.claim("engine-2", "gpu", limit=3)
        await other.dispatch.answer(answer(claimed[2]))

        for _ in range(2):  # its own answer may be lost too
            await other.dispatch.give_back_others("engine-2", "gpu", claimed[:1])

        assert list(await other.dispatch.claim("engine-3", "gpu", limit=5)) == [offers[2]]
        assert list(await other.dispatch.claim("engine-3", "cpu", limit=5)) == []
        assert list(await other.dispatch.claim("engine-2", "gpu", limit=5)) == []

    async def test_who_lost_an_answer_may_claim_what_it_told_of_again(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        run = await begin(store, record(ids.draw()))
        await enter(other, "engine-2")
        await store.dispatch.offer(FIRST.owner, [offer("a", run)])
        known = list(await other.dispatch.claim("engine-2", "gpu"))
        later = offer("a", run, attempt=2)
        await store.dispatch.offer(FIRST.owner, [later])
        await other.dispatch.claim("engine-2", "gpu")

        await other.dispatch.give_back_others("engine-2", "gpu", known)

        assert list(await other.dispatch.claim("engine-2", "gpu")) == [later]
        await other.dispatch.give_back_others("engine-2", "gpu", [])
        assert list(await other.dispatch.claim("engine-2", "gpu")) == [later]

    async def test_what_a_dead_engine_had_claimed_is_free_again(self, store: Backend, other: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        for owner in ("engine-2", "engine-3", "engine-4"):
            await enter(other, owner)
        offers = [offer(task, run) for task in "ab"]
        await store.dispatch.offer(FIRST.owner, offers)
        await other.dispatch.claim("engine-2", "gpu")
        await other.dispatch.claim("engine-3", "gpu")

        await self.let_expire(store, "engine-2")
        await other.owners.leave("engine-3")

        assert list(await other.dispatch.claim("engine-4", "gpu", limit=3)) == offers

    async def test_offers_of_a_dead_engine_are_not_given(self, store: Backend, other: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await enter(other, "engine-2")
        await store.dispatch.offer(FIRST.owner, [offer("a", run)])

        await self.let_expire(store, FIRST.owner)

        assert list(await other.dispatch.claim("engine-2", "gpu")) == []

    async def test_a_claimed_task_is_answered_though_its_run_has_a_new_owner(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        run = await begin(store, record(ids.draw()))
        for owner in ("engine-2", "engine-3"):
            await enter(other, owner)
        await store.dispatch.offer(FIRST.owner, [offer("a", run)])
        (claimed,) = await other.dispatch.claim("engine-2", "gpu")
        await self.let_expire(store, FIRST.owner)
        await other.owners.claim("engine-3")

        taken = await other.dispatch.answer(answer(claimed))

        assert taken
        assert list(await other.dispatch.answers("engine-3")) == [answer(claimed)]

    async def test_what_somebody_is_at_work_on_is_not_taken_back(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        run = await begin(store, record(ids.draw()))
        for owner in ("engine-2", "engine-3"):
            await enter(other, owner)
        await store.dispatch.offer(FIRST.owner, [offer(task, run) for task in "abc"])
        await other.dispatch.claim("engine-2", "gpu")
        await other.dispatch.claim("engine-3", "gpu")
        await other.owners.leave("engine-3")

        back = list(await store.dispatch.take_back(FIRST.owner, ["a", "b", "c"]))
        theirs = list(await other.dispatch.take_back("engine-2", ["a"]))

        assert back == ["b", "c"]
        assert theirs == []

    async def test_what_was_answered_is_not_given_again(self, store: Backend, other: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await enter(other, "engine-2")
        await store.dispatch.offer(FIRST.owner, [offer("a", run)])

        await other.dispatch.answer(answer(offer("a", run)))

        assert list(await other.dispatch.claim("engine-2", "gpu")) == []

    async def test_engines_that_claim_at_once_get_every_offer_once(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        run = await begin(store, record(ids.draw()))
        offers = [offer(f"task {number:02}", run) for number in range(60)]
        await store.dispatch.offer(FIRST.owner, offers)
        taken: list[str] = []

        async def claim(backend: Backend, owner: str) -> None:
            while len(taken) < len(offers):
                taken.extend([one.task_id for one in await backend.dispatch.claim(owner, "gpu", limit=3)])
                await anyio.lowlevel.checkpoint()

        with anyio.fail_after(60):
            async with anyio.create_task_group() as claimers:
                for number in range(6):
                    await enter(other, f"claimer-{number}")
                    claimers.start_soon(claim, (store, other)[number % 2], f"claimer-{number}")

        assert sorted(taken) == [one.task_id for one in offers]

    async def test_what_workers_can_do_is_told_to_the_other_engines_that_live(
        self, store: Backend, other: Backend
    ) -> None:
        for owner in ("engine-2", "engine-3"):
            await enter(other, owner)
        said = ((FIRST.owner, b"old"), ("engine-2", b"two"), (FIRST.owner, b'\x00"one'), ("gone", b"no"))
        for owner, listed in said:
            await store.dispatch.announce(owner, "gpu", listed)

        told = [list(await other.dispatch.announced(f"engine-{number}", "gpu")) for number in (1, 2, 3)]
        other_queue = list(await other.dispatch.announced("engine-3", "cpu"))
        await other.owners.leave("engine-2")

        assert told == [[b"two"], [b'\x00"one'], [b'\x00"one', b"two"]]
        assert other_queue == []
        assert list(await other.dispatch.announced("engine-3", "gpu")) == [b'\x00"one']

    async def test_who_follows_is_woken_when_something_is_announced(self, store: Backend, other: Backend) -> None:
        await enter(other, "engine-2")
        with store.signals.listen(announced_topic("gpu")) as listener, anyio.fail_after(60):
            await other.dispatch.announce("engine-2", "gpu", b"listed")
            await listener.wait(60)

            assert list(await store.dispatch.announced(FIRST.owner, "gpu")) == [b"listed"]
