"""`stepflow queues`: what an operator scales pools by."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from polled import until

from stepflow.engine import Engine
from stepflow.stores.memory import MemoryBackend
from stepflow_grpc.client.blocking import SyncClient
from stepflow_grpc.doors.guard import FixedTokens
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.server import Server

from .conftest import QUEUED, At, Outcome

Cli = Callable[..., Outcome]


def test_a_queue_that_nobody_serves_is_shown_with_what_waits_in_it(cli: Cli, at: At) -> None:
    at.submit([1, 2, 3], QUEUED)
    with SyncClient(at.url) as client:
        until(lambda: client.queues()[0].waiting == 3, "three tasks wait")
    shown = cli("queues", "--url", at.url)
    told = cli("queues", "--url", at.url, "--json")

    head, row = shown.out.splitlines()
    assert head.split() == ["QUEUE", "ROUTES", "WORKERS", "SLOTS", "BUSY", "WAITING", "OLDEST"]
    assert row.split()[:6] == ["gpu", "/gpu/{*component}", "0", "0", "0", "3"]
    assert "nobody serves it; type: stepflow worker" in row
    (state,) = told.objects
    assert {name: state[name] for name in ("queue", "workers", "slots", "busy", "waiting")} == {
        "queue": "gpu",
        "workers": 0,
        "slots": 0,
        "busy": 0,
        "waiting": 3,
    }
    assert [shown.code, told.code] == [0, 0]


def test_the_variable_names_the_server(cli: Cli, at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPFLOW_URL", at.url)

    assert cli("queues").out.splitlines()[1].startswith("gpu ")


@pytest.mark.slow
def test_a_server_without_tls_is_told_in_one_line_to_who_speaks_it(at: At) -> None:
    line = [sys.executable, "-m", "stepflow.cli.main", "queues", "--url", f"https://{at.url}"]

    said = subprocess.run(line, capture_output=True, text=True, timeout=240, check=False)

    remedy = "write its address without https://, or name another port"
    assert (said.returncode, said.stderr) == (
        1,
        f"error: no server answers at https://{at.url}: it speaks no TLS; {remedy}\n",
    )


def test_the_queues_of_all_servers_on_a_store_are_shown_and_one_that_does_not_answer_is_named(
    cli: Cli, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPFLOW_TOKEN", "sesame")
    store = MemoryBackend(shared=True)
    with (
        start_blocking_portal() as portal,
        served(portal, store, "gpu") as here,
        served(portal, store, "cpu") as there,
        portal.wrap_async_context_manager(Engine(store=store)) as gone,
    ):
        both = cli("queues", "--url", here)
        portal.call(gone.announce, f"127.0.0.1:{free_port}")
        with SyncClient(here) as client:
            alone = client.queues()
            everywhere = client.queues(everywhere=True)
        told = cli("queues", "--url", there, "--json")

    head, *rows = both.out.splitlines()
    assert head.split()[:2] == ["SERVER", "QUEUE"]
    assert [row.split()[:2] for row in rows] == [[here, "gpu"], [there, "cpu"]]
    assert [state.queue for state in alone] == ["gpu"]
    assert {(state.server, state.queue) for state in everywhere} == {
        (here, "gpu"),
        (there, "cpu"),
        (f"127.0.0.1:{free_port}", ""),
    }
    assert {(each["server"], each["queue"], each["remark"]) for each in told.objects if not each["queue"]} == {
        (f"127.0.0.1:{free_port}", "", "this server does not answer")
    }
    assert len(told.objects) == 3


@contextmanager
def served(portal: BlockingPortal, store: MemoryBackend, queue: str) -> Iterator[str]:
    """The URL of a server with this queue, which wants a token, on a store that others have too."""
    plugins = {"workers": QueuePlugin(name="workers", queue=queue)}
    routes = {f"/{queue}": [{"plugin": "workers"}]}
    tokens = FixedTokens(("sesame",))
    with (
        portal.wrap_async_context_manager(Engine(store=store, plugins=plugins, routes=routes)) as engine,
        portal.wrap_async_context_manager(Server(engine, port=0, tokens=tokens)) as server,
    ):
        yield f"127.0.0.1:{server.port}"
