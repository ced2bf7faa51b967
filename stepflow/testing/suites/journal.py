"""What every `Store` must do: the journal of each run, and who may write to it."""

import anyio
import anyio.lowlevel
import pytest

from stepflow.protocols import Backend
from stepflow.records import Committed, Entries, Json, Lease, LeaseLost, RunChange, RunId, RunStatus
from stepflow.testing.suites.shared import SharedSuite
from stepflow.testing.suites.writes import FIRST, Ids, begin, enter, entries, record, result, take_over, write


class JournalSuite:
    """Give a `store` fixture: an open, empty `Backend`."""

    async def test_what_was_written_is_read_as_it_was_packed(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        await store.journal.commit([write(run, 2, ["a", "b"])])

        assert list(await store.journal.read(run)) == [
            Entries(1, 1, b'["begun"]'),
            Entries(2, 2, b'["a","b"]'),
        ]

    async def test_a_run_that_nobody_wrote_reads_as_nothing(self, store: Backend, ids: Ids) -> None:
        assert list(await store.journal.read(ids.draw())) == []

    async def test_reading_after_a_position_gives_every_row_with_an_entry_beyond_it(
        self, store: Backend, ids: Ids
    ) -> None:
        run = await begin(store, record(ids.draw()))
        await store.journal.commit([write(run, 2, ["a", "b"]), write(run, 4, ["c"])])

        rows = [list(await store.journal.read(run, after=after)) for after in (1, 2, 3, 4)]

        assert [[row.first for row in read] for read in rows] == [[2, 4], [2, 4], [4], []]

    async def test_repeating_a_write_changes_nothing(self, store: Backend, ids: Ids) -> None:
        run = ids.draw()
        opening = write(run, 1, ["begun"], new=record(run), results=[result(0, "first")])
        await store.journal.commit([opening])
        again = write(run, 2, ["a"], results=[result(1, "second")], change=RunChange(succeeded=2))
        await store.journal.commit([again])

        verdicts = await store.journal.commit([opening, again])

        assert list(verdicts) == [Committed(), Committed()]
        assert await entries(store, run) == [(1, "begun"), (2, "a")]
        assert list(await store.runs.results(run)) == [result(0, "first"), result(1, "second")]
        assert [place for place, _ in list(await store.runs.completed(run))] == [1, 2]

    async def test_the_first_write_at_a_position_stays(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.journal.commit([write(run, 2, ["stays"])])

        verdicts = await store.journal.commit([write(run, 2, ["too late"])])

        assert list(verdicts) == [Committed()]
        assert await entries(store, run) == [(1, "begun"), (2, "stays")]

    async def test_one_commit_writes_many_runs(self, store: Backend, ids: Ids) -> None:
        runs = [ids.draw() for _ in range(20)]

        verdicts = await store.journal.commit([write(run, 1, [run], new=record(run)) for run in runs])

        assert list(verdicts) == [Committed()] * 20
        assert [await entries(store, run) for run in runs] == [[(1, run)] for run in runs]

    async def test_one_commit_takes_several_writes_of_a_run_in_order(self, store: Backend, ids: Ids) -> None:
        run = ids.draw()

        await store.journal.commit([write(run, 1, ["a"], new=record(run)), write(run, 2, ["b"]), write(run, 3, ["c"])])

        assert await entries(store, run) == [(1, "a"), (2, "b"), (3, "c")]

    async def test_an_empty_commit_is_answered_with_nothing(self, store: Backend) -> None:
        assert list(await store.journal.commit([])) == []

    async def test_a_replaced_lease_stores_nothing(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        newer = (await take_over(store, run))[run]
        await store.journal.commit([write(run, 2, ["new owner"], lease=newer)])
        late = write(run, 3, ["late"], results=[result(0)], change=RunChange(status=RunStatus.FAILED, failed=9))

        verdicts = await store.journal.commit([late])

        stored = await store.runs.get(run)
        assert list(verdicts) == [LeaseLost(current=newer.epoch)]
        assert await entries(store, run) == [(1, "begun"), (2, "new owner")]
        assert list(await store.runs.results(run)) == []
        assert stored is not None
        assert (stored.status, stored.failed) == (RunStatus.RUNNING, 0)

    async def test_a_refused_write_does_not_touch_the_other_runs(self, store: Backend, ids: Ids) -> None:
        lost, mine, also = [await begin(store, record(ids.draw())) for _ in range(3)]
        leases = await take_over(store, lost, mine, also)

        verdicts = await store.journal.commit(
            [write(run, 2, ["x"], lease=FIRST if run == lost else leases[run]) for run in (mine, lost, also)]
        )

        assert list(verdicts) == [Committed(), LeaseLost(current=leases[lost].epoch), Committed()]
        assert [len(await entries(store, run)) for run in (mine, lost, also)] == [2, 1, 2]

    async def test_the_newer_lease_goes_on_where_the_older_stopped(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()), lease=FIRST)
        newer = (await take_over(store, run))[run]

        verdicts = await store.journal.commit([write(run, position, ["x"], lease=newer) for position in (2, 3)])

        assert newer.epoch > FIRST.epoch
        assert list(verdicts) == [Committed(), Committed()]
        assert [position for position, _ in await entries(store, run)] == [1, 2, 3]

    @pytest.mark.parametrize("lease", [Lease("engine-9", FIRST.epoch), Lease(FIRST.owner, FIRST.epoch + 1)])
    async def test_a_lease_that_the_store_never_gave_is_refused(self, store: Backend, ids: Ids, lease: Lease) -> None:
        run = await begin(store, record(ids.draw()))

        verdicts = await store.journal.commit([write(run, 2, ["stranger"], lease=lease)])

        assert list(verdicts) == [LeaseLost(current=FIRST.epoch)]
        assert await entries(store, run) == [(1, "begun")]

    async def test_a_former_owner_is_refused_with_the_new_epoch(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        newer = (await take_over(store, run))[run]

        verdicts = await store.journal.commit([write(run, 2, ["zombie"], lease=Lease(FIRST.owner, newer.epoch))])

        assert [type(verdict) for verdict in verdicts] == [LeaseLost]
        assert await entries(store, run) == [(1, "begun")]

    async def test_a_run_that_nobody_began_takes_no_writes(self, store: Backend, ids: Ids) -> None:
        run = ids.draw()

        verdicts = await store.journal.commit([write(run, 2, ["more"])])

        assert [type(verdict) for verdict in verdicts] == [LeaseLost]
        assert await store.runs.get(run) is None
        assert await entries(store, run) == []

    async def test_a_commit_that_was_cut_off_may_be_repeated(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        for position in range(2, 22):
            one = write(run, position, [position], results=[result(position)])
            async with anyio.create_task_group() as writers:
                writers.start_soon(store.journal.commit, [one])
                for _ in range(position % 7):
                    await anyio.lowlevel.checkpoint()
                writers.cancel_scope.cancel()
            assert list(await store.journal.commit([one])) == [Committed()]

        assert await entries(store, run, after=1) == [(position, position) for position in range(2, 22)]
        assert [one.index for one in await store.runs.results(run)] == list(range(2, 22))

    async def test_the_history_of_an_item_is_the_rows_that_speak_of_it(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        for position, items in enumerate([(0, 4), (0, 0), (3, 5), (2, 2), (3, 3), (-1, -1)], 2):
            await store.journal.commit([write(run, position, [position], items=items)])

        async def history(item: int, **which: int) -> list[int]:
            return [row.first for row in await store.journal.history(run, item=item, **which)]

        assert [await history(item) for item in (0, 2, 3, 5, 6)] == [[2, 3], [2, 5], [2, 4, 6], [4], []]
        assert await history(3, after=2) == [4, 6]
        assert await history(3, limit=2) == [2, 4]
        assert [row.first for row in await store.journal.history(run)] == list(range(1, 8))

    async def test_a_checkpoint_keeps_the_first_row_and_the_inputs_still_needed(self, store: Backend, ids: Ids) -> None:
        run = ids.draw()
        await store.journal.commit([write(run, 1, ["begun"], new=record(run))])
        await store.journal.commit([write(run, 2, ["inputs 0-1"], items=(0, 1), has_inputs=True)])
        await store.journal.commit([write(run, 3, ["inputs 2-5"], items=(2, 5), has_inputs=True)])
        await store.journal.commit([write(run, 4, ["steps"], items=(0, 3))])
        await store.journal.commit([write(run, 5, ["state"], items=(4, 5), is_checkpoint=True)])
        await store.journal.commit([write(run, 6, ["after"], items=(4, 4))])

        whole = dict(await entries(store, run))
        tail = dict(await entries(store, run, after=4))

        assert {1: "begun", 3: "inputs 2-5", 5: "state", 6: "after"}.items() <= whole.items()
        assert list(whole) == sorted(whole)
        assert tail == {5: "state", 6: "after"}

    @pytest.mark.parametrize(
        "entry",
        ["nul \0 here", "ünïcödé 🦆 \u2028", {"n": 9_007_199_254_740_993, "f": 0.1, "none": None}, "x" * 1_000_000],
    )
    async def test_an_entry_comes_back_to_the_letter(self, store: Backend, ids: Ids, entry: Json) -> None:
        run = await begin(store, record(ids.draw()))

        await store.journal.commit([write(run, 2, [entry])])

        assert (await entries(store, run))[-1] == (2, entry)

    async def test_runs_written_at_the_same_moment_do_not_mix(self, store: Backend, ids: Ids) -> None:
        runs = [await begin(store, record(ids.draw())) for _ in range(10)]

        async def append(run: RunId) -> None:
            for position in range(2, 12):
                await store.journal.commit([write(run, position, [f"{run} {position}"])])

        async with anyio.create_task_group() as writers:
            for run in runs:
                writers.start_soon(append, run)

        for run in runs:
            assert await entries(store, run, after=1) == [(at, f"{run} {at}") for at in range(2, 12)]

    async def test_a_read_ends_though_the_run_goes_on(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        seen = 0

        with anyio.fail_after(10):
            for row in await store.journal.read(run):
                seen += row.count
                if seen < 50:
                    await store.journal.commit([write(run, seen + 1, ["more"])])

        assert 1 <= seen <= 50


class SharedJournalSuite(SharedSuite):
    """The same where several engines share the store."""

    async def test_what_one_engine_commits_the_others_see(self, store: Backend, other: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        await store.journal.commit([write(run, 2, ["a"], results=[result(0)], change=RunChange(succeeded=1))])

        seen = await other.runs.get(run)
        assert seen is not None
        assert seen.succeeded == 1
        assert await entries(other, run) == [(1, "begun"), (2, "a")]
        assert list(await other.runs.results(run)) == [result(0)]

    async def test_engines_that_write_at_once_do_not_mix(self, store: Backend, other: Backend, ids: Ids) -> None:
        await enter(other, "engine-2")
        leases = [FIRST, Lease("engine-2", 1)]
        runs = [
            await begin((store, other)[place % 2], record(ids.draw()), lease=leases[place % 2]) for place in range(8)
        ]

        async def append(backend: Backend, run: RunId, lease: Lease) -> None:
            for position in range(2, 12):
                await backend.journal.commit([write(run, position, [f"{run} {position}"], lease=lease)])

        async with anyio.create_task_group() as writers:
            for place, run in enumerate(runs):
                writers.start_soon(append, (store, other)[place % 2], run, leases[place % 2])

        for run in runs:
            assert await entries(store, run, after=1) == [(at, f"{run} {at}") for at in range(2, 12)]
