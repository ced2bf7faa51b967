"""Runs whose secrets are not there wait for them, say so, and can still be ended."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from secret_shop import ALL, CALLERS, KEY, OTHER, OUTSIDE, PIN, VARIABLES, Shop, assert_hidden, flow_of, step

from stepflow.engine import Engine
from stepflow.errors import StepflowError
from stepflow.execution.events import StepWaiting
from stepflow.history.explaining import explain
from stepflow.records import ErrorCode, RunStatus

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sealing_environment")]

MakeEngine = Callable[..., Engine]


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"SHOP_KEY": None}, "the environment variable SHOP_KEY is not set"),
        ({"STEPFLOW_SECRET_KEY": None}, "its secrets are sealed, and STEPFLOW_SECRET_KEY is not set"),
        ({"STEPFLOW_SECRET_KEY": OTHER}, "its secrets are sealed with another key than STEPFLOW_SECRET_KEY holds"),
    ],
    ids=["variable", "key", "wrong key"],
)
async def test_a_run_whose_secrets_are_missing_waits_until_an_engine_has_them(
    make_engine: MakeEngine,
    shop: Shop,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str | None],
    reason: str,
) -> None:
    flow = flow_of(step("/hang"), output={"$step": "s"})
    shop.hangs = True
    async with make_engine(shop.app, store=path) as engine:
        run = await engine.submit(flow, [{"pin": PIN}, {"pin": PIN}], variables=VARIABLES, key="k", max_concurrency=1)
        await shop.hung.wait()
    calls = len(shop.seen)
    shop.hangs = False

    with monkeypatch.context() as patch:
        for name, value in environ.items():
            patch.delenv(name) if value is None else patch.setenv(name, value)
        async with make_engine(shop.app, store=path) as engine:
            await anyio.sleep(60)
            record = await engine.get(run.id)
            told = await explain(engine.backend, run.id, now=record.created_at + 100)
            with pytest.raises(StepflowError, match=next(iter(environ))):
                await engine.submit(flow, [{"pin": PIN}], variables=VARIABLES, key="k")
    assert (record.status, record.succeeded, len(shop.seen)) == (RunStatus.RUNNING, 0, calls)
    assert reason in told.blockers[0].text(told.now)

    async with make_engine(shop.app, store=path) as engine:
        again = await engine.get_run(run.id)
        assert [result.output async for result in again.results()] == [[CALLERS, OUTSIDE, PIN]] * 2
        events = [event async for event in again.events()]
    assert [event.reason for event in events if isinstance(event, StepWaiting)] == [reason]
    assert_hidden(path)


async def test_a_run_that_waits_for_its_secrets_can_be_cancelled(
    make_engine: MakeEngine, shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.hangs = True
    async with make_engine(shop.app, store=path) as engine:
        flow = flow_of(step("/hang"), output={"$step": "s"})
        run = await engine.submit(flow, [{"pin": PIN}] * 3, variables=VARIABLES)
        await shop.hung.wait()
    monkeypatch.delenv("STEPFLOW_SECRET_KEY")

    async with make_engine(shop.app, store=path) as engine:
        await engine.cancel(run.id)
        again = await engine.get_run(run.id)
        record = await again.wait()
        results = [result async for result in again.results()]

    assert (record.status, record.total) == (RunStatus.CANCELLED, 3)
    assert [result.error.code for result in results if result.error is not None] == [ErrorCode.CANCELLED] * 3


async def test_a_run_that_waits_for_its_secrets_ends_at_its_deadline(
    make_engine: MakeEngine, shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.hangs = True
    async with make_engine(shop.app, store=path) as engine:
        flow = flow_of(step("/hang"), output={"$step": "s"})
        run = await engine.submit(flow, [{"pin": PIN}] * 3, variables=VARIABLES, deadline_s=100)
        await shop.hung.wait()
    monkeypatch.delenv("STEPFLOW_SECRET_KEY")

    async with make_engine(shop.app, store=path) as engine:
        record = await (await engine.get_run(run.id)).wait()

    assert record.error is not None
    assert (record.status, record.failed, record.error.code) == (RunStatus.FAILED, 3, ErrorCode.TIMEOUT)


async def test_a_run_that_waits_for_its_secrets_does_not_begin_by_being_resumed(
    make_engine: MakeEngine, shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.hangs = True
    async with make_engine(shop.app, store=path) as engine:
        flow = flow_of(step("/hang"), output={"$step": "s"})
        run = await engine.submit(flow, [{"pin": PIN}] * 3, variables=VARIABLES)
        await shop.hung.wait()
    calls = len(shop.seen)
    monkeypatch.delenv("SHOP_KEY")

    async with make_engine(shop.app, store=path) as engine:
        await engine.pause(run.id)
        await engine.resume(run.id)
        await anyio.sleep(60)

        assert (await engine.get(run.id)).status is RunStatus.RUNNING
    assert len(shop.seen) == calls


@pytest.mark.parametrize("is_asked_for", [False, True], ids=["by itself", "resumed"])
async def test_a_run_whose_secrets_come_while_it_waits_goes_on_without_a_restart(
    make_engine: MakeEngine, shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch, is_asked_for: bool
) -> None:
    flow = flow_of(step("/hang"), output={"$step": "s"})
    shop.hangs = True
    async with make_engine(shop.app, store=path) as engine:
        run = await engine.submit(flow, [{"pin": PIN}] * 2, variables=VARIABLES, key="k", max_concurrency=1)
        await shop.hung.wait()
    shop.hangs = False
    for name in ("SHOP_KEY", "STEPFLOW_SECRET_KEY"):
        monkeypatch.delenv(name)

    async with make_engine(shop.app, store=path) as engine:
        again = await engine.get_run(run.id)
        monkeypatch.setenv("STEPFLOW_SECRET_KEY", KEY)
        await anyio.sleep(60)
        half = await again.record()
        monkeypatch.setenv("SHOP_KEY", OUTSIDE)
        if is_asked_for:
            await engine.resume(run.id)
        outputs = [result.output async for result in again.results()]
        events = [event async for event in again.events()]

    assert half.status is RunStatus.RUNNING
    assert outputs == [[CALLERS, OUTSIDE, PIN]] * 2
    assert sorted(event.reason for event in events if isinstance(event, StepWaiting)) == [
        "its secrets are sealed, and STEPFLOW_SECRET_KEY is not set; the environment variable SHOP_KEY is not set",
        "the environment variable SHOP_KEY is not set",
    ]
    assert_hidden(path)


@pytest.mark.parametrize("item", [ALL, [1]], ids=["secret", "open"])
async def test_a_sub_run_waits_with_its_parent_whose_secrets_are_missing(
    make_engine: MakeEngine, shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch, item: list[Any]
) -> None:
    closed = {"properties": {"variables": {"additionalProperties": item is ALL}}}
    inner = {"schemas": closed, "steps": [step("/hang", {"$input": "$"})], "output": {"$step": "s"}}
    flow = flow_of(step("/builtin/map", {"workflow": {"$literal": inner}, "items": [item]}), output={"$step": "s"})
    shop.hangs = True
    async with make_engine(shop.app, store=path) as engine:
        run = await engine.submit(flow, [{"pin": PIN}], variables=VARIABLES)
        await shop.hung.wait()
    shop.hangs = False

    with monkeypatch.context() as patch:
        patch.delenv("SHOP_KEY")
        async with make_engine(shop.app, store=path) as engine:
            await anyio.sleep(60)
            assert (await engine.get(run.id)).status is RunStatus.RUNNING
    async with make_engine(shop.app, store=path) as engine:
        again = await engine.get_run(run.id)

        assert (await again.wait()).status is RunStatus.COMPLETED
        children = await engine.backend.runs.list(parent_id=run.id)
    assert [child.status for child in children] == [RunStatus.COMPLETED]
