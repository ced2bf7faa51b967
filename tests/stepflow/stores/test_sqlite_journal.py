"""What the SQLite store does beyond the suite: it keeps what a checkpoint replaced, and hands runs to new owners."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stepflow.records import Committed, Lease, LeaseLost, ParentLink, RunChange, RunStatus
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.stores.sqlite.blobs import TOUCH_AFTER_S
from stepflow.testing.suites.writes import FIRST, Ids, begin, entries, record, result, write

pytestmark = pytest.mark.anyio


class SetClock:
    """A time that is set."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def store(tmp_path: Path, clock: SetClock) -> AsyncIterator[SqliteBackend]:
    async with SqliteBackend(tmp_path / "runs.db", clock=clock) as opened:  # type: ignore[arg-type]
        yield opened


@pytest.fixture
def ids() -> Ids:
    return Ids()


async def _checkpointed(store: SqliteBackend, run: str) -> None:
    """A run of six items; items 0 and 1 have ended."""
    writes = [
        write(run, 1, ["begun"], new=record(run)),
        write(run, 2, ["inputs 0-1"], items=(0, 1), has_inputs=True),
        write(run, 3, ["inputs 2-3"], items=(2, 3), has_inputs=True),
        write(run, 4, ["steps", "more steps"], items=(0, 3)),
        write(run, 6, ["old state"], items=(1, -1), is_checkpoint=True),
        write(run, 7, ["inputs 4-5"], items=(4, 5), has_inputs=True),
        write(run, 8, ["state"], items=(2, -1), is_checkpoint=True),
        write(run, 9, ["after", "and after"], items=(4, 4)),
    ]
    for one in writes:
        assert list(await store.journal.commit([one])) == [Committed()]


@pytest.mark.parametrize("limit", [1, 2, 3, 1_000])
async def test_recovery_reads_the_start_the_inputs_still_needed_and_all_since_the_checkpoint(
    store: SqliteBackend, ids: Ids, limit: int
) -> None:
    run = ids.draw()
    await _checkpointed(store, run)

    after, firsts = 0, []
    while rows := await store.journal.read(run, after=after, limit=limit):
        assert len(rows) <= limit
        firsts += [row.first for row in rows]
        after = rows[-1].first + rows[-1].count - 1

    assert firsts == [1, 3, 7, 8, 9]


@pytest.mark.parametrize(("after", "firsts"), [(2, [3, 7, 8, 9]), (4, [7, 8, 9]), (8, [9]), (9, [9]), (10, [])])
async def test_reading_on_skips_what_a_checkpoint_replaced(
    store: SqliteBackend, ids: Ids, after: int, firsts: list[int]
) -> None:
    run = ids.draw()
    await _checkpointed(store, run)

    rows = await store.journal.read(run, after=after)

    assert [row.first for row in rows] == firsts


async def test_history_has_every_row(store: SqliteBackend, ids: Ids) -> None:
    run = ids.draw()
    await _checkpointed(store, run)

    whole = await store.journal.history(run)
    beyond = await store.journal.history(run, after=4, limit=2)

    assert [row.first for row in whole] == [1, 2, 3, 4, 6, 7, 8, 9]
    assert [row.first for row in beyond] == [4, 6]
    assert list(await store.journal.history(ids.draw())) == []


async def test_the_first_result_of_an_item_stays_and_leaves_no_gap(store: SqliteBackend, ids: Ids) -> None:
    run = await begin(store, record(ids.draw()))
    await store.journal.commit([write(run, 2, ["a"], results=[result(4, "first")])])

    again = [result(4, "second"), result(1, "x"), result(1, "x again"), result(0, "y"), result(3, "z")]
    await store.journal.commit([write(run, 3, ["b"], results=again)])

    expected = [(1, result(4, "first")), (2, result(1, "x")), (3, result(0, "y")), (4, result(3, "z"))]
    assert list(await store.runs.completed(run)) == expected


async def test_results_are_found_by_their_places_whatever_order_they_came_in(store: SqliteBackend, ids: Ids) -> None:
    run = await begin(store, record(ids.draw()))
    order = [0, 1, 5, 3, 4, 2, 6, 9, 8, 7]
    for position, item in enumerate(order, 2):
        await store.journal.commit([write(run, position, ["a"], results=[result(item)])])

    whole = [(place, one.index) for place, one in await store.runs.completed(run)]
    paged = [one.index for after in range(0, 12, 3) for _, one in await store.runs.completed(run, after=after, limit=3)]

    assert whole == list(enumerate(order, 1))
    assert paged == order


async def test_a_write_that_cannot_be_stored_leaves_nothing_of_its_commit(store: SqliteBackend, ids: Ids) -> None:
    good, bad = ids.draw(), ids.draw()
    unstorable = record(bad, key="\ud800")

    with pytest.raises(UnicodeEncodeError):
        await store.journal.commit([write(good, 1, ["a"], new=record(good)), write(bad, 1, ["a"], new=unstorable)])

    assert await store.runs.list() == []
    await begin(store, record(good))
    assert await entries(store, good) == [(1, "begun")]


async def test_claiming_takes_every_run_that_has_not_ended_from_whoever_had_it(store: SqliteBackend, ids: Ids) -> None:
    done = await begin(store, record(ids.draw()))
    await store.journal.commit([write(done, 2, ["end"], change=RunChange(status=RunStatus.COMPLETED, ended_at=9.0))])
    root = await begin(store, record(ids.draw()), lease=Lease("old", 4))
    link = ParentLink(run_id=root, item=0, step=1, key="k")
    child = await begin(store, record(ids.draw(), root_id=root, parent=link))
    paused = await begin(store, record(ids.draw()))
    await store.journal.commit([write(paused, 2, ["pause"], change=RunChange(status=RunStatus.PAUSED))])

    claimed = await store.owners.claim("new")
    taken = await store.runs.get(child)
    late = await store.journal.commit([write(root, 2, ["late"], lease=Lease("old", 4)), write(child, 2, ["late"])])
    mine = await store.journal.commit([write(run.id, 3, ["mine"], lease=lease) for run, lease in claimed])

    assert [(run.id, lease) for run, lease in claimed] == [
        (root, Lease("new", 5)),
        (child, Lease("new", FIRST.epoch + 1)),
        (paused, Lease("new", FIRST.epoch + 1)),
    ]
    assert claimed[1][0] == taken
    assert list(late) == [LeaseLost(5), LeaseLost(2)]
    assert list(mine) == [Committed()] * 3


async def test_a_claim_outlives_the_process(tmp_path: Path, ids: Ids) -> None:
    path = tmp_path / "kept.db"
    async with SqliteBackend(path) as store:
        run = await begin(store, record(ids.draw()))
        await store.owners.claim("second")

    async with SqliteBackend(path) as store:
        claimed = await store.owners.claim("third")

    assert [(one.id, lease) for one, lease in claimed] == [(run, Lease("third", 3))]


async def test_results_that_were_delivered_are_kept(store: SqliteBackend, ids: Ids) -> None:
    run = await begin(store, record(ids.draw()))
    await store.journal.commit([write(run, 2, ["a"], results=[result(0, "x")])])

    await store.runs.forget_results(run, through=0)

    assert list(await store.runs.results(run)) == [result(0, "x")]


async def test_use_of_a_blob_is_noted_at_most_hourly(store: SqliteBackend, clock: SetClock) -> None:
    def touched() -> float:
        found: float = store.database.execute("SELECT touched_at FROM _blobs").fetchone()[0]
        return found

    id = await store.blobs.put(b"used")
    begun = clock.time
    noted = []
    for use in (store.blobs.get(id), store.blobs.put(b"used")):
        clock.time += TOUCH_AFTER_S / 2
        await store.blobs.get(id)
        noted.append(touched())
        clock.time += TOUCH_AFTER_S
        await use
        noted.append(touched())

    assert noted == [begun, begun + 1.5 * TOUCH_AFTER_S, begun + 1.5 * TOUCH_AFTER_S, begun + 3 * TOUCH_AFTER_S]


async def test_a_blob_with_a_flipped_bit_is_an_error_and_no_answer(store: SqliteBackend) -> None:
    id = await store.blobs.put(b"whole")
    store.database.execute("UPDATE _blobs SET content = ?", (b"whnle",))

    with pytest.raises(Exception, match=f"blob {id} is not what was written; the file is damaged"):
        await store.blobs.get(id)


def _plan(store: SqliteBackend, asked: list[str]) -> list[str]:
    return [row[3] for sql in asked for row in store.database.execute(f"EXPLAIN QUERY PLAN {sql}")]


async def test_questions_are_answered_by_an_index(store: SqliteBackend) -> None:
    asked: list[str] = []
    store.database.conn.set_trace_callback(asked.append)
    await store.runs.list(status=RunStatus.RUNNING, roots_only=True)
    await store.runs.list(flow_name="f")
    await store.runs.list(root_id="r")
    await store.runs.list(parent_id="r")
    await store.runs.list(roots_only=True)
    await store.runs.list(before="r")
    await store.runs.find_key("k")
    await store.runs.find_child(ParentLink(run_id="r", item=0, step=0, key="k"))
    await store.runs.find("0")
    await store.runs.find("last")
    await store.runs.results("r")
    await store.runs.completed("r")
    store.database.conn.set_trace_callback(None)

    scans = [step for step in _plan(store, asked) if step.startswith("SCAN ") and "USING" not in step]

    assert len(asked) == 12
    assert scans == []


async def test_the_journal_is_read_in_its_order_without_sorting(store: SqliteBackend, ids: Ids) -> None:
    run = await begin(store, record(ids.draw()))
    asked: list[str] = []
    store.database.conn.set_trace_callback(asked.append)
    await store.journal.read(run)
    await store.journal.history(run)
    store.database.conn.set_trace_callback(None)

    steps = _plan(store, asked)

    assert len(asked) == 4
    assert [step for step in steps if step.startswith(("SCAN", "USE TEMP"))] == []
