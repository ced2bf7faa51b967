"""A server with runs in memory, and commands that ask it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from stepflow.cli.main import main
from stepflow.components import Components
from stepflow.engine import Engine
from stepflow.execution.handle import Run
from stepflow_grpc.doors.guard import FixedTokens
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.server import Server

FLOW = {
    "name": "gated",
    "steps": [{"id": "g", "component": "/gate", "input": {"$input": "$"}}],
    "output": {"$step": "g"},
}
QUEUED = {
    "name": "queued",
    "steps": [{"id": "q", "component": "/gpu/draw", "input": {"$input": "$"}}],
    "output": {"$step": "q"},
}


class Outcome:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def last(self) -> str:
        return self.err.splitlines()[-1]

    @property
    def objects(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class At:
    """A server, its engine, and what happens there."""

    def __init__(self, portal: BlockingPortal, engine: Engine, server: Server) -> None:
        self.portal = portal
        self.engine = engine
        self.url = f"127.0.0.1:{server.port}"

    def submit(self, inputs: list[Any], flow: Any = FLOW) -> Run:
        run: Run = self.portal.call(self.engine.submit, flow, inputs)
        return run

    def ended(self, run: Run) -> str:
        """The state in which it ends."""
        return str(self.portal.call(run.wait).status.value)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Items from 3 on end once this file is there; 1 fails until there is a file `mended`."""
    return tmp_path / "open"


@pytest.fixture
def app(gate: Path, tmp_path: Path) -> Components:
    registry = Components()

    @registry.component("/gate")
    def wait(input: int) -> int:
        from time import sleep

        if input == 1 and not (tmp_path / "mended").exists():
            raise ValueError("one is refused")
        while input >= 3 and not gate.exists():
            sleep(0.01)
        return input * 10

    return registry


@pytest.fixture
def at(app: Components, gate: Path) -> Iterator[At]:
    plugins = {"workers": QueuePlugin(name="workers", queue="gpu")}
    routes = {"/gpu/{*component}": [{"plugin": "workers"}]}
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Engine(app, plugins=plugins, routes=routes)) as engine,
        portal.wrap_async_context_manager(Server(engine, port=0)) as server,
    ):
        yield At(portal, engine, server)
        gate.touch()


@pytest.fixture
def guarded(app: Components) -> Iterator[str]:
    """A server that wants the token `sesame`."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Engine(app)) as engine,
        portal.wrap_async_context_manager(Server(engine, port=0, tokens=FixedTokens(("sesame",)))) as server,
    ):
        yield f"127.0.0.1:{server.port}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("STEPFLOW_URL", "STEPFLOW_STORE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def cli(capsysbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Outcome]:
    def call(*arguments: str) -> Outcome:
        capsysbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capsysbinary.readouterr()
        return Outcome(int(ended.value.code or 0), out.decode(), err.decode())

    return call
