"""What processes beside the engine learn of it, and how they wake it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from stepflow.protocols import ended_topic, inbox_topic
from stepflow.records import EngineRecord, Lease, LeaseLost, Message, RunChange, RunStatus
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.testing.suites.writes import FIRST, Ids, begin, end, enter, record, write

pytestmark = pytest.mark.anyio

ENGINE = """
import anyio, sys
from stepflow.records import Lease
from stepflow.stores.sqlite.backend import SqliteBackend
from stepflow.testing.suites.writes import Ids, begin, enter, record

async def hold():
    async with SqliteBackend(sys.argv[1]) as store:
        await enter(store, "killed", name="press")
        print(await begin(store, record(Ids().draw()), lease=Lease("killed", 1)), flush=True)
        await anyio.sleep_forever()

anyio.run(hold)
"""


@contextmanager
def _engine(path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that has the store open as an engine and owns a run, whose id is given."""
    with subprocess.Popen([sys.executable, "-c", ENGINE, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


async def test_a_reader_sees_the_engine_until_its_process_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with _engine(path) as (process, run):
        async with SqliteBackend.reader(path) as reader:
            alive = await reader.owners.ownership(run)
            named = [engine.name for engine in await reader.owners.engines()]
            beats = await reader.owners.beat("killed")

            process.kill()
            process.wait(240)
            dead = await reader.owners.ownership(run)

            assert alive is not None
            assert (alive.owner, alive.epoch, alive.engine and alive.engine.name) == ("killed", 1, "press")
            assert (named, beats) == (["press"], True)
            assert dead is not None
            assert (dead.owner, dead.epoch, dead.engine) == ("killed", 1, None)
            assert list(await reader.owners.engines()) == []
            assert not await reader.owners.beat("killed")


async def test_looking_for_the_engine_does_not_keep_one_from_opening_the_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with SqliteBackend(path):
        pass
    looked = anyio.Event()

    async def look() -> None:
        async with SqliteBackend.reader(path) as reader:
            while not looked.is_set():
                await reader.owners.engines()
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(look)
        for turn in range(50):
            async with SqliteBackend(path) as engine:
                await enter(engine, f"engine-{turn}")
        looked.set()

        async with SqliteBackend(path) as last:
            assert list(await last.owners.engines()) == []


async def test_the_engine_of_a_killed_process_is_none_to_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with _engine(path) as (process, run):
        process.kill()
        process.wait(240)

    async with SqliteBackend(path) as store:
        before = list(await store.owners.engines())
        await enter(store, "next", group="others")
        of_the_group = await store.owners.claim("next")
        asked_for = await store.owners.claim("next", root_id=run)

    assert before == []
    assert of_the_group == []
    assert [(one.id, one.claims, lease) for one, lease in asked_for] == [(run, 1, Lease("next", 2))]


async def test_whoever_was_fenced_begins_no_run_either(tmp_path: Path) -> None:
    async with SqliteBackend(tmp_path / "runs.db") as store:
        await enter(store, FIRST.owner)
        await enter(store, "second")
        run = Ids().draw()

        verdicts = await store.journal.commit([write(run, 1, ["begun"], new=record(run))])

        assert list(verdicts) == [LeaseLost(0)]
        assert await store.runs.get(run) is None


async def test_a_message_of_another_process_wakes_the_owner(tmp_path: Path) -> None:
    message = Message(id="m", run_id=(run := Ids().draw()), kind="cancel", payload=b"\0\xff")
    path = tmp_path / "runs.db"
    async with SqliteBackend(path) as engine, SqliteBackend.reader(path) as other:
        await enter(engine, FIRST.owner)
        await begin(engine, record(run))

        with anyio.fail_after(60), engine.signals.listen(inbox_topic(FIRST.owner)) as listener:
            sent = await other.inbox.send(message)
            await listener.wait(3_600)
        received = await engine.inbox.receive(FIRST.owner)
        await engine.inbox.done(received)

        assert sent
        assert list(received) == [message]
        assert list(await engine.inbox.receive(FIRST.owner)) == []


async def test_the_end_of_a_run_wakes_who_waits_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with SqliteBackend(path) as engine, SqliteBackend.reader(path) as other:
        await enter(engine, FIRST.owner)
        run = await begin(engine, record(Ids().draw()))

        with anyio.fail_after(60), other.signals.listen(ended_topic(run)) as listener:
            await end(engine, run)
            await listener.wait(3_600)
            ended = await other.runs.get(run)

    assert ended is not None
    assert ended.status is RunStatus.COMPLETED


async def test_what_an_engine_commits_itself_wakes_only_who_waits_for_it(tmp_path: Path) -> None:
    async with SqliteBackend(tmp_path / "runs.db") as store:
        await enter(store, FIRST.owner)
        ids = Ids()
        ends, goes_on = await begin(store, record(ids.draw())), await begin(store, record(ids.draw()))
        woken = []

        async def wait(run: str) -> None:
            with store.signals.listen(ended_topic(run)) as listener:
                await listener.wait(3_600)
                woken.append(run)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, goes_on)
            tasks.start_soon(wait, ends)
            await anyio.wait_all_tasks_blocked()
            await store.journal.commit(
                [
                    write(ends, 2, ["end"], change=RunChange(status=RunStatus.FAILED, ended_at=9.0)),
                    write(goes_on, 2, ["more"], change=RunChange(succeeded=1)),
                ]
            )
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()

        assert woken == [ends]


async def test_an_engine_row_says_what_was_entered(tmp_path: Path) -> None:
    engine = EngineRecord(owner="o", name="press", group="g", url="http://here:1", place="here", started_at=7.5)
    async with SqliteBackend(tmp_path / "runs.db") as store:
        entered = await store.owners.enter(engine, ttl_s=6)
        seen = list(await store.owners.engines())
        await store.owners.leave("o")

        assert (entered, seen) == (engine, [engine])
        assert list(await store.owners.engines()) == []
        assert not await store.owners.beat("o")
