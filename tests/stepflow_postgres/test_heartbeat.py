"""Engines of real processes, seen by the server's clock."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import engine_process
import psycopg
import pytest
from postgres_server import execute

from stepflow.protocols import Backend
from stepflow.records import EngineRecord
from stepflow_postgres.backend import PostgresBackend
from stepflow_postgres.heartbeat import Order

pytestmark = pytest.mark.anyio

TTL_S = 1.0
PATIENCE_S = 60.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class EngineProcess:
    """A process that has entered the store, and the one that beats for it."""

    def __init__(self, url: str, ticks: Path, *options: str) -> None:
        self.ticks = ticks
        self._process = subprocess.Popen(
            [sys.executable, engine_process.__file__, url, "engine-1", str(TTL_S), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "STEPFLOW_TEST_TICKS": str(ticks)},
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "entered\n"
        self.pid = self._process.pid

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def send(self, signal_: signal.Signals) -> None:
        os.kill(self.pid, signal_)

    def wait(self) -> int:
        return self._process.wait(PATIENCE_S)

    def heartbeat(self) -> int | None:
        """The id of the process that beats; None: there is none at the moment."""
        found = subprocess.run(
            ["pgrep", "-f", f"stepflow_postgres.heartbeat {self.pid}$"],
            capture_output=True,
            text=True,
            timeout=240,
        )
        return int(found.stdout) if found.stdout else None

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def start(postgres_url: str, tmp_path: Path) -> Iterator[Callable[..., EngineProcess]]:
    started: list[EngineProcess] = []

    def start(*options: str, url: str = postgres_url) -> EngineProcess:
        process = EngineProcess(url, tmp_path / "ticks", *options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.close()


async def expiry(store: Backend) -> float | None:
    """When the engine would be dead, by the server's clock; None: it is."""
    engines = await store.owners.engines()
    return engines[0].expires_at if engines else None


async def next_beat(store: Backend) -> float:
    """Return at the next beat."""
    before = await expiry(store)
    with anyio.fail_after(PATIENCE_S):
        while (now := await expiry(store)) == before or now is None:
            await anyio.sleep(0.01)
    return now


async def beats_until_dead(store: Backend) -> int:
    """How often it was still said that the engine lives, before it was dead."""
    expiries = set()
    with anyio.fail_after(PATIENCE_S):
        while (now := await expiry(store)) is not None:
            expiries.add(now)
            await anyio.sleep(0.01)
    return len(expiries)


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):  # at opening, or at reading
        return False


async def until_gone(pid: int | None) -> None:
    with anyio.fail_after(PATIENCE_S):
        while pid is not None and is_there(pid):
            await anyio.sleep(0.01)


async def test_an_engine_lives_though_no_thread_of_it_gets_a_turn(postgres_url, start):
    process = start()

    async with PostgresBackend(postgres_url) as store:
        process.tell("match")
        await next_beat(store)
        ticks = process.ticks.read_bytes()
        beats = [await next_beat(store) for _ in range(4)]

    assert process.ticks.read_bytes() == ticks
    assert beats == sorted(beats)


@pytest.mark.slow
async def test_an_engine_lives_though_no_thread_of_it_gets_a_turn_for_half_a_minute(postgres_url, start):
    process = start()

    async with PostgresBackend(postgres_url) as store:
        process.tell("match")
        begun = await next_beat(store)
        ticks = process.ticks.read_bytes()
        while (now := await expiry(store)) is not None and now < begun + 30:
            await anyio.sleep(0.05)

        assert now is not None
        assert process.ticks.read_bytes() == ticks


async def test_an_engine_that_is_stopped_is_dead_and_lives_again_when_it_goes_on(postgres_url, start):
    process = start()

    async with PostgresBackend(postgres_url) as store:
        process.send(signal.SIGSTOP)
        late = await beats_until_dead(store)
        process.send(signal.SIGCONT)
        await next_beat(store)

    assert late <= 2  # the one that held, and one on its way


async def test_nothing_beats_for_an_engine_that_was_killed_though_a_process_that_it_forked_holds_its_files(
    postgres_url, start
):
    process = start("forked")
    heartbeat = process.heartbeat()

    async with PostgresBackend(postgres_url) as store:
        process.send(signal.SIGKILL)
        late = await beats_until_dead(store)
    await until_gone(heartbeat)

    assert heartbeat is not None
    assert late <= 2


async def test_nothing_beats_for_an_engine_that_left(postgres_url, start):
    process = start()
    heartbeat = process.heartbeat()

    process.tell("leave")
    process.wait()
    await until_gone(heartbeat)

    async with PostgresBackend(postgres_url) as store:
        assert heartbeat is not None
        assert list(await store.owners.engines()) == []


async def test_signals_for_the_whole_group_are_left_to_the_engine(postgres_url, start):
    process = start()
    heartbeat = process.heartbeat()
    assert heartbeat is not None

    async with PostgresBackend(postgres_url) as store:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(heartbeat, number)
        for _ in range(2):
            await next_beat(store)

    assert process.heartbeat() == heartbeat


async def test_a_heartbeat_that_was_killed_is_started_again(postgres_url, start):
    process = start()
    heartbeat = process.heartbeat()
    assert heartbeat is not None

    async with PostgresBackend(postgres_url) as store:
        os.kill(heartbeat, signal.SIGKILL)
        await until_gone(heartbeat)
        await next_beat(store)
        with anyio.fail_after(PATIENCE_S):
            while process.heartbeat() is None:
                await anyio.sleep(0.01)
        for _ in range(2):
            await next_beat(store)

    assert process.heartbeat() != heartbeat


async def test_a_heartbeat_goes_on_after_its_connection_was_lost(own_postgres, start):
    process = start(url=own_postgres.url)
    heartbeat = process.heartbeat()

    own_postgres.restart("immediate")

    async with PostgresBackend(own_postgres.url) as store:
        for _ in range(3):
            await next_beat(store)
    assert process.heartbeat() == heartbeat


async def test_a_fenced_engine_is_not_beaten_for_any_more(postgres_url, start):
    process = start()
    heartbeat = process.heartbeat()

    async with PostgresBackend(postgres_url) as store:
        await store.owners.enter(EngineRecord(owner="engine-2", name="engine-1"), ttl_s=60)
        await until_gone(heartbeat)

        assert [engine.owner for engine in await store.owners.engines()] == ["engine-2"]
    assert heartbeat is not None
    assert process.heartbeat() is None


async def test_a_password_is_not_among_the_arguments_or_variables_of_the_heartbeat(postgres_url, start):
    process = start(url=postgres_url.replace("postgres@", "postgres:s3cret@"))

    heartbeat = process.heartbeat()

    assert heartbeat is not None
    assert b"s3cret" not in Path(f"/proc/{heartbeat}/cmdline").read_bytes()
    assert b"s3cret" not in Path(f"/proc/{heartbeat}/environ").read_bytes()


def told(order: Order) -> subprocess.Popen[bytes]:
    """A heartbeat process of this one, with its order."""
    command = [sys.executable, "-m", "stepflow_postgres.heartbeat", str(os.getpid())]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps(order).encode() + b"\n")
    process.stdin.flush()
    return process


def test_a_heartbeat_ends_with_its_pipe_though_it_waits_for_a_server_that_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        process = told(Order(conninfo=f"host={host} port={port}", statement="SELECT 1", owner="engine-1"))
        connection, _ = silent.accept()
        with connection, process:
            assert process.stdin is not None
            process.stdin.close()

            assert process.wait(PATIENCE_S) == 0


def test_a_heartbeat_ends_with_its_pipe_though_it_waits_for_a_lock(postgres_server_url):
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
    with psycopg.connect(postgres_server_url) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(7)")
        order = Order(conninfo=postgres_server_url, statement="SELECT pg_advisory_xact_lock(7)", owner="engine-1")
        with told(order) as process:
            assert process.stdin is not None
            while execute(postgres_server_url, waiting) == [(0,)]:
                pass
            process.stdin.close()

            assert process.wait(PATIENCE_S) == 0


def test_a_heartbeat_that_is_told_nothing_ends():
    command = [sys.executable, "-m", "stepflow_postgres.heartbeat", str(os.getpid())]

    ended = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=PATIENCE_S, check=False)

    assert ended.returncode == 0
