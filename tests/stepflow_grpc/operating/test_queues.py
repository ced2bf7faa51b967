"""`stepflow queues`: what an operator scales pools by."""

from collections.abc import Callable

import pytest

from stepflow_grpc.client.blocking import SyncClient

from .conftest import QUEUED, At, Outcome
from .test_runs import until

Cli = Callable[..., Outcome]


def test_a_queue_that_nobody_serves_is_shown_with_what_waits_in_it(cli: Cli, at: At) -> None:
    at.submit([1, 2, 3], QUEUED)
    with SyncClient(at.url) as client:
        until(lambda: client.queues()[0].waiting == 3)
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
