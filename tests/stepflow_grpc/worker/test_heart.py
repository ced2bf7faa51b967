"""Workers of real processes, heard by a server over the loopback."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import grpc.aio
import heart_process
import pytest

from stepflow.clock import SystemClock
from stepflow_grpc.doors.front import Front
from stepflow_grpc.doors.guard import Guard
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.messages import NUMBERS, WORK_PACKAGE, new
from stepflow_grpc.plugin import Hub, make_hub
from stepflow_grpc.queues.records import WorkerKind, WorkerStatistics
from stepflow_grpc.refusals import CallError, Code
from stepflow_grpc.services.beats import BeatService
from stepflow_grpc.services.calls import service_of

pytestmark = pytest.mark.anyio

PATIENCE_S = 60.0


class HeartProcess:
    """A process of a worker, and the one that beats for it."""

    def __init__(self, worker_id: str, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, heart_process.__file__, worker_id, f"127.0.0.1:{port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid

    async def hear(self) -> str:
        """What it says next."""
        assert self._process.stdout is not None
        with anyio.fail_after(PATIENCE_S):
            return (await anyio.to_thread.run_sync(self._process.stdout.readline, abandon_on_cancel=True)).strip()

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def send(self, signal_: signal.Signals) -> None:
        os.kill(self.pid, signal_)

    def heartbeat(self) -> int | None:
        """The id of the process that beats; None: there is none at the moment."""
        found = subprocess.run(
            ["pgrep", "-f", f"stepflow_grpc.worker.beating {self.pid} "],
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


class Ear:
    """A server that hears of workers; without `knows_beats` it is like the reference system's."""

    def __init__(self, *, knows_beats: bool = True) -> None:
        self.hub: Hub = make_hub(SystemClock())
        self.hub.queues.configure("q")
        self.heard: list[tuple[str, str, str]] = []
        self.answers: dict[str, Any] = {}
        self.port = 0
        self._knows_beats = knows_beats

    @asynccontextmanager
    async def open(self, port: int = 0) -> AsyncIterator["Ear"]:
        services = [service_of("OrchestratorService", self)]
        if self._knows_beats:
            services.append(service_of("BeatService", BeatService(self.hub), WORK_PACKAGE))
        front = Front(SystemClock(), Limits(), find=Guard(services, None).find)
        self.port = await front.open("127.0.0.1", port)
        try:
            yield self
        finally:
            await front.close()

    async def TaskHeartbeat(self, request: Any) -> Any:
        self.heard.append((request.task_id, request.worker_id, request.run_id))
        answer = self.answers.get(request.task_id)
        if isinstance(answer, CallError):
            raise answer
        status = NUMBERS["TASK_STATUS_IN_PROGRESS"]
        return new("TaskHeartbeatResponse", status=status, should_abort=answer == "abort")

    def connect(self) -> None:
        self.hub.queues.connect("q", "w", WorkerKind.OURS)

    @property
    def worker(self) -> WorkerStatistics:
        (found,) = self.hub.queues.workers()
        return found

    async def beats(self, count: int) -> None:
        """Return when a worker that is connected was heard of so often more."""
        for _ in range(count):
            await until(lambda: self.worker.silent_s > 0.2)
            await until(lambda: self.worker.silent_s < 0.2)


async def until(holds: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE_S):
        while not holds():
            await anyio.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True


async def until_gone(pid: int | None) -> None:
    await until(lambda: pid is None or is_gone(pid))


@pytest.fixture
async def ear() -> AsyncIterator[Ear]:
    async with Ear().open() as opened:
        yield opened


Start = Callable[[Ear], Awaitable[HeartProcess]]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[HeartProcess] = []

    async def start(ear: Ear) -> HeartProcess:
        process = HeartProcess("w", ear.port)
        started.append(process)
        assert await process.hear() == "ready"
        await until(lambda: process.heartbeat() is not None)  # listed by its arguments a moment after it was started
        return process

    yield start
    for process in started:
        process.close()


async def test_a_worker_is_heard_of_and_how_it_is(ear: Ear, start: Start) -> None:
    ear.connect()

    process = await start(ear)
    await until(lambda: ear.worker.report is not None)

    report = ear.worker.report
    assert report is not None
    assert (report.slots, report.busy, report.versions) == (3, 1, {"app": "1.2"})
    assert report.rss_bytes is not None
    assert report.rss_bytes > 10_000_000
    heartbeat = process.heartbeat()
    for place in ("cmdline", "environ"):
        assert b"s3cret" not in Path(f"/proc/{heartbeat}/{place}").read_bytes()


async def test_tasks_are_beaten_for_one_by_one_until_they_end_or_nobody_wants_them(start: Start) -> None:
    async with Ear(knows_beats=False).open() as ear:
        ear.answers = {"lost": CallError(Code.NOT_FOUND, "gone"), "taken": "abort"}
        process = await start(ear)
        for task_id in ("kept", "lost", "taken"):
            process.tell(f"add {task_id}")

        unwanted = {await process.hear(), await process.hear()}
        await until(lambda: ear.heard.count(("kept", "w", "run")) >= 3)
        process.tell("remove kept")
        process.tell("leave")

        assert unwanted == {"unwanted lost unknown", "unwanted taken claimed"}
        assert {task_id for task_id, _, _ in ear.heard} == {"kept", "lost", "taken"}
        assert len(ear.heard) - ear.heard.count(("kept", "w", "run")) == 2


async def test_nothing_beats_for_a_worker_that_was_killed(ear: Ear, start: Start) -> None:
    process = await start(ear)
    heartbeat = process.heartbeat()

    process.send(signal.SIGKILL)

    await until_gone(heartbeat)
    assert heartbeat is not None


@pytest.mark.slow
async def test_a_heartbeat_that_was_killed_is_started_again_and_one_that_is_signalled_goes_on(
    ear: Ear, start: Start
) -> None:
    ear.connect()
    process = await start(ear)
    heartbeat = process.heartbeat()
    assert heartbeat is not None

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(heartbeat, number)
    await until(lambda: ear.worker.report is not None)
    still = process.heartbeat()
    os.kill(heartbeat, signal.SIGKILL)
    await until_gone(heartbeat)
    await until(lambda: process.heartbeat() is not None)
    await ear.beats(1)

    assert still == heartbeat
    assert process.heartbeat() != heartbeat


@pytest.mark.slow
async def test_a_worker_is_heard_of_again_when_its_server_was_started_again(start: Start) -> None:
    first, second = Ear(), Ear()
    async with first.open():
        first.connect()
        await start(first)
        await until(lambda: first.worker.report is not None)

    second.connect()
    async with second.open(first.port):
        await until(lambda: second.worker.report is not None)

        assert second.worker.report is not None


@pytest.mark.slow
async def test_a_worker_none_of_whose_threads_gets_a_turn_lives_and_it_is_said_what_holds_them(
    ear: Ear, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    ear.connect()
    process = await start(ear)

    process.tell("match")
    await until(lambda: ear.worker.stack is not None)
    silent_s = []
    with anyio.move_on_after(10):
        while True:
            await anyio.sleep(0.05)
            silent_s.append(ear.worker.silent_s)

    assert max(silent_s) < 3
    assert ear.worker.held_up_s > 9
    assert ear.worker.stack is not None
    assert ear.worker.stack.startswith("held up by thread")
    assert "in match_for_years" in ear.worker.stack
    assert len([record for record in caplog.records if "has had no turn" in record.message]) == 1


async def test_a_task_is_beaten_for_though_no_thread_gets_a_turn_from_its_beginning_on(start: Start) -> None:
    async with Ear(knows_beats=False).open() as ear:
        process = await start(ear)

        process.tell("add t\nmatch")
        await until(lambda: len(ear.heard) >= 2)

        assert set(ear.heard) == {("t", "w", "run")}


@pytest.mark.slow
async def test_what_holds_the_event_loop_alone_is_said_until_it_goes_on(ear: Ear, start: Start) -> None:
    ear.connect()
    process = await start(ear)

    process.tell("nap")
    await until(lambda: ear.worker.stack is not None)

    assert ear.worker.stack is not None
    assert "in nap_for_years" in ear.worker.stack


@pytest.mark.slow
async def test_a_worker_that_is_stopped_falls_silent_and_is_heard_of_when_it_goes_on(ear: Ear, start: Start) -> None:
    ear.connect()
    process = await start(ear)
    await ear.beats(1)

    process.send(signal.SIGSTOP)
    await until(lambda: ear.worker.silent_s > 5)
    process.send(signal.SIGCONT)
    await until(lambda: ear.worker.silent_s < 1)
    await ear.beats(2)

    assert ear.worker.held_up_s == 0
    assert ear.worker.stack is None


async def test_a_beat_that_can_not_be_read_is_refused(ear: Ear) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ear.port}") as channel:
        call: Any = channel.unary_unary(f"/{WORK_PACKAGE}.BeatService/Beat")

        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(b"\x0a\x02{}")

    assert raised.value.code() is Code.INVALID_ARGUMENT
