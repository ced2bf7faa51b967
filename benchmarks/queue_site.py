"""A server and its workers as processes of their own, ours or those of the reference, and calls to the server."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from peers.environments import python as environment

from stepflow_grpc.messages import methods, new
from stepflow_grpc.wire import to_struct, to_value

HERE = Path(__file__).parent


def _config(queues: Sequence[str]) -> dict[str, Any]:
    """Only queues that get a worker: the reference's server holds every step up for one that has none."""
    workers = {queue: {"type": "grpc", "queueName": queue, "queueTimeoutSecs": 600} for queue in queues}
    names = ("builtin", *queues)
    return {
        "plugins": {"builtin": {"type": "builtin"}, **workers},
        "routes": {f"/{name}": [{"plugin": name}] for name in names},
    }


READY_S = 180.0
"""How long a server or a worker may take to be there: the first start on a cold machine reads a lot from the disk."""

CALL_S = 30.0
"""How long an answer may take, besides what tasks take."""

SLOWEST = 20
"""Tasks a second, below which something has got lost."""

_LIMITS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Site:
    """One open server. `worker` adds workers to it."""

    def __init__(self, stack: ExitStack, server: subprocess.Popen[str], port: int) -> None:
        self.port = port
        self._stack = stack
        self._server = server
        self._workers: list[subprocess.Popen[str]] = []
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=_LIMITS)
        self._channel = stack.enter_context(channel)

    def call(self, service: str, name: str, within_s: float = CALL_S, **fields: Any) -> Any:
        method = methods(service)[name]
        make = self._channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
        return make(new(method.request.DESCRIPTOR.name, **fields), timeout=within_s)

    def worker(self, kind: str, queue: str = "cpu", *, slots: int) -> None:
        python, script = (sys.executable, "queue_worker.py")
        if kind == "upstream":
            python, script = (str(environment("upstream")), "peers/upstream_worker.py")
        command = [python, str(HERE / script), f"127.0.0.1:{self.port}", queue, str(slots)]
        self._workers.append(self._stack.enter_context(_running(command)))

    def store(self, flow: dict[str, Any]) -> str:
        flow_id: str = self.call("FlowsService", "StoreFlow", flow=to_struct(flow)).flow_id
        return flow_id

    def begin(self, flow_id: str, inputs: list[Any], slots: int) -> str:
        values = [to_value(each) for each in inputs]
        within_s = CALL_S + len(inputs) / SLOWEST
        created = self.call("RunsService", "CreateRun", within_s, flow_id=flow_id, input=values, max_concurrency=slots)
        run_id: str = created.summary.run_id
        return run_id

    def wait(self, run_id: str, tasks: int = 1) -> Any:
        """A run of so many tasks as it is at its end. Raises: grpc.RpcError, where it takes far too long."""
        within_s = CALL_S + tasks / SLOWEST
        asked = {"run_id": run_id, "wait": True, "timeout_secs": int(within_s)}
        return self.call("RunsService", "GetRun", within_s + CALL_S, **asked).summary

    def until_served(self, flow: dict[str, Any]) -> str:
        """Store a flow, and run it once where that can be, so that its workers are there: its id."""
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            with suppress(grpc.RpcError):  # the reference's server knows no component before a worker lists it
                flow_id = self.store(flow)
                if self.wait(self.begin(flow_id, [{"n": 0}], 1)).items.completed == 1:
                    return flow_id
            time.sleep(0.2)
        raise RuntimeError("no worker does the tasks; BENCH_VERBOSE=1 shows why")

    def server_cpu_s(self) -> float:
        return _cpu_s(self._server.pid)

    def workers_cpu_s(self) -> float:
        return sum(_cpu_s(worker.pid) for worker in self._workers)


@contextmanager
def site(kind: str, queues: Sequence[str] = ("cpu",)) -> Iterator[Site]:
    """A server with a fresh memory store; the components of a queue are below its name."""
    with ExitStack() as stack:
        said = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "said"
        with said.open("w") as out:  # a pipe that nobody reads would fill, and hold the server up
            server = stack.enter_context(_running(_server_command(kind), json.dumps(_config(queues)), out))
        yield Site(stack, server, _announced(server, said))


def _server_command(kind: str) -> list[str]:
    if kind == "ours":
        return [
            sys.executable,
            "-c",
            "from stepflow.cli.main import main; main()",
            "serve",
            "--config-stdin",
            "--port",
            "0",
        ]
    where = "import stepflow_orchestrator; print(stepflow_orchestrator.__path__[0])"
    found = subprocess.run([environment("upstream"), "-c", where], check=True, capture_output=True, text=True)
    return [f"{found.stdout.strip()}/bin/stepflow-server", "--port", "0", "--log-level", "error", "--config-stdin"]


@contextmanager
def _running(command: list[str], given: str = "", out: Any = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    quiet = {} if os.environ.get("BENCH_VERBOSE") else {"stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, text=True, **quiet)
    assert process.stdin is not None
    process.stdin.write(given)
    process.stdin.close()
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _announced(server: subprocess.Popen[str], said: Path) -> int:
    """The port that a server says in its first lines."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until and server.poll() is None:
        for line in said.read_text().splitlines(keepends=True):
            if line.startswith('{"port"') and line.endswith("\n"):
                port: int = json.loads(line)["port"]
                return port
        time.sleep(0.02)
    raise RuntimeError("the server did not say its port; BENCH_VERBOSE=1 shows why")


def _cpu_s(pid: int) -> float:
    """Time of the processor that a process has taken, its threads included; 0 where the system doesn't say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
