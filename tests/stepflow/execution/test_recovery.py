"""A run that was cut off at any commit ends as if it had not been, and no recorded step runs twice."""

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.errors import ComponentError
from stepflow.execution.events import StepSucceeded, decode_events
from stepflow.execution.recovery import Recovery
from stepflow.execution.verdict import RetrySettings
from stepflow.records import RunStatus, Verdict, Write
from stepflow.stores.memory import MemoryBackend

pytestmark = pytest.mark.anyio

MakeEngine = Callable[..., Engine]

SEQUENCE = {
    "steps": [
        {"id": "a", "component": "/work", "input": {"$input": "$"}},
        {"id": "b", "component": "/work", "input": {"$step": "a"}},
        {"id": "c", "component": "/work", "input": {"$step": "b"}},
    ],
    "output": {"$step": "c"},
}
DIAMOND = {
    "steps": [
        {"id": "top", "component": "/work", "input": {"$input": "$"}},
        {"id": "left", "component": "/work", "input": {"$step": "top"}},
        {"id": "right", "component": "/work", "input": {"$if": {"$step": "top"}, "then": {"$step": "top"}}},
        {"id": "end", "component": "/work", "input": [{"$step": "left"}, {"$step": "right"}]},
    ],
    "output": {"$if": {"$step": "end"}, "then": {"$step": "end"}},
}
RETRIED = {
    "steps": [
        {
            "id": "flaky",
            "component": "/flaky",
            "input": {"$input": "$"},
            "onError": {"action": "retry", "maxRetries": 9, "backoff": {"type": "constant", "delayMs": 10}},
        }
    ],
    "output": {"$step": "flaky"},
}
INNER = {"steps": [{"id": "i", "component": "/work", "input": {"$input": "$"}}], "output": {"$step": "i"}}
NESTED = {
    "steps": [
        {"id": "m", "component": "/builtin/map", "input": {"workflow": {"$literal": INNER}, "items": [7, 8]}},
        {"id": "last", "component": "/work", "input": {"$step": "m", "path": "successful"}},
    ],
    "output": {"$step": "last"},
}
FLOWS = {
    "sequence": (SEQUENCE, [1, 2]),
    "diamond": (DIAMOND, [1, True]),
    "retried": (RETRIED, [1]),
    "nested": (NESTED, [0]),
}


class Cut(MemoryBackend):
    """A store whose engine dies before or after a certain commit: from then on nothing is answered."""

    def __init__(self, *, at: int | None = None, after: bool = False) -> None:
        super().__init__(keep_events=True)
        self.left = at
        self.after = after
        self.died = anyio.Event()

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        if self.left == 0:
            if self.after:
                await super().commit(writes)
            self.died.set()
            await anyio.sleep_forever()
        if self.left is not None:
            self.left -= 1
        return await super().commit(writes)


def working(store: MemoryBackend, twice: list[str]) -> Components:
    """Components that notice when a step runs whose success was recorded."""
    app = Components()

    @app.component("/work")
    async def work(value: Any, ctx: Context) -> Any:
        await check(ctx)
        return value

    @app.component("/flaky")
    async def flaky(value: Any, ctx: Context) -> Any:
        await check(ctx)
        if ctx.attempt < 3:
            raise ComponentError("not yet")
        return value

    async def check(ctx: Context) -> None:
        events = [event for row in await store.read(ctx.run_id) for event in decode_events(row.payload)]
        ended = {(event.item, steps(ctx)[event.step]) for event in events if isinstance(event, StepSucceeded)}
        if (ctx.item, ctx.step_id) in ended:
            twice.append(f"{ctx.run_id} {ctx.item} {ctx.step_id}")

    def steps(ctx: Context) -> list[str]:
        for flow, _ in FLOWS.values():
            ids = [step["id"] for step in flow["steps"]]
            if ctx.step_id in ids:
                return ids
        return ["i"]

    return app


async def outputs(engine: Engine) -> list[Any]:
    (record,) = await engine.list_runs()
    run = await engine.get_run(record.id)
    await run.wait()
    return [(result.index, result.output) async for result in run.results()]


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_ends_the_same_wherever_it_was_cut(make_engine: MakeEngine, name: str, after: bool) -> None:
    flow, inputs = FLOWS[name]
    twice: list[str] = []
    whole = Cut()
    async with make_engine(working(whole, twice), store=whole) as engine:
        await engine.submit(flow, inputs)
        expected = await outputs(engine)

    cuts = 0
    while True:
        store = Cut(at=cuts, after=after)
        async with make_engine(working(store, twice), store=store) as engine, anyio.create_task_group() as tasks:
            tasks.start_soon(_submit, engine, flow, inputs)
            with anyio.move_on_after(1_000):
                await store.died.wait()
            tasks.cancel_scope.cancel()
        if not store.died.is_set():
            break
        store.left = None
        async with make_engine(working(store, twice), store=store) as engine:
            if await engine.list_runs():
                assert await outputs(engine) == expected, f"cut at commit {cuts}"
        cuts += 1

    assert cuts >= 3
    assert twice == []


async def _submit(engine: Engine, flow: Any, inputs: Any) -> None:
    run = await engine.submit(flow, inputs)
    await run.wait()


async def test_a_sub_run_is_found_again_and_not_doubled(make_engine: MakeEngine) -> None:
    for cut in range(1, 5):
        store = Cut(at=cut)
        async with make_engine(working(store, []), store=store) as engine, anyio.create_task_group() as tasks:
            tasks.start_soon(_submit, engine, *FLOWS["nested"])
            with anyio.move_on_after(1_000):  # steps that end together may share commits: then it ends uncut
                await store.died.wait()
            tasks.cancel_scope.cancel()
        store.left = None
        async with make_engine(working(store, []), store=store) as engine:
            await outputs(engine)
            children = [record for record in await store.list() if record.parent is not None]

        assert len(children) == 1, f"cut at commit {cut}"


async def test_attempts_go_on_where_they_were(make_engine: MakeEngine) -> None:
    store, app, seen = MemoryBackend(), Components(), []
    started = anyio.Event()

    @app.component("/hang")
    async def hang(value: Any, ctx: Context) -> Any:
        seen.append(ctx.attempt)
        started.set()
        if ctx.attempt == 1:
            await anyio.sleep_forever()
        return ctx.attempt

    flow = {
        "steps": [
            {"id": "first", "component": "/builtin/noop", "input": 1},
            {"id": "h", "component": "/hang", "input": {"$step": "first"}},
            {"id": "other", "component": "/builtin/sleep", "input": {"duration_ms": 5}, "mustExecute": True},
        ],
        "output": {"$step": "h"},
    }
    async with make_engine(app, store=store) as engine:
        run = await engine.submit(flow, [None], deadline_s=500_000)
        await started.wait()
        await anyio.sleep(10)
    async with make_engine(app, store=store) as engine:
        again = await engine.get_run(run.id)
        record = await again.wait()
        outputs = [result.output async for result in again.results()]

    assert record.status is RunStatus.COMPLETED
    assert seen == [1, 2]
    assert outputs == [2]


async def test_a_step_that_kills_its_engine_is_given_up_by_name(make_engine: MakeEngine) -> None:
    store, app, starts = MemoryBackend(), Components(), []

    @app.component("/deadly")
    async def deadly(value: Any) -> Any:
        starts.append(value)
        await anyio.sleep_forever()

    flow = {"steps": [{"id": "poison", "component": "/deadly"}], "output": {"$step": "poison"}}
    settings = RetrySettings(recovery_max=2)
    async with make_engine(app, store=store, retry=settings) as engine:
        run = await engine.submit(flow, [None])
        await anyio.sleep(10)
    for _ in range(4):
        async with make_engine(app, store=store, retry=settings) as engine:
            await anyio.sleep(10)
            record = await engine.get(run.id)
            result = await (await engine.get_run(run.id)).result(0) if record.status.is_terminal else None

    assert record.status is RunStatus.FAILED
    assert result is not None
    assert result.error is not None
    assert 'step "poison" was running 3 times' in result.error.message
    assert len(starts) == 3


async def test_a_run_that_cannot_be_read_is_put_aside_and_blocks_nobody(make_engine: MakeEngine) -> None:
    store, app = MemoryBackend(), Components()

    @app.component("/hang")
    async def hang(value: Any, ctx: Context) -> Any:
        if ctx.attempt == 1:
            await anyio.sleep_forever()
        return value

    flows = [
        {"name": name, "steps": [{"id": "h", "component": "/hang", "input": name}], "output": {"$step": "h"}}
        for name in ("lost", "kept")
    ]
    async with make_engine(app, store=store) as engine:
        lost, kept = [await engine.submit(flow, [None]) for flow in flows]
        await anyio.sleep(1)
    del store.blobs._blobs[lost.flow_id]
    async with make_engine(app, store=store) as engine:
        record = await (await engine.get_run(kept.id)).wait()
        not_yet = await engine.get(lost.id)
        aside = await (await engine.get_run(lost.id)).wait()

    assert record.status is RunStatus.COMPLETED
    assert not_yet.status is RunStatus.RUNNING
    assert aside.status is RunStatus.RECOVERY_FAILED
    assert aside.error is not None
    assert "is not stored" in aside.error.message


@pytest.mark.parametrize(("is_sealed", "is_told"), [(False, True), (True, False)])
async def test_why_a_run_with_secrets_is_put_aside_is_told_without_what_the_error_says(
    make_engine: MakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    is_sealed: bool,
    is_told: bool,
) -> None:
    store, app = MemoryBackend(), Components()

    @app.component("/hang")
    async def hang(value: Any) -> Any:
        await anyio.sleep_forever()

    async def broken(self: Recovery, *args: Any) -> Any:
        raise ValueError("tell-tale-41")

    async with make_engine(app, store=store) as engine:
        run = await engine.submit({"steps": [{"id": "h", "component": "/hang"}], "output": {"$step": "h"}}, [None])
        await anyio.sleep(1)
    row = store._tables.runs[run.id]
    row.record = replace(row.record, is_sealed=is_sealed)
    monkeypatch.setattr(Recovery, "_restored", broken)
    async with make_engine(app, store=store) as engine:
        aside = await (await engine.get_run(run.id)).wait()

    assert aside.status is RunStatus.RECOVERY_FAILED
    assert "ValueError" in aside.error.message  # type: ignore[union-attr]
    assert ("tell-tale-41" in aside.error.message) is is_told  # type: ignore[union-attr]
    assert ("tell-tale-41" in caplog.text) is is_told


async def test_outputs_and_secrets_are_guarded_after_a_recovery_too(make_engine: MakeEngine) -> None:
    store, app = MemoryBackend(), Components()

    @app.component("/leak")
    async def leak(value: Any, ctx: Context) -> Any:
        if ctx.attempt == 1:
            await anyio.sleep_forever()
        if ctx.item == 0:
            raise ComponentError(f"{value} was refused")
        return "no number"

    flow = {
        "schemas": {
            "properties": {
                "output": {"type": "integer"},
                "variables": {"properties": {"key": {"type": "string", "is_secret": True}}},
            }
        },
        "steps": [{"id": "l", "component": "/leak", "input": {"$variable": "key"}}],
        "output": {"$step": "l"},
    }
    async with make_engine(app, store=store, output_validation="strict") as engine:
        run = await engine.submit(flow, [0, 1], variables={"key": "hunter2-hunter2"})
        await anyio.sleep(10)
    async with make_engine(app, store=store, output_validation="strict") as engine:
        again = await engine.get_run(run.id)
        await again.wait()
        errors = [result.error.message async for result in again.results() if result.error is not None]

    assert errors[0] == "[REDACTED] was refused"
    assert "output schema" in errors[1]
