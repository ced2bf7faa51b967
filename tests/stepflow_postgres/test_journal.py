"""What a group commit takes, in how many statements, and in how many transactions."""

import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from stepflow.errors import StoreError
from stepflow.records import (
    Committed,
    ErrorCode,
    Failed,
    KeyTaken,
    Lease,
    LeaseLost,
    ParentLink,
    RunChange,
    RunStatus,
)
from stepflow.testing.suites.writes import FIRST, Ids, begin, enter, entries, record, result, write
from stepflow_postgres.backend import PostgresBackend
from stepflow_postgres.groups import advance_parameters, grouped, one_parameters
from stepflow_postgres.statements import statement

pytestmark = pytest.mark.anyio

AWKWARD = ["nul \0", "\1", "\1\2", "\0\1\0", "ünïcödé 🦆", "x" * 5_000, "\0" * 2_000]


class Counted:
    """What was sent on the connection that commits."""

    def __init__(self, store: PostgresBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[list[str]] = []
        self.reads: list[str] = []
        database = store.database
        write_all, ask = database.write_all, database.ask

        async def counted_write(statements: Any) -> Any:
            self.names.append([name for name, _ in statements])
            return await write_all(statements)

        async def counted_ask(name: str, parameters: Any = None) -> Any:
            self.reads.append(name)
            return await ask(name, parameters)

        monkeypatch.setattr(database, "write_all", counted_write)
        monkeypatch.setattr(database, "ask", counted_ask)


@pytest.fixture
async def store(backend: PostgresBackend) -> AsyncIterator[PostgresBackend]:
    async with backend:
        await enter(backend, "engine-1")
        yield backend


@pytest.fixture
def ids() -> Ids:
    return Ids()


async def test_a_commit_of_many_runs_is_one_statement(store: PostgresBackend, ids: Ids, monkeypatch: Any):
    counted = Counted(store, monkeypatch)
    new = [record(ids.draw(), key=f"key {n}") for n in range(50)]

    began = await store.journal.commit([write(run.id, 1, ["begun"], new=run) for run in new])
    went_on = await store.journal.commit(
        [write(run.id, at, [at], results=[result(at)]) for at in (2, 3) for run in new]
    )

    assert list(began) == [Committed()] * 50
    assert list(went_on) == [Committed()] * 100
    assert counted.names == [["begin_runs"], ["advance_runs"]]
    assert counted.reads == []


async def test_a_write_to_one_run_is_one_statement(store: PostgresBackend, ids: Ids, monkeypatch: Any):
    run = await begin(store, record(ids.draw()))
    counted = Counted(store, monkeypatch)

    await store.journal.commit([write(run, 2, ["a"], results=[result(0)], change=RunChange(status=RunStatus.PAUSED))])

    assert counted.names == [["advance_run"]]
    assert counted.reads == []


async def test_what_a_lone_run_does_most_has_statements_of_its_own(store: PostgresBackend, ids: Ids, monkeypatch: Any):
    run, keyed = record(ids.draw()), record(ids.draw(), key="monday")
    counted = Counted(store, monkeypatch)

    for writes in ([write(run.id, 1, ["begun"], new=run)], [write(run.id, 2, ["a"])], [write(run.id, 2, ["again"])]):
        assert list(await store.journal.commit(writes)) == [Committed()]
    await store.journal.commit([write(keyed.id, 1, ["begun"], new=keyed)])

    assert counted.names == [["begin_run"], ["append_entries"], ["append_entries"], ["begin_runs"]]
    assert await entries(store, run.id) == [(1, "begun"), (2, "a")]


async def test_a_run_that_begins_alone_is_stored_as_those_that_begin_together(store: PostgresBackend, ids: Ids):
    parent = ParentLink(run_id=ids.draw(), item=3, step=2, key="k\0")
    why = Failed(ErrorCode.CANCELLED, "stop \0")
    like = msgspec.structs.replace(
        record(ids.draw(), parent=parent, root_id=parent.run_id, flow_name="ünï\0", group="g"),
        retry_of=ids.draw(),
        is_sealed=True,
        journal_format=1,
        total=None,
    )
    new = [msgspec.structs.replace(like, id=ids.draw(), parent=_numbered(parent, n)) for n in range(3)]
    writes = [
        [
            write(run.id, 1, ["begun"], new=run, results=[result(2), result(0)]),
            write(run.id, 2, ["mark"], items=(1, 4), is_checkpoint=True),
            write(run.id, 3, ["end"], change=RunChange(status=RunStatus.CANCELLED, ended_at=7.0, error=why, total=9)),
        ]
        for run in new
    ]

    await store.journal.commit(writes[0])
    await store.journal.commit(writes[1] + writes[2])

    stored = [await store.runs.get(run.id) for run in new]
    assert stored[0] is not None
    assert (stored[0].parent, stored[0].error, stored[0].total) == (new[0].parent, why, 9)
    assert stored[1:] == [msgspec.structs.replace(stored[0], id=run.id, parent=run.parent) for run in new[1:]]
    for read in (store.journal.read, store.journal.history, store.runs.completed):
        assert await read(new[0].id) == await read(new[1].id) == await read(new[2].id) != []


async def test_a_refusal_is_looked_into_by_reading_only(store: PostgresBackend, ids: Ids, monkeypatch: Any):
    run = await begin(store, record(ids.draw()))
    await store.database.write("leave", {"owner": "engine-1"})
    counted = Counted(store, monkeypatch)

    verdicts = await store.journal.commit([write(run, 2, ["late"]), write(ids.draw(), 2, ["of no run"])])

    assert list(verdicts) == [LeaseLost(current=1), LeaseLost(current=0)]
    assert counted.names == [["advance_runs"]]
    assert counted.reads == ["find_present", "find_heads"]


def _numbered(parent: ParentLink, number: int) -> ParentLink:
    return msgspec.structs.replace(parent, key=f"{parent.key}{number}")


WRITTEN_BY = """
    SELECT count(*), count(DISTINCT written.by)
    FROM (
        SELECT xmin::text AS by FROM stepflow._runs
        UNION ALL
        SELECT xmin::text FROM stepflow._entries
        WHERE first = 2 OR run_no = (SELECT max(run_no) FROM stepflow._entries)
    ) AS written
"""


async def test_what_begins_and_what_goes_on_in_one_commit_is_one_transaction(store: PostgresBackend, ids: Ids):
    run, new = await begin(store, record(ids.draw())), record(ids.draw())

    verdicts = await store.journal.commit([write(run, 2, ["a"]), write(new.id, 1, ["begun"], new=new)])

    rows = await store.database.ask_sql(store.database.sql(WRITTEN_BY))
    assert list(verdicts) == [Committed()] * 2
    assert rows == [(4, 1)], "two runs and an entry of each, by one transaction"


async def test_of_a_commit_that_fails_in_its_second_statement_nothing_is_stored(store: PostgresBackend, ids: Ids):
    run, new = await begin(store, record(ids.draw())), record(ids.draw())
    broken = write(run, 2, ["a"], change=RunChange(ended_at=1.0, succeeded=2**63 - 1), results=[result(2**63 - 1)])
    block = "ALTER TABLE stepflow._results ADD CONSTRAINT never CHECK (item < 1000) NOT VALID"
    await store.database.write_sql(store.database.sql(block))
    try:
        with pytest.raises(StoreError, match="never"):
            await store.journal.commit([broken, write(new.id, 1, ["begun"], new=new)])
    finally:
        await store.database.write_sql(store.database.sql("ALTER TABLE stepflow._results DROP CONSTRAINT never"))

    assert await store.runs.get(new.id) is None
    assert await entries(store, run) == [(1, "begun")]
    assert list(await store.journal.commit([write(run, 2, ["after"])])) == [Committed()]


async def test_writes_of_one_run_in_one_commit_add_up(store: PostgresBackend, ids: Ids):
    for new in (None, record(ids.draw())):
        run = new.id if new else await begin(store, record(ids.draw()))
        why = Failed(ErrorCode.CANCELLED, "stop \0")
        writes = [
            write(
                run,
                2 if new is None else 1,
                ["a"],
                new=new,
                change=RunChange(total=9, succeeded=1),
                results=[result(3)],
            ),
            write(
                run, 5, ["b"], change=RunChange(status=RunStatus.PAUSED, succeeded=2), results=[result(1), result(2)]
            ),
            write(run, 6, ["c"], items=(2, 2), is_checkpoint=True, change=RunChange(failed=1)),
            write(run, 7, ["d"], change=RunChange(status=RunStatus.CANCELLED, ended_at=7.0, error=why)),
        ]

        verdicts = await store.journal.commit(writes)

        stored = await store.runs.get(run)
        assert list(verdicts) == [Committed()] * 4
        assert stored is not None
        assert (stored.status, stored.total, stored.succeeded, stored.failed) == (RunStatus.CANCELLED, 9, 2, 1)
        assert (stored.ended_at, stored.error) == (7.0, why)
        assert [(place, one.index) for place, one in await store.runs.completed(run)] == [(1, 3), (2, 1), (3, 2)]
        assert [row.first for row in await store.journal.read(run)][-2:] == [6, 7]
        assert [row.first for row in await store.journal.history(run)][-4:] == [writes[0].first, 5, 6, 7]


async def test_of_a_commit_that_was_stored_in_part_the_rest_is_stored(store: PostgresBackend, ids: Ids):
    run, other = [await begin(store, record(ids.draw())) for _ in range(2)]
    first, second = write(run, 2, ["a"], results=[result(0)]), write(run, 3, ["b"], results=[result(1)])
    await store.journal.commit([first])

    verdicts = await store.journal.commit([first, second, second, write(other, 2, ["x"])])

    assert list(verdicts) == [Committed()] * 4
    assert await entries(store, run) == [(1, "begun"), (2, "a"), (3, "b")]
    assert [place for place, _ in await store.runs.completed(run)] == [1, 2]
    assert await entries(store, other) == [(1, "begun"), (2, "x")]


async def test_engines_of_several_leases_may_share_a_commit(store: PostgresBackend, ids: Ids):
    await enter(store, "engine-2")
    mine, theirs = record(ids.draw()), record(ids.draw())
    their_lease = Lease("engine-2", 7)

    verdicts = await store.journal.commit(
        [
            write(mine.id, 1, ["begun"], new=mine),
            write(theirs.id, 1, ["begun"], new=theirs, lease=their_lease),
            write(theirs.id, 2, ["not mine"], lease=FIRST),
            write(theirs.id, 2, ["theirs"], lease=their_lease),
        ]
    )

    assert list(verdicts) == [Committed(), Committed(), LeaseLost(current=7), Committed()]
    assert await entries(store, theirs.id) == [(1, "begun"), (2, "theirs")]


async def test_runs_of_one_key_in_one_commit_follow_each_other(store: PostgresBackend, ids: Ids):
    runs = [record(ids.draw(), key="monday") for _ in range(4)]
    supersedes = [None, runs[0].id, None, runs[1].id]

    verdicts = await store.journal.commit(
        [write(run.id, 1, ["begun"], new=run, supersedes=former) for run, former in zip(runs, supersedes, strict=True)]
    )

    found = await store.runs.find_key("monday")
    assert list(verdicts) == [Committed(), Committed(), KeyTaken(runs[1].id), Committed()]
    assert found is not None
    assert found.id == runs[3].id


@pytest.mark.parametrize("text", AWKWARD)
async def test_what_users_choose_may_be_any_text(store: PostgresBackend, ids: Ids, text: str):
    root = record(ids.draw(), key=text, flow_name=text)
    await begin(store, root)
    link = ParentLink(run_id=root.id, item=0, step=0, key=text)
    child = record(ids.draw(), root_id=root.id, parent=link)
    await begin(store, child)

    by_key, by_link = await store.runs.find_key(text), await store.runs.find_child(link)
    listed = await store.runs.list(flow_name=text)

    assert by_key == root
    assert by_link == child
    assert list(listed) == [root]
    assert await store.runs.find_key(text + "\0") is None


async def test_writing_to_a_run_looks_at_no_other(store: PostgresBackend, ids: Ids):
    runs = [record(ids.draw()) for _ in range(500)]
    await store.journal.commit([write(run.id, 1, ["begun"], new=run) for run in runs])
    await store.database.write_sql(store.database.sql("VACUUM (ANALYZE) stepflow._runs"))
    writes = [write(run.id, 2, ["x"], results=[result(0)]) for run in runs[20:23]]

    for name, parameters in (
        ("advance_run", one_parameters(writes[0])),
        ("advance_runs", advance_parameters(grouped(writes))),
    ):
        plan = await store.database.ask_sql(b"EXPLAIN " + statement(name, store.database.schema), parameters)

        told = "\n".join(line for (line,) in plan)
        assert re.search(r"Index Scan (using|on) _runs_id_key", told)  # straight, or by way of a bitmap
        assert "Seq Scan on _runs" not in told


async def test_a_run_stays_where_it_is_in_its_indexes_while_it_is_written_to(store: PostgresBackend, ids: Ids):
    run = await begin(store, record(ids.draw(), key="k", flow_name="f"))
    size = "SELECT sum(pg_relation_size(indexrelid))::bigint FROM pg_index WHERE indrelid = 'stepflow._runs'::regclass"
    size = size.replace("stepflow._runs", f"{store.database.schema}._runs")
    before = await store.database.ask_sql(size.encode())

    for position in range(2, 500):
        await store.journal.commit([write(run, position, ["x"], change=RunChange(succeeded=position))])

    assert await store.database.ask_sql(size.encode()) == before
