"""Workers whose orchestrators come and go."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_port

from stepflow.clock import SystemChance, SystemClock
from stepflow.components import Components
from stepflow.context import Context
from stepflow.engine import Engine
from stepflow_grpc.address import Address
from stepflow_grpc.credentials import Credentials
from stepflow_grpc.server import Server
from stepflow_grpc.worker.connecting import Connecting, look_up
from stepflow_grpc.worker.link import Link
from stepflow_grpc.worker.running import RunningTasks
from stepflow_grpc.worker.worker import Worker

pytestmark = pytest.mark.anyio

MakeEngine = Callable[..., Engine]


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


class Gate:
    """A component that says when it begins, and goes on when it may."""

    def __init__(self) -> None:
        self.app = Components()
        self.calls: list[Any] = []
        self.begun = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.app.component("/gate")(self.pass_through)

    async def pass_through(self, input: Any) -> Any:
        self.calls.append(input)
        self.begun.set()
        await self.may_go_on.wait()
        return input


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_an_answer_waits_for_a_server_that_is_away(
    quiet_heart: Any, engine: Engine, gate: Gate, line: Any, fast_path: bool
) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(AsyncExitStack())
        await server.enter_async_context(Server(engine, port=port))
        worker = await stack.enter_async_context(
            Worker(gate.app, url=f"127.0.0.1:{port}", fast_path=fast_path, make_heart=quiet_heart)
        )
        run = await engine.submit(line("/w/gate"), [1])
        await gate.begun.wait()
        await server.aclose()
        gate.may_go_on.set()
        await eventually(lambda: worker.running == 0)
        await stack.enter_async_context(Server(engine, port=port))
        async with asyncio.timeout(60):
            (result,) = [result async for result in run.results()]

    assert result.output == 1
    assert gate.calls == [1]


async def test_a_task_goes_on_while_its_run_moves_to_another_engine(
    quiet_heart: Any, make_engine: MakeEngine, gate: Gate, line: Any, tmp_path: Path, fast_path: bool
) -> None:
    port, store = free_port(), tmp_path / "runs.db"
    async with Worker(gate.app, url=f"127.0.0.1:{port}", fast_path=fast_path, make_heart=quiet_heart) as worker:
        async with make_engine(store=store) as first, Server(first, port=port):
            run = await first.submit(line("/w/gate"), [1])
            await gate.begun.wait()
        async with make_engine(store=store) as second, Server(second, port=port):
            await eventually(lambda: worker.is_ready)
            gate.may_go_on.set()
            async with asyncio.timeout(60):
                (result,) = [result async for result in (await second.get_run(run.id)).results()]

    assert result.output == 1
    assert gate.calls == [1]


INNER = {"steps": [{"id": "s", "component": "/w/gate", "input": {"$input": "$"}}], "output": {"$step": "s"}}


@pytest.mark.slow  # the first server waits five seconds for the call that waits for the sub-run
async def test_a_component_that_awaits_a_sub_run_goes_on_while_its_run_moves_to_another_engine(
    quiet_heart: Any, make_engine: MakeEngine, gate: Gate, line: Any, tmp_path: Path, fast_path: bool
) -> None:
    port, store, outer_calls = free_port(), tmp_path / "runs.db", []

    @gate.app.component("/outer")
    async def outer(n: int, ctx: Context) -> int:
        outer_calls.append(n)
        return int(await ctx.evaluate(INNER, n)) + 1

    address = f"127.0.0.1:{port}"
    async with Worker(gate.app, url=address, max_concurrent=1, fast_path=fast_path, make_heart=quiet_heart) as worker:
        async with make_engine(store=store) as first, Server(first, port=port):
            run = await first.submit(line("/w/outer"), [1])
            await gate.begun.wait()
        async with make_engine(store=store) as second, Server(second, port=port):
            await eventually(lambda: worker.is_ready)
            gate.may_go_on.set()
            async with asyncio.timeout(60):
                (result,) = [result async for result in (await second.get_run(run.id)).results()]

    assert result.output == 2
    assert outer_calls == [1]
    assert gate.calls == [1]


async def test_every_orchestrator_behind_a_name_is_served(quiet_heart: Any, make_engine: MakeEngine, line: Any) -> None:
    app, port = Components(), free_port()
    app.component("/double")(lambda n: n * 2)

    async def both(host: str) -> Sequence[str]:
        assert host == "orchestrators.example"
        return ["127.0.0.1", "127.0.0.2"]

    found = []
    async with (
        make_engine() as one,
        make_engine() as two,
        Server(one, host="127.0.0.1", port=port),
        Server(two, host="127.0.0.2", port=port),
        Worker(app, url=f"orchestrators.example:{port}", look_up=both, make_heart=quiet_heart),
    ):
        for engine in (one, two):
            async with asyncio.timeout(60):
                run = await engine.submit(line("/w/double"), [21])
                found += [result.output async for result in run.results()]

    assert found == [42, 42]


async def test_an_engine_with_two_addresses_gets_one_connection(quiet_heart: Any, engine: Engine, line: Any) -> None:
    app, port = Components(), free_port()
    app.component("/double")(lambda n: n * 2)

    async def both(host: str) -> Sequence[str]:
        return ["127.0.0.1", "127.0.0.2"]

    async with (
        Server(engine, host="0.0.0.0", port=port),
        Worker(app, url=f"here.example:{port}", look_up=both, make_heart=quiet_heart) as worker,
    ):
        await eventually(lambda: len(worker.connected) == 2)
        await eventually(lambda: len(worker.connected) == 1)
        run = await engine.submit(line("/w/double"), [1])
        async with asyncio.timeout(60):
            outputs = [result.output async for result in run.results()]

    assert outputs == [2]


@pytest.mark.slow
async def test_a_name_that_leads_elsewhere_is_followed(quiet_heart: Any, make_engine: MakeEngine, line: Any) -> None:
    app, port, places = Components(), free_port(), ["127.0.0.1"]
    app.component("/double")(lambda n: n * 2)

    async def now(host: str) -> Sequence[str]:
        return list(places)

    async with make_engine() as one, make_engine() as two, Server(two, host="127.0.0.2", port=port):
        async with Server(one, host="127.0.0.1", port=port):
            worker = Worker(app, url=f"moving.example:{port}", look_up=now, make_heart=quiet_heart)
            serving = asyncio.create_task(worker.run())
            await eventually(lambda: worker.is_ready)
        places[:] = ["127.0.0.2"]
        run = await two.submit(line("/w/double"), [1])
        async with asyncio.timeout(60):
            outputs = [result.output async for result in run.results()]
        worker.stop()
        await serving

    assert outputs == [2]


async def test_a_server_that_is_not_there_is_told_at_once_and_waited_for(
    quiet_heart: Any, engine: Engine, line: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app, port = Components(), free_port()
    app.component("/double")(lambda n: n * 2)

    with caplog.at_level(logging.WARNING, logger="stepflow.worker"):
        async with Worker(app, url=f"127.0.0.1:{port}", make_heart=quiet_heart) as worker:
            await eventually(lambda: caplog.records)
            was_ready = worker.is_ready
            async with Server(engine, port=port):
                run = await engine.submit(line("/w/double"), [1])
                async with asyncio.timeout(60):
                    outputs = [result.output async for result in run.results()]

    told = [record.getMessage() for record in caplog.records if record.name == "stepflow.worker"]
    assert (was_ready, outputs) == (False, [2])
    assert f"127.0.0.1:{port}" in told[0]
    assert "stepflow serve" in told[0]


async def test_a_name_that_nobody_knows_is_told_and_looked_up_again(
    quiet_heart: Any, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app, is_known = Components(), False
    app.component("/double")(lambda n: n * 2)

    async def look_up_later(host: str) -> Sequence[str]:
        if not is_known:
            raise OSError(-2, "Name or service not known")
        return ["127.0.0.1"]

    url = f"later.example:{server.port}"
    with caplog.at_level(logging.WARNING, logger="stepflow.worker"):
        async with Worker(app, url=url, look_up=look_up_later, make_heart=quiet_heart) as worker:
            await eventually(lambda: caplog.records)
            is_known = True
            await eventually(lambda: worker.is_ready)

    assert "there is no host 'later.example'" in caplog.records[0].getMessage()


async def test_a_queue_that_no_route_names_is_told_with_what_to_do(
    quiet_heart: Any, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app = Components()
    app.component("/double")(lambda n: n * 2)

    with caplog.at_level(logging.WARNING, logger="stepflow.worker"):
        async with Worker(app, url=f"127.0.0.1:{server.port}", queue="nobodys", make_heart=quiet_heart):
            await eventually(lambda: caplog.records)

    told = caplog.records[0].getMessage()
    assert "no queue 'nobodys'" in told
    assert "queueName: nobodys" in told


async def test_a_name_of_both_families_is_looked_up_as_the_older_one() -> None:
    assert list(await look_up("localhost")) == ["127.0.0.1"]


async def test_a_certificate_that_is_not_there_is_told_and_waited_for(
    quiet_heart: Any, server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = Components()
    app.component("/double")(lambda n: n * 2)
    credentials = Credentials(ca=str(tmp_path / "ca.pem"))

    with caplog.at_level(logging.WARNING, logger="stepflow.worker"):
        url = f"127.0.0.1:{server.port}"
        async with Worker(app, url=url, credentials=credentials, make_heart=quiet_heart):
            await eventually(lambda: caplog.records)

    assert str(tmp_path / "ca.pem") in caplog.records[0].getMessage()


async def test_what_no_other_try_would_mend_ends_the_worker(quiet_heart: Any) -> None:
    app = Components()
    app.component("/double")(lambda n: n * 2)

    async def broken(host: str) -> Sequence[str]:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        await Worker(app, url="some.example:1", look_up=broken, make_heart=quiet_heart).run()


async def test_a_link_that_fails_for_good_ends_its_connections(quiet_heart: Any) -> None:
    def fail(address: Address, name: str | None) -> Link:
        raise RuntimeError("a mistake")

    clock, chance = SystemClock(), SystemChance(1)
    desk = RunningTasks(lambda task: NotImplemented, worker_id="w", queue="q", slots=1, components=list)
    heart = quiet_heart("w", clock)

    with pytest.raises(RuntimeError, match="a mistake"):
        async with asyncio.timeout(60):
            await Connecting(Address("127.0.0.1", 1), desk, [fail], clock, chance, heart=heart).run()
