"""`stepflow runs` at a server: the same commands, over its port."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import pytest
from anyio.from_thread import start_blocking_portal
from polled import until

from stepflow.cli.runs import explaining
from stepflow.components import Components
from stepflow.engine import Engine, serving
from stepflow.errors import StoreUnavailableError
from stepflow.stores.memory import MemoryBackend
from stepflow_grpc.address import read_address
from stepflow_grpc.operating.store import ServerBackend
from stepflow_grpc.server import Server

from .conftest import FLOW, At, Outcome

Cli = Callable[..., Outcome]


def test_runs_of_a_server_can_be_looked_at_though_it_keeps_them_in_memory(cli: Cli, at: At) -> None:
    run = at.submit([0, 1, 2, 3])
    until(lambda: at.portal.call(run.record).failed == 1, "one item has failed")

    listed = cli("runs", "list", "--url", at.url)
    shown = cli("runs", "show", "last", "--url", at.url, "--json")
    told = cli("runs", "events", run.id[:8], "--url", at.url)
    explained = cli("runs", "explain", "last", "--url", at.url, "--json")
    reported = cli("runs", "report", "last", "-o", "run.html", "--url", at.url)

    assert [each.code for each in (listed, shown, told, explained, reported)] == [0] * 5
    assert run.id[:8] in listed.out
    assert listed.last == f"next: stepflow runs show {run.id[:8]} --url {at.url}"
    (history,) = shown.objects
    assert [history["run"]["run_id"], history["steps"][0]["failed"]] == [run.id, 1]
    assert any("item 1  g  failed with COMPONENT_FAILED" in line for line in told.out.splitlines())
    assert explained.objects[0]["status"] == "running"
    assert run.id in Path("run.html").read_text()


def test_a_store_that_takes_nothing_is_named_in_place_of_the_slots_that_it_keeps_busy(
    cli: Cli, at: At, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(writes: object) -> None:
        raise StoreUnavailableError("the disk is full")

    monkeypatch.setattr(serving, "SLOW_STORE_S", 0.0)
    run = at.submit([3])
    with monkeypatch.context() as patch:
        patch.setattr(at.engine.backend.journal, "commit", refuses)
        gate.touch()
        until(lambda: at.engine.unanswered_since is not None, "the store does not answer")
        explained = cli("runs", "explain", "last", "--url", at.url)
        told = str(at.portal.call(at.engine.explain, run.id))

    assert "the store has not answered engine" in explained.out
    assert "the store has not answered engine" in told
    assert at.ended(run) == "completed"


def test_whoever_is_asked_the_engine_of_the_run_tells_that_the_store_takes_nothing(
    cli: Cli, app: Components, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(writes: object) -> None:
        raise StoreUnavailableError("the disk is full")

    monkeypatch.setattr(serving, "SLOW_STORE_S", 0.0)
    monkeypatch.setattr(explaining, "NEWS_S", -60.0)
    store = MemoryBackend(shared=True)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Engine(app, store=store)) as owner,
        portal.wrap_async_context_manager(Server(owner, port=0)),
        portal.wrap_async_context_manager(Engine(app, store=store)) as other,
        portal.wrap_async_context_manager(Server(other, port=0)) as server,
    ):
        run = portal.call(partial(owner.submit, FLOW, [3, 4], max_concurrency=1))
        at = At(portal, other, server)
        until(lambda: "its only slot is busy" in str(portal.call(other.explain, run.id)), "the first step is recorded")
        with monkeypatch.context() as patch:
            patch.setattr(store.journal, "commit", refuses)
            gate.touch()
            until(lambda: owner.unanswered_since is not None, "the owner waits for the store")
            explained = cli("runs", "explain", "last", "--url", at.url)
        ended = at.ended(run)

    assert "the store has not answered engine" in explained.out
    assert ended == "completed"


def test_a_store_that_cannot_be_read_either_is_not_taken_for_a_server_that_is_away(
    cli: Cli, at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(text: str) -> None:
        raise StoreUnavailableError("no connection was free")

    monkeypatch.setattr(at.engine.backend.runs, "find", silent)

    refused = cli("runs", "explain", "last", "--url", at.url)

    assert (refused.code, refused.err) == (
        1,
        f"error: the server at {at.url} has no answer from its store: no connection was free\n",
    )


def test_events_are_followed_over_the_port_until_the_run_ends(cli: Cli, at: At, gate: Path) -> None:
    run = at.submit([0, 3])
    gate.touch()

    followed = cli("runs", "events", "last", "--follow", "--url", at.url)

    assert followed.out.splitlines()[-1].endswith("run completed")
    assert at.ended(run) == "completed"


def test_a_run_is_paused_resumed_cancelled_and_deleted_through_the_server(cli: Cli, at: At) -> None:
    run = at.submit([0, 3, 4])

    paused = cli("runs", "pause", "last", "--url", at.url)
    explained = cli("runs", "explain", "last", "--url", at.url)
    while_paused = at.portal.call(run.record).status.value
    resumed = cli("runs", "resume", "last", "--url", at.url)
    while_resumed = at.portal.call(run.record).status.value
    refused = cli("runs", "delete", "last", "--url", at.url)
    cancelled = cli("runs", "cancel", "last", "--url", at.url)
    at_the_end = at.ended(run)
    deleted = cli("runs", "delete", run.id[:8], "--url", at.url)
    listed = cli("runs", "list", "--url", at.url)

    assert [paused.code, resumed.code, refused.code, cancelled.code, deleted.code] == [0, 0, 1, 0, 0]
    assert paused.last == f"next: stepflow runs resume {run.id[:8]} --url {at.url}"
    assert f"; stepflow runs resume {run.id} --url {at.url}\n" in explained.out
    assert [while_paused, while_resumed, at_the_end] == ["paused", "running", "cancelled"]
    assert f"end it first: stepflow runs cancel {run.id[:8]} --url {at.url}" in refused.err
    assert listed.last == f"no runs at {at.url}"


def test_old_runs_are_pruned_through_the_server(cli: Cli, at: At) -> None:
    runs, ends = [], []
    for _ in range(3):
        runs.append(at.submit([0]))
        ends.append(at.ended(runs[-1]))  # before the next begins: those that ended first are deleted

    pruned = cli("runs", "delete", "--keep", "1", "--yes", "--url", at.url)

    assert ends == ["completed"] * 3
    assert "deleted 2 runs" in pruned.err
    assert [each["run_id"] for each in cli("runs", "list", "--json", "--url", at.url).objects] == [runs[-1].id]


def test_failed_items_are_tried_again_by_the_server_and_all_results_come_back(cli: Cli, at: At, tmp_path: Path) -> None:
    failed = at.submit([0, 1, 2])
    assert at.ended(failed) == "failed"
    (tmp_path / "mended").touch()

    retried = cli("runs", "retry", "last", "-o", "out.jsonl", "--url", at.url)
    again = cli("runs", "retry", "last", "--url", at.url)

    assert retried.code == 0
    results = [json.loads(line)["result"] for line in Path("out.jsonl").read_text().splitlines()]
    assert results == [0, 10, 20]
    newest = cli("runs", "list", "--json", "--limit", "1", "--url", at.url).objects[0]
    assert newest["retry_of"] == failed.id
    assert again.code == 1
    assert "has no failed item: all 3 succeeded" in again.err


def test_a_run_that_goes_on_is_not_tried_again(cli: Cli, at: At) -> None:
    run = at.submit([3])

    refused = cli("runs", "retry", "last", "--url", at.url)

    assert refused.code == 1
    assert refused.last.endswith(f"what it does: stepflow runs explain {run.id[:8]} --url {at.url}")


def test_the_variable_names_the_server_unless_a_store_is_named(
    cli: Cli, at: At, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = at.submit([0])
    assert at.ended(run) == "completed"
    monkeypatch.setenv("STEPFLOW_URL", at.url)

    by_variable = cli("runs", "list")
    by_store = cli("runs", "list", "--store", "nothing.db")
    monkeypatch.setenv("STEPFLOW_STORE", "nothing.db")
    by_other_variable = cli("runs", "list")
    by_url = cli("runs", "list", "--url", at.url)

    assert by_variable.last == f"next: stepflow runs show {run.id[:8]}"
    assert "nothing.db: there is no such file" in by_store.last
    assert "nothing.db: there is no such file" in by_other_variable.last
    assert run.id[:8] in by_url.out


@pytest.mark.parametrize("named", [("--store", "runs.db"), ("--config", "stepflow-config.yml")])
def test_a_server_and_a_store_are_not_named_together(cli: Cli, named: tuple[str, str]) -> None:
    refused = cli("runs", "list", "--url", "127.0.0.1:1", *named)

    assert refused.code == 2
    assert f"error: --url and {named[0]} exclude each other" in refused.err


def test_a_server_that_is_not_there_is_said_in_one_line(cli: Cli) -> None:
    outcome = cli("runs", "list", "--url", "127.0.0.1:1")

    assert [outcome.code, len(outcome.err.splitlines())] == [1, 1]
    assert "connection refused" in outcome.err


def test_components_of_ones_own_are_refused_where_the_server_runs_the_items(cli: Cli) -> None:
    refused = cli("runs", "retry", "last", "--app", "components:app", "--url", "127.0.0.1:1")

    assert refused.code == 2
    assert "--url and --app exclude each other" in refused.err


def test_a_server_that_does_not_know_the_questions_leads_to_the_store(cli: Cli) -> None:
    other = grpc.server(ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()

    outcome = cli("runs", "list", "--url", f"127.0.0.1:{port}")
    other.stop(None).wait()

    assert outcome.code == 1
    assert "does not answer operators" in outcome.last
    assert outcome.last.endswith("ask its store instead (--store)")


@pytest.mark.anyio
async def test_a_long_answer_comes_in_pieces(engine: Engine, server: Server) -> None:
    run = await engine.submit({"steps": [], "output": {"$input": "$"}}, ["x" * 3_000_000, "ü" * 1_000_000])
    await run.wait()

    async with ServerBackend(read_address(f"127.0.0.1:{server.port}")) as backend:
        rows = await backend.journal.history(run.id)

    assert rows == list(await engine.backend.journal.history(run.id))
    assert sum(len(row.payload) for row in rows) > 5_000_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("runs", "list", "--url", "not an address"), "is no address of a server"),
        (("runs", "list", "--url", ""), "'--url': it is empty"),
        (("runs", "cancel", "", "--url", "127.0.0.1:1"), "'RUN...': it is empty"),
        (("runs", "show", " ", "--url", "127.0.0.1:1"), "'RUN': it is empty"),
        (("queues", "--url", "ftp://x"), "is no address of a server"),
        (("queues", "--url", ""), "is no address of a server"),
    ],
)
def test_what_names_nothing_is_a_mistake_of_who_typed_it(cli: Cli, words: tuple[str, ...], said: str) -> None:
    refused = cli(*words)

    assert refused.code == 2
    assert said in refused.err


@pytest.mark.parametrize(
    "words", [("runs", "list"), ("runs", "cancel", "last"), ("runs", "retry", "last"), ("queues",)]
)
def test_nothing_is_told_to_who_shows_no_token(
    cli: Cli, guarded: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = cli(*words, "--url", guarded)
    monkeypatch.setenv("STEPFLOW_TOKEN", "sesame")
    answered = cli(*words, "--url", guarded)

    assert refused.code == 1
    assert "set STEPFLOW_TOKEN" in refused.last
    assert "STEPFLOW_TOKEN" not in answered.err
