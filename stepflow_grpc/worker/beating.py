"""A process that says for a worker that it lives, also where the worker's own threads get no turn to run.

`python -m stepflow_grpc.worker.beating PID STACKS BEGINNINGS`, the latter two files that are open already, is started
by `stepflow_grpc.worker.heart`. All it has to know comes twice a second as one line of JSON through a pipe, and at once
what is new; what it has to say comes out in lines too. It ends as soon as that pipe is closed or its parent is gone,
whatever it waits for, and says nothing while the parent is stopped.
"""

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TypeAlias, assert_never

import grpc
import msgspec

from stepflow.clock import SystemClock
from stepflow.parent import end_with, is_stopped, leave_signals_to_parent
from stepflow.records import TaskId
from stepflow_grpc.address import Address
from stepflow_grpc.channel import open_sync_channel
from stepflow_grpc.credentials import Credentials, CredentialsError
from stepflow_grpc.frames import Beat, frame
from stepflow_grpc.messages import WORK_PACKAGE, Method, methods, new
from stepflow_grpc.queues.records import WorkerReport
from stepflow_grpc.worker.beginnings import read_beginnings
from stepflow_grpc.worker.figures import GpuMeter, Meter
from stepflow_grpc.worker.stalls import HELD_LOOKS, LOOK_S, HeldUp, Thread, TurnCounter

BEAT_LOOKS = 2
"""A worker is spoken of every so many looks: every second."""

MOST_OPEN = 3
"""Calls about one thing that may be under way at a time."""

_PATIENCE_S = 2.5
_UNSPOKEN_LOOKS = 120  # until a server that did not know the service is asked again
_TOLD_LOOKS = 2 * HELD_LOOKS  # without a turn of the loop: so long it is said which tasks it began lately
_KEPT_LOOKS = 60  # a connection that nothing is said on is kept open for so long


class Orchestrator(msgspec.Struct, frozen=True):
    """A server that is told of the worker."""

    address: Address
    name: str | None = None  # what its certificate is for, where the address is one of several that a name led to


class Running(msgspec.Struct, frozen=True):
    """A task that a server wants to hear of by itself."""

    id: TaskId
    run_id: str
    orchestrator: Orchestrator
    period_s: float


class State(msgspec.Struct, frozen=True, kw_only=True, tag="state"):
    """All that there is to know. Each one replaces what was known before."""

    worker_id: str
    turns: int  # of the parent's event loop so far
    stack: str | None = None  # of the loop's thread, if it has had no turn for a while
    threads: list[Thread] = []
    orchestrators: Sequence[Orchestrator] = ()
    tasks: Mapping[int, Running] = {}  # by a number that is used once
    report: WorkerReport
    credentials: Credentials


class Connected(msgspec.Struct, frozen=True, tag="connected"):
    """One more server is to be told of the worker."""

    orchestrator: Orchestrator


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """One more task is at work. Said before it begins: after that, nothing might be said for long."""

    number: int
    task: Running


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    number: int


Told: TypeAlias = State | Connected | Begun | Ended


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """From now on it beats."""


class Unwanted(msgspec.Struct, frozen=True, tag="unwanted"):
    """A server does not want to hear of a task any more."""

    number: int
    is_claimed: bool  # by another worker; else nobody waits for it there


class Stalled(msgspec.Struct, frozen=True, tag="stalled"):
    """The parent's event loop has had no turn for a while. Said once each time."""

    seconds: float
    stack: str


Said: TypeAlias = Ready | Unwanted | Stalled


def main() -> NoReturn:
    leave_signals_to_parent()
    parent, stacks, beginnings = (int(argument) for argument in sys.argv[1:])
    end_with(parent)
    beating = Beating(parent, stacks, beginnings)
    threading.Thread(target=_read, args=(beating,), daemon=True).start()
    _say(Ready())
    pause = threading.Event()  # never set: it waits
    while True:
        beating.look()
        pause.wait(LOOK_S)


def _read(beating: "Beating") -> NoReturn:
    """Take what the parent says, until it hangs up."""
    decoder = msgspec.json.Decoder(Told)
    for line in sys.stdin.buffer:
        beating.take(decoder.decode(line))
    os._exit(0)


def _say(said: Said) -> None:
    try:
        os.write(1, msgspec.json.encode(said) + b"\n")
    except OSError:
        os._exit(0)


class Beating:
    """What is said to whom."""

    def __init__(self, parent: int, stacks: int, beginnings: int) -> None:
        self._state: State | None = None
        self._orchestrators: list[Orchestrator] = []
        self._tasks: dict[int, Running] = {}
        self._parent = parent
        self._turns = TurnCounter(parent, stacks)
        self._meter = Meter(parent, SystemClock().now)
        self._gpu = GpuMeter()
        self._looks = 0
        self._late_looks = 0
        self._beginnings = beginnings
        self._is_stalled = False
        self._connections: dict[Orchestrator, _Connection] = {}
        self._unwanted: set[int] = set()

    def take(self, told: Told) -> None:
        """Called by a thread of its own."""
        match told:
            case State():
                self._orchestrators, self._tasks = list(told.orchestrators), dict(told.tasks)
                self._state = told
            case Connected(orchestrator):
                self._orchestrators.append(orchestrator)
            case Begun(number, task):
                self._tasks[number] = task
            case Ended(number):
                self._tasks.pop(number, None)
            case _:
                assert_never(told)

    def look(self) -> None:
        """Say what is due."""
        state = self._state
        if state is None:
            return
        if is_stopped(self._parent):
            self._turns.forget()
            return
        held_up = self._turns.look(state.turns, state.stack, state.threads)
        self._tell_stalled(held_up)
        self._late_looks = self._late_looks + 1 if self._turns.is_late else 0
        if self._looks % BEAT_LOOKS == 0 or self._is_cut_off():
            self._beat(state, held_up)
        tasks = self._tasks.copy()
        self._unwanted &= tasks.keys()
        for number, task in tasks.items():
            if number not in self._unwanted and self._looks % max(1, round(task.period_s / LOOK_S)) == 0:
                self._beat_for(state, number, task)
        self._close_unused()
        self._looks += 1

    def _is_cut_off(self) -> bool:
        """Whether a server may have heard that the worker's connections broke, and not yet that it lives."""
        connections = (self._connections.get(orchestrator) for orchestrator in self._orchestrators)
        return any(connection is not None and connection.is_broken for connection in connections)

    def _tell_stalled(self, held_up: HeldUp | None) -> None:
        if held_up is None:
            self._is_stalled = False
        elif held_up.stack is not None and not self._is_stalled:
            self._is_stalled = True
            threading.Thread(target=_say, args=(Stalled(held_up.seconds, held_up.stack),), daemon=True).start()

    def _beat(self, state: State, held_up: HeldUp | None) -> None:
        gpu_bytes = self._gpu.look()
        report = self._meter.look(state.report)
        if gpu_bytes is not None:
            report = msgspec.structs.replace(report, gpu_bytes=gpu_bytes)
        beat = Beat(
            worker_id=state.worker_id,
            report=report,
            held_up_s=self._late_looks * LOOK_S if self._late_looks > 1 else 0.0,
            stack=None if held_up is None else held_up.stack,
            begun=read_beginnings(self._beginnings) if 1 < self._late_looks <= _TOLD_LOOKS else (),
        )
        for orchestrator in list(self._orchestrators):
            connection = self._connection(orchestrator, state.credentials)
            if connection is not None:
                connection.beat(beat)

    def _beat_for(self, state: State, number: int, task: Running) -> None:
        connection = self._connection(task.orchestrator, state.credentials)
        if connection is not None:
            request = new("TaskHeartbeatRequest", task_id=task.id, worker_id=state.worker_id, run_id=task.run_id)
            connection.beat_for(number, request, partial(self._end, number))

    def _end(self, number: int, *, is_claimed: bool) -> None:
        if number not in self._unwanted:
            self._unwanted.add(number)
            _say(Unwanted(number, is_claimed))

    def _connection(self, orchestrator: Orchestrator, credentials: Credentials) -> "_Connection | None":
        connection = self._connections.get(orchestrator)
        if connection is not None and connection.is_broken:  # a new one does not wait before it tries again
            del self._connections[orchestrator]
            connection.close()
            connection = None
        if connection is None:
            try:
                channel = open_sync_channel(orchestrator.address, credentials, name=orchestrator.name)
            except CredentialsError:
                return None  # the worker can't connect either, and says why
            connection = self._connections[orchestrator] = _Connection(channel)
        connection.idle_looks = 0
        return connection

    def _close_unused(self) -> None:
        for orchestrator, connection in list(self._connections.items()):
            connection.idle_looks += 1
            if connection.idle_looks > _KEPT_LOOKS:
                self._connections.pop(orchestrator).close()


class _Connection:
    """A server, as it is called here."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.idle_looks = 0
        self.is_broken = False
        self._channel = channel
        self._beat = _call(channel, methods("BeatService", WORK_PACKAGE)["Beat"])
        self._heartbeat = _call(channel, methods("OrchestratorService")["TaskHeartbeat"])
        self._open: dict[int | None, int] = {}
        self._mute_looks = 0

    def beat(self, beat: Beat) -> None:
        if self._mute_looks > 0:
            self._mute_looks -= BEAT_LOOKS
            return
        self._ask(None, self._beat, frame(beat), self._beaten)

    def _beaten(self, code: grpc.StatusCode, answer: Any) -> None:
        if code is grpc.StatusCode.UNIMPLEMENTED:
            self._mute_looks = _UNSPOKEN_LOOKS

    def beat_for(self, number: int, request: Any, end: Callable[..., None]) -> None:
        def answered(code: grpc.StatusCode, answer: Any) -> None:
            if code is grpc.StatusCode.NOT_FOUND:
                end(is_claimed=False)
            elif code is grpc.StatusCode.OK and answer.should_abort:
                end(is_claimed=True)

        self._ask(number, self._heartbeat, request, answered)

    def _ask(self, key: int | None, call: Any, request: Any, answered: Callable[[grpc.StatusCode, Any], None]) -> None:
        """Call without waiting, unless answers about the same are overdue."""
        if self._open.get(key, 0) >= MOST_OPEN:
            return
        self._open[key] = self._open.get(key, 0) + 1

        def done(future: Any) -> None:
            self._open[key] -= 1
            if not self._open[key]:
                self._open.pop(key, None)
            code = future.code()
            self.is_broken = self.is_broken or code is grpc.StatusCode.UNAVAILABLE
            answered(code, future.result() if code is grpc.StatusCode.OK else None)

        call.future(request, timeout=_PATIENCE_S).add_done_callback(done)

    def close(self) -> None:
        self._channel.close()


def _call(channel: grpc.Channel, method: Method) -> Any:
    return channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)


if __name__ == "__main__":
    main()
