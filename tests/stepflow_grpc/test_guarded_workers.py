"""Workers, the processes that beat for them, and pools, at a server that asks for certificates and a token."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")

from certificate_authority import Authority

from stepflow.engine import Engine
from stepflow.execution.events import StepStarted
from stepflow_grpc.credentials import Credentials
from stepflow_grpc.doors.guard import FixedTokens
from stepflow_grpc.doors.tls import TlsFiles
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.pools.pool import Pool
from stepflow_grpc.server import Server

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TOKEN = "a-token-of-tests"
FLOW = {"steps": [{"id": "s", "component": "/w/double", "input": {"$input": "$"}}], "output": {"$step": "s"}}
WORKER = """
import asyncio, sys, time
import stepflow

app = stepflow.Components()


@app.component("/double")
async def double(n: int) -> int:
    time.sleep(4.5)  # longer than a worker may be silent, with the event loop in its hand
    return n * 2


if __name__ == "__main__":
    from stepflow_grpc.worker.worker import Worker

    asyncio.run(Worker(app, url=sys.argv[1], queue="w", fast_path=sys.argv[2] == "fast path").run())
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "holding.py").write_text(WORKER)
    return Authority(tmp_path)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    plugins = {"workers": QueuePlugin(name="workers", queue="w")}
    async with Engine(plugins=plugins, routes={"/w/{*component}": [{"plugin": "workers"}]}) as opened:
        yield opened


def guarded(engine: Engine, authority: Authority, *, is_mutual: bool, **options: Any) -> Server:
    cert, key = authority.sign("server")
    files = TlsFiles(cert=cert, key=key, client_ca=authority.ca if is_mutual else None)
    return Server(engine, port=0, tls=files, tokens=FixedTokens([TOKEN, "the-next-one"]), **options)


async def doubled(engine: Engine) -> tuple[list[Any], int]:
    """What a run of one item gives, and how often its step began."""
    run = await engine.submit(FLOW, [21])
    async with asyncio.timeout(90):
        outcomes = [result.outcome async for result in run.results()]
    return outcomes, sum(isinstance(event, StepStarted) for event in [event async for event in engine.events(run.id)])


@pytest.mark.parametrize("protocol", ["fast path", "v1"])
async def test_a_worker_that_holds_its_event_loop_is_beaten_for(
    engine: Engine, authority: Authority, tmp_path: Path, protocol: str
) -> None:
    cert, key = authority.sign("client")
    credentials = Credentials(ca=authority.ca, cert=cert, key=key, token=TOKEN)

    async with guarded(engine, authority, is_mutual=True) as server:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, str(tmp_path / "holding.py"), f"https://localhost:{server.port}", protocol),
            env=os.environ | credentials.environment(),
        )
        try:
            outcomes, begun = await doubled(engine)
        finally:
            worker.send_signal(signal.SIGTERM)
            await worker.wait()

    assert [outcome.output for outcome in outcomes] == [42]
    assert begun == 1


async def test_workers_of_a_pool_are_let_in_by_what_the_server_gives_them(
    engine: Engine, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPFLOW_TLS_CA", authority.ca)
    said: list[str] = []

    pool = Pool("w", app="holding:app", directory=tmp_path)
    async with guarded(engine, authority, is_mutual=False, pools=[pool], say=said.append):
        outcomes, begun = await doubled(engine)

    assert [outcome.output for outcome in outcomes] == [42], said
    assert begun == 1
    assert not any(TOKEN in line for line in said)
