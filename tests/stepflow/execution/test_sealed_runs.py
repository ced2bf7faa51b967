"""Nothing that a store keeps of a run shows its secrets, whatever becomes of the run."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from secret_shop import (
    ALL,
    CALLERS,
    KEY,
    OTHER,
    OUTSIDE,
    PIN,
    SCHEMAS,
    SECRET,
    VARIABLES,
    Shop,
    assert_hidden,
    flow_of,
    step,
)

from stepflow.components import Context
from stepflow.engine import Engine
from stepflow.errors import InputInvalidError, RunFailedError, SecretKeyError
from stepflow.execution.events import RunStarted
from stepflow.execution.options import RecoverySettings
from stepflow.execution.references import shown
from stepflow.records import RunStatus, Verdict, Write
from stepflow.stores.memory import MemoryBackend

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sealing_environment")]

MakeEngine = Callable[..., Engine]


FLOWS = {
    "copied": flow_of(output={"all": ALL, "none": 1}),
    "echoed": flow_of(step("/echo"), output={"$step": "s"}),
    "defaulted": flow_of(step("/refuse", onError={"action": "useDefault", "defaultValue": 7}), output={"$step": "s"}),
    "retried": flow_of(step("/refuse", onError={"action": "retry", "maxRetries": 1}), output={"$step": "s"}),
    "mapped": flow_of(
        step(
            "/builtin/map",
            {
                "workflow": {"$literal": {"steps": [step("/echo", [{"$input": "$"}])], "output": {"$step": "s"}}},
                "items": ALL,
            },
        ),
        output={"$step": "s"},
    ),
}


@pytest.mark.parametrize("name", FLOWS)
async def test_a_store_shows_no_secret_and_the_results_do(
    make_engine: MakeEngine, shop: Shop, path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="stepflow")
    flow = FLOWS[name]
    inputs = [{"pin": f"{PIN}-{number}"} for number in range(3)]

    async with make_engine(shop.app) as engine:
        plain = await engine.submit(flow, inputs, variables=VARIABLES)
        expected = [result async for result in plain.results()]
    async with make_engine(shop.app, store=path) as engine:
        run = await engine.submit(flow, inputs, variables=VARIABLES)
        results = [result async for result in run.results()]
        assert_hidden(path)
        events = [event async for event in run.events()]
    assert_hidden(path)

    assert results == expected
    assert isinstance(events[0], RunStarted)
    assert events[0].variables == VARIABLES
    for secret in (CALLERS, OUTSIDE, PIN):
        assert secret not in caplog.text


async def test_an_error_says_what_it_says_in_memory(make_engine: MakeEngine, shop: Shop, path: Path) -> None:
    told = []
    for store in (None, path):
        async with make_engine(shop.app, **({} if store is None else {"store": store})) as engine:
            with pytest.raises(RunFailedError) as caught:
                await engine.run(FLOWS["retried"], {"pin": PIN}, variables=VARIABLES)
            told.append((caught.value.message, caught.value.step, caught.value.data))

    assert told[0][0] == "refused [REDACTED] and [REDACTED] and [REDACTED]"
    assert told[1] == told[0]
    assert_hidden(path)


async def test_a_run_that_was_cut_off_goes_on_with_its_secrets_and_keeps_them(
    make_engine: MakeEngine, shop: Shop, path: Path
) -> None:
    often = RecoverySettings(checkpoint_interval=5)
    flow = flow_of(
        step("/echo", id="first"),
        step("/hang", [{"$step": "first", "path": "same"}], id="second"),
        step("/echo", [*ALL, {"$step": "second"}], id="third"),
        output=[{"$step": "third"}, ALL],
    )
    inputs = [{"pin": f"{PIN}-{number}"} for number in range(4)]
    shop.hangs = True
    async with make_engine(shop.app, store=path, recovery=often) as engine:
        run = await engine.submit(flow, inputs, variables=VARIABLES, max_concurrency=1)
        await shop.hung.wait()
    assert_hidden(path)

    shop.hangs = False
    async with make_engine(shop.app, store=path, recovery=often) as engine:
        again = await engine.get_run(run.id)
        outputs = [result.output async for result in again.results()]
        assert_hidden(path)
    assert_hidden(path)

    assert [output[1] for output in outputs] == [[CALLERS, OUTSIDE, f"{PIN}-{number}"] for number in range(4)]
    assert shop.seen[-1][:2] == [CALLERS, OUTSIDE]


class Grepped(MemoryBackend):
    """A durable store, as far as the engine knows, that keeps all that is written, and dies before one commit."""

    def __init__(self, *, at: int | None = None) -> None:
        super().__init__(keep_events=True)
        self.left = at
        self.died = anyio.Event()
        self.written: list[Write] = []

    @property
    def is_durable(self) -> bool:
        return True

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        if self.left == 0:
            self.died.set()
            await anyio.sleep_forever()
        if self.left is not None:
            self.left -= 1
        self.written += writes
        return await super().commit(writes)


async def test_a_sealed_run_ends_the_same_wherever_it_was_cut(make_engine: MakeEngine, shop: Shop) -> None:
    @shop.app.component("/flaky")
    async def flaky(values: Any, ctx: Context) -> Any:
        if ctx.attempt < 3:
            raise ValueError(f"not yet {values[0]}")
        return {"told": f"{values}"}

    inner = {
        "steps": [step("/echo", {"$input": "$"}), step("/echo", [{"$step": "s"}], id="e")],
        "output": {"$step": "e"},
    }
    flow = flow_of(
        step("/flaky", id="f", onError={"action": "retry", "maxRetries": 5}),
        step("/builtin/map", {"workflow": {"$literal": inner}, "items": [ALL, ALL]}, id="m"),
        step("/echo", [{"$step": "f"}, {"$step": "m", "path": "results"}], id="z"),
        output=[{"$step": "z"}, ALL],
    )
    options: dict[str, Any] = {"recovery": RecoverySettings(checkpoint_interval=4)}

    async def go(store: Grepped) -> list[Any]:
        async with make_engine(shop.app, store=store, **options) as engine, anyio.create_task_group() as tasks:
            tasks.start_soon(bury, store, tasks.cancel_scope)
            inputs = [{"pin": f"{PIN}-{number}"} for number in range(2)]
            run = await engine.submit(flow, inputs, variables=VARIABLES, key="k", max_concurrency=2)
            outputs = [result.outcome async for result in run.results()]
            tasks.cancel_scope.cancel()
            return outputs
        return []

    async def bury(store: Grepped, scope: anyio.CancelScope) -> None:
        await store.died.wait()
        scope.cancel()

    expected = await go(Grepped())
    cuts = 0
    while True:
        store = Grepped(at=cuts)
        first = await go(store)
        store.left, store.died = None, anyio.Event()
        assert (first or await go(store)) == expected, f"cut at commit {cuts}"
        text = msgspec.json.encode([[write.payload.decode(), write.results, write.new] for write in store.written])
        assert not any(secret.encode() in text for secret in (CALLERS, OUTSIDE, PIN)), f"cut at commit {cuts}"
        if first:
            break
        cuts += 1

    assert any(write.is_checkpoint for write in store.written)
    assert cuts >= 8


async def test_a_sub_run_that_was_cut_off_goes_on_and_keeps_the_secrets_of_its_parent(
    make_engine: MakeEngine, shop: Shop, path: Path
) -> None:
    inner = {
        "steps": [step("/hang", {"$input": "$"}), step("/echo", [{"$step": "s"}], id="e")],
        "output": {"$step": "e"},
    }
    flow = flow_of(step("/builtin/map", {"workflow": {"$literal": inner}, "items": [ALL]}), output={"$step": "s"})
    shop.hangs = True
    async with make_engine(shop.app, store=path) as engine:
        run = await engine.submit(flow, [{"pin": PIN}], variables=VARIABLES)
        await shop.hung.wait()

    shop.hangs = False
    async with make_engine(shop.app, store=path) as engine:
        again = await engine.get_run(run.id)
        assert (await again.wait()).status is RunStatus.COMPLETED
        assert shop.seen[-1] == [[CALLERS, OUTSIDE, PIN]]
    assert_hidden(path)


async def test_a_value_of_the_environment_that_has_changed_is_used_as_it_is_now(
    make_engine: MakeEngine, shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEPFLOW_SECRET_KEY")
    schemas = {"properties": {"variables": {"properties": {"env": {**SECRET, "env_var": "SHOP_KEY"}}}}}
    flow = {"schemas": schemas, "steps": [step("/hang", {"$variable": "env"})], "output": {"$step": "s"}}
    shop.hangs = True
    async with make_engine(shop.app, store=path) as engine:
        run = await engine.submit(flow, [1], variables={"env": OUTSIDE}, key="k")
        await shop.hung.wait()

    shop.hangs = False
    monkeypatch.setenv("SHOP_KEY", "rotated-hunter2")
    async with make_engine(shop.app, store=path, recovery=RecoverySettings(enabled=False)) as engine:
        again = await engine.submit(flow, [1], variables={"env": "rotated-hunter2"}, key="k")
        await again.wait()
        assert again.id == run.id
        assert (await again.result(0)).output == "rotated-hunter2"
    assert_hidden(path, OUTSIDE, "rotated-hunter2")


async def test_keys_can_be_rotated_while_a_run_goes_on(
    make_engine: MakeEngine, shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = flow_of(step("/hang"), step("/echo", id="e", input=[{"$step": "s"}]), output={"$step": "e"})
    shop.hangs = True
    async with make_engine(shop.app, store=path) as engine:
        run = await engine.submit(flow, [{"pin": PIN}], variables=VARIABLES)
        await shop.hung.wait()

    shop.hangs = False
    monkeypatch.setenv("STEPFLOW_SECRET_KEY", f"{OTHER},{KEY}")
    async with make_engine(shop.app, store=path) as engine:
        again = await engine.get_run(run.id)
        await again.wait()
    monkeypatch.setenv("STEPFLOW_SECRET_KEY", OTHER)
    async with make_engine(shop.app, store=path) as engine:
        again = await engine.get_run(run.id)
        output = (await again.result(0)).output
        events = [event async for event in again.events()]

    assert output["same"] == [[CALLERS, OUTSIDE, PIN]]
    assert isinstance(events[0], RunStarted)
    assert shown(events[0].variables) == {"key": "<sealed>", "env": OUTSIDE}, "it was sealed with the old key"


async def test_failed_items_are_tried_again_with_the_secrets_that_the_run_had(
    make_engine: MakeEngine, shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @shop.app.component("/flaky")
    async def flaky(values: Any, ctx: Context) -> Any:
        if ctx.item == 1 and len(shop.seen) < 3:
            raise ValueError("not yet")
        return values

    flow = flow_of(step("/echo", id="e"), step("/flaky", {"$step": "e", "path": "same"}), output={"$step": "s"})
    async with make_engine(shop.app, store=path) as engine:
        former = await engine.submit(flow, [{"pin": f"{PIN}-0"}, {"pin": f"{PIN}-1"}], variables=VARIABLES)
        await former.wait()
        shop.seen.append("now it works")
        again = await engine.retry(former.id)
        results = [result.output async for result in again.results()]
    with monkeypatch.context() as patch:
        patch.setenv("STEPFLOW_SECRET_KEY", OTHER)
        async with make_engine(shop.app, store=path) as engine:
            with pytest.raises(SecretKeyError, match="another key"):
                await engine.retry(former.id)

    assert results == [[CALLERS, OUTSIDE, f"{PIN}-{number}"] for number in range(2)]
    assert len(shop.seen) == 3, "what had succeeded was not done again"
    assert_hidden(path)


async def test_what_was_stored_in_clear_may_be_tried_again_in_clear(
    make_engine: MakeEngine, shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEPFLOW_SECRET_KEY")
    async with make_engine(shop.app, store=path, secrets="plain") as engine:
        former = await engine.submit(FLOWS["retried"], [{"pin": PIN}], variables={"key": CALLERS, "env": "x"})
        await former.wait()

    async with make_engine(shop.app, store=path) as engine:
        again = await engine.retry(former.id)

        assert (await again.wait()).status is RunStatus.FAILED


async def test_whoever_has_no_key_sees_that_something_is_sealed(
    make_engine: MakeEngine, shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_engine(shop.app, store=path) as engine:
        run = await engine.submit(FLOWS["copied"], [{"pin": PIN}], variables=VARIABLES)
        await run.wait()
    monkeypatch.delenv("STEPFLOW_SECRET_KEY")
    monkeypatch.delenv("SHOP_KEY")

    async with make_engine(shop.app, store=path) as engine:
        (record,) = await engine.list_runs()
        result = await (await engine.get_run(run.id)).result(0)

    assert record.is_sealed
    assert shown(result.output) == {"all": ["<sealed>"] * 3, "none": 1}


async def test_streamed_inputs_are_sealed_and_a_failure_of_theirs_is_told_without_secrets(
    make_engine: MakeEngine, shop: Shop, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="stepflow")

    def inputs() -> Any:
        yield {"pin": PIN}
        raise ValueError(f"{CALLERS} was refused")

    async with make_engine(shop.app, store=path) as engine:
        run = await engine.submit(FLOWS["echoed"], iter(inputs()), variables=VARIABLES)
        live = run._live
        with pytest.raises(ValueError, match="was refused"):
            await run.wait()
        assert live is not None
        await live.ended.wait()
        record = await run.record()

    assert record.error is not None
    assert "[REDACTED] was refused" in record.error.message
    assert "broke off" in caplog.text
    assert CALLERS not in caplog.text
    assert_hidden(path)


async def test_the_same_key_finds_the_run_again_whose_inputs_are_sealed(
    make_engine: MakeEngine, shop: Shop, path: Path
) -> None:
    async with make_engine(shop.app, store=path) as engine:
        run = await engine.submit(FLOWS["copied"], [{"pin": PIN}], variables=VARIABLES, key="k")
        await run.wait()

        again = await engine.submit(FLOWS["copied"], [{"pin": PIN}], variables=VARIABLES, key="k")

        assert again.id == run.id
        with pytest.raises(InputInvalidError, match="input 0 differs"):
            await engine.submit(FLOWS["copied"], [{"pin": "other"}], variables=VARIABLES, key="k")
        with pytest.raises(InputInvalidError, match="variables differ"):
            await engine.submit(FLOWS["copied"], [{"pin": PIN}], variables={**VARIABLES, "key": "other"}, key="k")
    assert_hidden(path)


async def test_a_flow_into_which_a_secret_was_written_is_not_stored(
    make_engine: MakeEngine, shop: Shop, path: Path
) -> None:
    inner = {"output": {"$literal": "x"}}

    @shop.app.component("/compose")
    async def compose(values: Any, ctx: Context) -> Any:
        await ctx.run_flow({**inner, "output": {"$literal": f"Bearer {values[0]}"}}, [1])

    async with make_engine(shop.app, store=path) as engine:
        with pytest.raises(RunFailedError, match="flow of a sub-run holds a secret"):
            await engine.run(flow_of(step("/compose"), output={"$step": "s"}), {"pin": PIN}, variables=VARIABLES)
    assert_hidden(path)


async def test_without_a_key_a_sub_run_takes_no_new_secret(
    make_engine: MakeEngine, shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STEPFLOW_SECRET_KEY")
    inner = {"schemas": SCHEMAS, "output": {"$input": "pin"}}
    flow = {
        "steps": [step("/builtin/map", {"workflow": {"$literal": inner}, "items": [{"pin": {"$input": "$"}}]})],
        "output": {"$step": "s", "path": "results"},
    }

    async with make_engine(shop.app, store=path) as engine:
        with pytest.raises(RunFailedError, match="STEPFLOW_SECRET_KEY"):
            await engine.run(flow, "new")
    async with make_engine(shop.app, store=path, secrets="plain") as engine:
        assert "new" in str(await engine.run(flow, "new"))


@pytest.mark.parametrize(("levels", "status"), [(590, RunStatus.COMPLETED), (598, RunStatus.FAILED)])
async def test_a_value_that_is_too_deep_once_it_is_sealed_ends_its_run_and_no_other(
    make_engine: MakeEngine, shop: Shop, path: Path, levels: int, status: RunStatus
) -> None:
    steps = [step("/builtin/noop", {"$variable": "key"}, id="s0")]
    steps += [step("/builtin/noop", [{"$step": f"s{level - 1}"}], id=f"s{level}") for level in range(1, levels + 1)]
    flow = flow_of(*steps, output={"$step": f"s{levels}"})

    async with make_engine(shop.app, store=path) as engine:
        deep = await engine.submit(flow, [{"pin": PIN}], variables=VARIABLES)
        record = await deep.wait()
        other = await engine.run(FLOWS["copied"], {"pin": PIN}, variables=VARIABLES)

    assert record.status is status
    assert other["none"] == 1
    assert_hidden(path)


async def test_an_engine_with_a_malformed_key_says_so_before_anything_is_stored(
    make_engine: MakeEngine, shop: Shop, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPFLOW_SECRET_KEY", "hunter2")

    with pytest.raises(SecretKeyError, match="make one with"):
        make_engine(shop.app, store=path)

    async with make_engine(shop.app) as engine:
        assert await engine.run(FLOWS["copied"], {"pin": PIN}, variables=VARIABLES)


async def test_a_run_without_secrets_has_no_sealer(make_engine: MakeEngine, shop: Shop, path: Path) -> None:
    async with make_engine(shop.app, store=path) as engine:
        run = await engine.submit({"output": {"$input": "$"}}, [{"$sealed": {"env": "HOME"}}])
        live = run._live
        result = await run.result(0) if await run.wait() else None

    assert live is not None
    assert live.sealer is None
    assert result is not None
    assert result.output == {"$sealed": {"env": "HOME"}}
