"""What every `Owners` must do: one engine drives a run, and takes over what others left."""

from collections.abc import Sequence

import anyio
import anyio.lowlevel
from msgspec.structs import replace

from stepflow.protocols import Backend
from stepflow.records import Committed, EngineRecord, Lease, LeaseLost, RunId, RunRecord, RunStatus, Verdict
from stepflow.testing.suites.shared import SharedSuite
from stepflow.testing.suites.writes import (
    FIRST,
    TTL_S,
    Ids,
    begin,
    child,
    end,
    enter,
    entries,
    record,
    take_over,
    write,
)


def claimed_ids(claimed: Sequence[tuple[RunRecord, Lease]]) -> list[RunId]:
    return sorted(run.id for run, _ in claimed)


async def claim_into(claimed: list[tuple[RunRecord, Lease]], store: Backend, owner: str) -> None:
    claimed.extend(await store.owners.claim(owner))


async def write_until_refused(store: Backend, run_id: RunId, committed: list[int]) -> None:
    """Write entries from the second on under the first engine's lease, and note the positions that were taken."""
    verdicts: Sequence[Verdict] = [Committed()]
    while list(verdicts) == [Committed()]:
        position = len(committed) + 2
        verdicts = await store.journal.commit([write(run_id, position, [position])])
        if list(verdicts) == [Committed()]:
            committed.append(position)
        await anyio.lowlevel.checkpoint()
    assert isinstance(verdicts[0], LeaseLost)


class OwnersSuite:
    """Give a `store` fixture: an open, empty `Backend` that `engine-1` has entered."""

    async def test_an_engine_that_entered_is_listed_as_it_is(self, store: Backend) -> None:
        engine = EngineRecord(
            owner="start-7", name="engine-1", group="blue", url="http://there:7837", place="host:12", started_at=5.5
        )

        row = await store.owners.enter(engine, ttl_s=TTL_S)

        assert replace(row, expires_at=None) == engine
        assert [replace(known, expires_at=None) for known in await store.owners.engines()] == [engine]

    async def test_a_new_start_of_an_engine_fences_the_one_before(self, store: Backend) -> None:
        await enter(store, "engine-2", name=FIRST.owner)

        assert [engine.owner for engine in await store.owners.engines()] == ["engine-2"]
        assert await store.owners.beat("engine-2")
        assert not await store.owners.beat(FIRST.owner)

    async def test_an_engine_may_say_later_where_it_can_be_reached(self, store: Backend) -> None:
        await store.owners.announce(FIRST.owner, "here:1")
        await store.owners.announce("nobody", "there:1")

        assert [each.url for each in await store.owners.engines()] == ["here:1"]

    async def test_an_engine_that_left_is_gone(self, store: Backend) -> None:
        await store.owners.leave(FIRST.owner)

        assert list(await store.owners.engines()) == []
        assert not await store.owners.beat(FIRST.owner)

    async def test_an_engine_may_leave_though_it_was_fenced(self, store: Backend) -> None:
        await enter(store, "engine-2", name=FIRST.owner)

        await store.owners.leave(FIRST.owner)

        assert [engine.owner for engine in await store.owners.engines()] == ["engine-2"]

    async def test_an_engine_is_kept_alive_for_as_long_as_asked(self, store: Backend) -> None:
        async with store.owners.keep_alive(FIRST.owner):
            inside = await store.owners.beat(FIRST.owner)

        assert inside
        assert await store.owners.beat(FIRST.owner)

    async def test_it_is_told_who_has_a_run(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        ownership = await store.owners.ownership(run)

        assert ownership is not None
        assert (ownership.owner, ownership.epoch) == (FIRST.owner, FIRST.epoch)
        assert ownership.engine is not None
        assert (ownership.engine.owner, ownership.engine.name) == (FIRST.owner, FIRST.owner)

    async def test_nobody_has_a_run_that_nobody_began(self, store: Backend, ids: Ids) -> None:
        assert await store.owners.ownership(ids.draw()) is None

    async def test_a_run_whose_engine_left_has_no_engine(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        await store.owners.leave(FIRST.owner)

        ownership = await store.owners.ownership(run)
        assert ownership is not None
        assert (ownership.owner, ownership.epoch, ownership.engine) == (FIRST.owner, FIRST.epoch, None)

    async def test_an_engine_does_not_claim_its_own_runs(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        assert list(await store.owners.claim(FIRST.owner)) == []
        assert list(await store.owners.claim(FIRST.owner, root_id=run)) == []

    async def test_runs_of_an_engine_that_left_are_free_at_once(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.owners.leave(FIRST.owner)
        await enter(store, "engine-2")

        ((claimed, lease),) = await store.owners.claim("engine-2")

        assert claimed == await store.runs.get(run)
        assert lease.owner == "engine-2"
        assert lease.epoch > FIRST.epoch
        assert list(await store.owners.claim("engine-2")) == []

    async def test_a_claimed_run_has_its_new_owner(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        lease = (await take_over(store, run))[run]

        ownership = await store.owners.ownership(run)
        assert ownership is not None
        assert (ownership.owner, ownership.epoch) == ("engine-2", lease.epoch)
        assert ownership.engine is not None
        assert ownership.engine.owner == "engine-2"

    async def test_a_tree_goes_as_a_whole(self, store: Backend, ids: Ids) -> None:
        root = await begin(store, record(ids.draw()))
        inner = await begin(store, child(ids.draw(), root))
        await begin(store, record(ids.draw()))

        leases = await take_over(store, root)

        assert list(leases) == [root, inner]
        assert {lease.owner for lease in leases.values()} == {"engine-2"}

    async def test_only_what_has_not_ended_is_claimed(self, store: Backend, ids: Ids) -> None:
        root, done, paused = [await begin(store, record(ids.draw())) for _ in range(3)]
        inner, ended = [await begin(store, child(ids.draw(), root, key=key)) for key in "ab"]
        for run in (root, done, ended):
            await end(store, run)
        await end(store, paused, status=RunStatus.PAUSED)
        await enter(store, "engine-2", name=FIRST.owner)

        claimed = await store.owners.claim("engine-2")

        assert claimed_ids(claimed) == sorted([paused, inner])

    async def test_the_oldest_trees_are_claimed_first(self, store: Backend, ids: Ids) -> None:
        roots = [await begin(store, record(ids.draw())) for _ in range(5)]
        inner = await begin(store, child(ids.draw(), roots[0]))
        await enter(store, "engine-2", name=FIRST.owner)

        claims = [claimed_ids(await store.owners.claim("engine-2", limit=2)) for _ in range(4)]

        assert claims == [[*roots[:2], inner], roots[2:4], roots[4:], []]

    async def test_a_claim_takes_only_runs_of_its_own_group(self, store: Backend, ids: Ids) -> None:
        mine = await begin(store, record(ids.draw(), group="blue"))
        other = await begin(store, record(ids.draw(), group="green"))
        await enter(store, "engine-2", name=FIRST.owner, group="blue")

        by_group = await store.owners.claim("engine-2")
        by_name = await store.owners.claim("engine-2", root_id=other)

        assert claimed_ids(by_group) == [mine]
        assert claimed_ids(by_name) == [other]

    async def test_a_claim_leaves_runs_of_a_later_journal_format_alone(self, store: Backend, ids: Ids) -> None:
        known = await begin(store, record(ids.draw(), journal_format=1))
        later = await begin(store, record(ids.draw(), journal_format=2))
        await enter(store, "engine-2", name=FIRST.owner)

        first = await store.owners.claim("engine-2", journal_format=1)
        by_name = await store.owners.claim("engine-2", root_id=later, journal_format=1)
        second = await store.owners.claim("engine-2", journal_format=2)

        assert [claimed_ids(claimed) for claimed in (first, by_name, second)] == [[known], [], [later]]

    async def test_claims_are_counted_until_the_owner_writes(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, replace(record(ids.draw()), claims=7))
        counts = [(await store.runs.get(run) or record(run)).claims]

        for owner in ("engine-2", "engine-3"):
            await enter(store, owner, name=FIRST.owner)
            ((claimed, lease),) = await store.owners.claim(owner)
            counts += [claimed.claims, (await store.runs.get(run) or record(run)).claims]
        await store.journal.commit([write(run, 2, ["going on"], lease=lease)])

        assert counts == [0, 1, 1, 2, 2]
        assert (await store.runs.get(run) or record(run, group="?")) == record(run)

    async def test_runs_that_a_cut_off_claim_took_are_given_by_the_next(self, store: Backend, ids: Ids) -> None:
        runs = [await begin(store, record(ids.draw())) for _ in range(3)]

        for turns in range(10):
            owner = f"engine-{turns + 2}"
            await enter(store, owner, name=FIRST.owner)
            claimed: list[tuple[RunRecord, Lease]] = []
            async with anyio.create_task_group() as claimers:
                claimers.start_soon(claim_into, claimed, store, owner)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                claimers.cancel_scope.cancel()
            await claim_into(claimed, store, owner)

            assert claimed_ids(claimed) == runs
            assert {lease.owner for _, lease in claimed} == {owner}

    async def test_what_is_written_while_a_run_is_taken_is_seen_by_who_takes_it(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        committed: list[int] = []

        with anyio.fail_after(60):
            async with anyio.create_task_group() as writers:
                writers.start_soon(write_until_refused, store, run, committed)
                while len(committed) < 20:
                    await anyio.lowlevel.checkpoint()
                await take_over(store, run)
                seen = await entries(store, run, after=1)

        assert [position for position, _ in seen] == committed
        assert await entries(store, run, after=1) == seen


class SharedOwnersSuite(SharedSuite):
    """The same where several engines share the store."""

    async def test_engines_are_listed_oldest_first(self, store: Backend, other: Backend) -> None:
        for number, owner in enumerate(("engine-3", "engine-2"), 1):
            engine = EngineRecord(owner=owner, name=owner, started_at=2_000_000_000.0 + number)
            await other.owners.enter(engine, ttl_s=TTL_S)

        assert [engine.owner for engine in await store.owners.engines()] == [FIRST.owner, "engine-3", "engine-2"]

    async def test_an_engine_expires_by_the_clock_of_the_store(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        alive = await store.owners.ownership(run)
        await self.let_expire(store, FIRST.owner)
        dead = await store.owners.ownership(run)

        assert alive is not None
        assert alive.expires_in_s is not None
        assert 0 < alive.expires_in_s <= TTL_S
        assert dead is not None
        assert (dead.owner, dead.engine) == (FIRST.owner, None)
        assert list(await store.owners.engines()) == []

    async def test_runs_of_an_engine_that_lives_are_not_claimed(self, store: Backend, other: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await enter(other, "engine-2")

        assert list(await other.owners.claim("engine-2")) == []
        assert list(await other.owners.claim("engine-2", root_id=run)) == []
        assert list(await store.journal.commit([write(run, 2, ["still mine"])])) == [Committed()]

    async def test_a_zombie_is_refused_whatever_it_writes(self, store: Backend, other: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await enter(other, "engine-2")
        await self.let_expire(store, FIRST.owner)
        ((_, lease),) = await other.owners.claim("engine-2")
        new = record(ids.draw())

        verdicts = await store.journal.commit([write(run, 2, ["zombie"]), write(new.id, 1, ["zombie"], new=new)])

        assert [type(verdict) for verdict in verdicts] == [LeaseLost, LeaseLost]
        assert verdicts[0] == LeaseLost(current=lease.epoch)
        assert await entries(other, run) == [(1, "begun")]
        assert await other.runs.get(new.id) is None
        assert not await store.owners.beat(FIRST.owner)

    async def test_an_engine_that_was_fenced_is_refused_before_anybody_claims(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        run = await begin(store, record(ids.draw()))
        await enter(other, "engine-3")
        await begin(other, record(ids.draw()), lease=Lease("engine-3", 1))
        await other.owners.leave("engine-3")
        await enter(other, "engine-2", name=FIRST.owner)

        verdicts = await store.journal.commit([write(run, 2, ["zombie"])])

        assert list(verdicts) == [LeaseLost(current=FIRST.epoch)]
        assert await entries(other, run) == [(1, "begun")]
        assert list(await store.owners.claim(FIRST.owner)) == []

    async def test_an_engine_that_never_entered_writes_nothing(self, store: Backend, ids: Ids) -> None:
        new = record(ids.draw())

        verdicts = await store.journal.commit([write(new.id, 1, ["begun"], new=new, lease=Lease("stranger", 1))])

        assert [type(verdict) for verdict in verdicts] == [LeaseLost]
        assert await store.runs.get(new.id) is None

    async def test_an_engine_that_was_late_lives_again_unless_it_was_fenced(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        run = await begin(store, record(ids.draw()))
        await enter(other, "engine-2")
        await self.let_expire(store, FIRST.owner)

        verdicts = await store.journal.commit([write(run, 2, ["late, but mine"])])
        beaten = await store.owners.beat(FIRST.owner)

        assert list(verdicts) == [Committed()]
        assert beaten
        assert list(await other.owners.claim("engine-2")) == []

    async def test_an_engine_that_was_late_takes_nothing_from_itself(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        mine = await begin(store, record(ids.draw()))
        await enter(other, "engine-2")
        orphan = await begin(other, record(ids.draw()), lease=Lease("engine-2", 1))
        await self.let_expire(store, FIRST.owner)
        await other.owners.leave("engine-2")

        claimed = await store.owners.claim(FIRST.owner)

        assert claimed_ids(claimed) == [orphan]
        assert list(await store.journal.commit([write(mine, 2, ["still mine"])])) == [Committed()]
        assert await store.owners.beat(FIRST.owner)

    async def test_a_dead_engine_is_fenced_with_all_its_runs(self, store: Backend, other: Backend, ids: Ids) -> None:
        first, second = [await begin(store, record(ids.draw())) for _ in range(2)]
        await enter(other, "engine-2")
        await self.let_expire(store, FIRST.owner)

        claimed = await other.owners.claim("engine-2", limit=1)
        verdicts = await store.journal.commit([write(second, 2, ["zombie"])])

        assert claimed_ids(claimed) == [first]
        assert [type(verdict) for verdict in verdicts] == [LeaseLost]
        assert not await store.owners.beat(FIRST.owner)
        assert claimed_ids(await other.owners.claim("engine-2")) == [second]

    async def test_engines_that_claim_at_once_get_every_run_once(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        roots = [await begin(store, record(ids.draw())) for _ in range(40)]
        inner = [await begin(store, child(ids.draw(), root)) for root in roots[::4]]
        owners = [f"claimer-{number}" for number in range(6)]
        for owner in owners:
            await enter(other, owner)
        await self.let_expire(store, FIRST.owner)
        taken: list[tuple[RunRecord, Lease]] = []

        async def claim(backend: Backend, owner: str) -> None:
            while len(taken) < len(roots) + len(inner):
                taken.extend(await backend.owners.claim(owner, limit=3))
                await anyio.lowlevel.checkpoint()

        with anyio.fail_after(60):
            async with anyio.create_task_group() as claimers:
                for number, owner in enumerate(owners):
                    claimers.start_soon(claim, (store, other)[number % 2], owner)

        assert claimed_ids(taken) == sorted([*roots, *inner])
        for run, lease in taken:
            owned = await store.owners.ownership(run.id)
            assert owned is not None
            assert (owned.owner, owned.epoch) == (lease.owner, lease.epoch)
        owner_of = {run.id: lease.owner for run, lease in taken}
        assert [owner_of[run.id] for run, _ in taken] == [owner_of[run.root_id] for run, _ in taken]

    async def test_one_run_is_claimed_by_one_engine(self, store: Backend, other: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        owners = [f"claimer-{number}" for number in range(8)]
        for owner in owners:
            await enter(other, owner)
        await self.let_expire(store, FIRST.owner)
        taken: list[Lease] = []

        async def claim(backend: Backend, owner: str) -> None:
            taken.extend([lease for _, lease in await backend.owners.claim(owner, root_id=run)])

        with anyio.fail_after(60):
            async with anyio.create_task_group() as claimers:
                for number, owner in enumerate(owners):
                    claimers.start_soon(claim, (store, other)[number % 2], owner)

        assert len(taken) == 1
        assert list(await store.journal.commit([write(run, 2, ["mine"], lease=taken[0])])) == [Committed()]

    async def test_what_an_expired_engine_writes_while_its_run_is_taken_is_seen_by_the_new_owner(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        run = await begin(store, record(ids.draw()))
        await enter(other, "engine-2")
        await self.let_expire(store, FIRST.owner)
        committed: list[int] = []

        with anyio.fail_after(60):
            async with anyio.create_task_group() as writers:
                writers.start_soon(write_until_refused, store, run, committed)
                while len(committed) < 20:
                    await anyio.lowlevel.checkpoint()
                while not await other.owners.claim("engine-2"):
                    await anyio.lowlevel.checkpoint()
                seen = await entries(other, run, after=1)

        assert [position for position, _ in seen] == committed
        assert await entries(other, run, after=1) == seen
