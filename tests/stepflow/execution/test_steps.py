"""What comes of one step's attempts."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from echoing import echo

from stepflow.components import Components, Context
from stepflow.engine import Engine
from stepflow.errors import PluginUnavailableError, ResourceUnavailableError, RunFailedError
from stepflow.execution.events import (
    StepDefaulted,
    StepFailed,
    StepRetried,
    StepStarted,
    StepSucceeded,
)
from stepflow.execution.verdict import BackoffPolicy, RetrySettings
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.records import ErrorCode, Failed, Succeeded

pytestmark = pytest.mark.anyio

MakeEngine = Callable[..., Engine]
Chained = Callable[..., dict[str, Any]]


async def test_a_component_failure_is_retried_as_often_as_the_step_asks(
    make_engine: MakeEngine, chained: Chained, events: Any
) -> None:
    app = Components()

    @app.component("/broken")
    async def broken(value: int) -> int:
        raise ResourceUnavailableError("not there")

    async with make_engine(app) as engine:
        with pytest.raises(RunFailedError) as failure:
            await engine.run(chained("/broken", on_error={"action": "retry", "maxRetries": 2}), 1)

    assert failure.value.code is ErrorCode.RESOURCE_UNAVAILABLE
    assert failure.value.step == "s0"
    assert [event.attempt for event in events.of(StepStarted)] == [1, 2, 3]
    assert len(events.of(StepRetried)) == 2


async def test_delays_grow_and_are_drawn_within_their_ceiling(
    make_engine: MakeEngine, chained: Chained, events: Any
) -> None:
    app = Components()

    @app.component("/broken")
    async def broken(value: int) -> int:
        raise ValueError("no")

    settings = RetrySettings(backoff=BackoffPolicy(type="exponential", min_delay_ms=1_000, max_delay_ms=3_000))
    async with make_engine(app, retry=settings) as engine:
        run = await engine.submit(chained("/broken", on_error={"action": "retry", "maxRetries": 4}), [1])
        await run.wait()

    for event, ceiling in zip(events.of(StepRetried), (1, 2, 3, 3), strict=True):
        assert ceiling / 2 <= event.delay_s <= ceiling


async def test_a_default_takes_the_place_of_a_failure(make_engine: MakeEngine, chained: Chained, events: Any) -> None:
    app = Components()

    @app.component("/broken")
    async def broken(value: int) -> int:
        raise ValueError("no")

    async with make_engine(app) as engine:
        output = await engine.run(chained("/broken", on_error={"action": "useDefault", "defaultValue": [7]}), 1)

    assert output == [7]
    assert events.of(StepDefaulted)[0].error.message == "no"


async def test_a_default_covers_an_unroutable_step(make_engine: MakeEngine, chained: Chained) -> None:
    async with make_engine(echo()) as engine:
        output = await engine.run(chained("/nobody/home", on_error={"action": "useDefault", "defaultValue": 1}))

    assert output == 1


async def test_a_default_does_not_cover_the_failure_of_its_own_input(make_engine: MakeEngine) -> None:
    step = {"id": "a", "component": "/echo", "input": {"$input": "missing"}, "onError": {"action": "useDefault"}}

    async with make_engine(echo()) as engine:
        with pytest.raises(RunFailedError) as failure:
            await engine.run({"steps": [step], "output": {"$step": "a"}}, {})

    assert failure.value.code is ErrorCode.EXPRESSION_FAILURE


async def test_an_inherited_failure_is_never_retried(make_engine: MakeEngine, events: Any) -> None:
    app = Components()

    @app.component("/broken")
    async def broken(value: Any) -> Any:
        raise ValueError("no")

    steps = [
        {"id": "a", "component": "/broken", "input": 1},
        {"id": "b", "component": "/broken", "input": {"$step": "a"}, "onError": {"action": "retry"}},
    ]
    async with make_engine(app) as engine:
        with pytest.raises(RunFailedError):
            await engine.run({"steps": steps, "output": {"$step": "b"}})

    assert events.of(StepRetried) == []
    assert [event.error.message for event in events.of(StepFailed)] == ["no", "no"]


async def test_a_step_times_out_on_each_attempt_and_is_retried(
    make_engine: MakeEngine, chained: Chained, events: Any
) -> None:
    app = Components()

    @app.component("/slow")
    async def slow(value: Any, ctx: Context) -> Any:
        await anyio.sleep(100 if ctx.attempt < 3 else 1)
        return ctx.attempt

    flow = chained("/slow")
    flow["steps"][0]["timeout"] = {"$variable": "patience"}
    async with make_engine(app) as engine:
        output = await engine.run(flow, 1, variables={"patience": 5})

    assert output == 3
    assert [event.error.code for event in events.of(StepRetried)] == [ErrorCode.TIMEOUT] * 2


async def test_a_plugin_that_is_not_there_fails_only_the_step_routed_to_it(
    make_engine: MakeEngine, events: Any
) -> None:
    def missing() -> Any:
        raise PluginUnavailableError("no plugin of type grpc: pip install 'stepflow-engine[grpc]'")

    routes = {"/gpu": [{"plugin": "gpu"}], "/builtin": [{"plugin": "builtin"}]}
    steps = [
        {"id": "far", "component": "/gpu/x", "mustExecute": True},
        {"id": "near", "component": "/builtin/noop", "input": 5},
    ]
    engine = make_engine(Components(), plugins={"gpu": missing, "builtin": BuiltinPlugin()}, routes=routes)
    async with engine:
        output = await engine.run({"steps": steps, "output": {"$step": "near"}})
        again = await engine.run({"steps": steps, "output": {"$step": "near"}})

    failed, _ = events.of(StepFailed)
    assert output == again == 5
    assert failed.error.code is ErrorCode.UNREACHABLE
    assert "stepflow-engine[grpc]" in failed.error.message
    assert events.of(StepRetried) == []


async def test_the_time_in_a_queue_is_recorded_with_the_outcome_that_it_led_to(
    make_engine: MakeEngine, chained: Chained, events: Any
) -> None:
    class Queued(BuiltinPlugin):
        async def perform(self, task: Any, host: Any) -> Any:
            if task.attempt < 3:
                host.queued(task, task.attempt / 1_000 + 0.0001)
            return Succeeded(1) if task.attempt == 3 else Failed(ErrorCode.COMPONENT_FAILED, "again")

    plugins = {"b": Queued()}
    async with make_engine(Components(), plugins=plugins, routes={"/builtin": [{"plugin": "b"}]}) as engine:
        flow = chained("/builtin/noop", on_error={"action": "retry", "maxRetries": 2})
        assert await engine.run(flow) == 1

    assert [event.queued for event in events.of(StepRetried)] == [2, 3]  # no millisecond is begun in vain
    assert [event.queued for event in events.of(StepSucceeded)] == [0]


async def test_a_bug_in_a_plugin_is_a_failure_of_its_step(make_engine: MakeEngine, chained: Chained) -> None:
    class Buggy(BuiltinPlugin):
        async def perform(self, task: Any, host: Any) -> Any:
            raise ZeroDivisionError("oops")

    async with make_engine(Components(), plugins={"b": Buggy()}, routes={"/builtin": [{"plugin": "b"}]}) as engine:
        with pytest.raises(RunFailedError, match="oops") as failure:
            await engine.run(chained("/builtin/noop"))

    assert failure.value.code is ErrorCode.ORCHESTRATOR_ERROR
