"""Back-off, budgets, time-outs and deadlines, their numbers written down or taken from variables."""

from itertools import pairwise

import anyio
import pytest

from stepflow.components import Context
from stepflow.errors import ComponentError, InputInvalidError, RetryAfter, RunFailedError
from stepflow.execution.events import StepDefaulted, StepRetried, StepStarted
from stepflow.execution.verdict import BackoffPolicy, RetrySettings
from stepflow.records import ErrorCode, RunStatus

pytestmark = pytest.mark.anyio

TABLE = [
    ({"type": "constant"}, [1, 1, 1, 1, 1, 1, 1, 1]),
    ({"type": "constant", "delayMs": 250}, [0.25] * 8),
    ({"type": "exponential"}, [1, 2, 4, 8, 10, 10, 10, 10]),
    ({"type": "exponential", "minDelayMs": 100, "maxDelayMs": 1_000, "factor": 3}, [0.1, 0.3, 0.9, 1, 1, 1, 1, 1]),
    ({"type": "fibonacci"}, [1, 1, 2, 3, 5, 8, 10, 10]),
    ({"type": "fibonacci", "minDelayMs": 200, "maxDelayMs": 900}, [0.2, 0.2, 0.4, 0.6, 0.9, 0.9, 0.9, 0.9]),
]


def within(delays, ceilings):
    return len(delays) == len(ceilings) and all(
        ceiling / 2 <= delay <= ceiling for delay, ceiling in zip(delays, ceilings, strict=True)
    )


@pytest.mark.parametrize(("backoff", "ceilings"), TABLE)
async def test_a_step_waits_as_its_back_off_says(make_engine, seen, one_step, backoff, ceilings):
    on_error = {"action": "retry", "maxRetries": 8, "backoff": backoff}
    async with make_engine() as engine:
        with pytest.raises(RunFailedError):
            await engine.run(one_step("/fail", input="COMPONENT_FAILED", onError=on_error))

    assert within([retried.delay_s for retried in seen.of(StepRetried)], ceilings)
    waited = [later.at - earlier.at for earlier, later in pairwise(seen.of(StepStarted))]
    drawn = [round(retried.delay_s * 1_000) for retried in seen.of(StepRetried)]
    assert all(abs(took - delay) <= 1 for took, delay in zip(waited, drawn, strict=True))


async def test_without_one_the_engines_back_off_holds(make_engine, seen, one_step):
    settings = RetrySettings(backoff=BackoffPolicy(type="constant", delay_ms=60_000))
    async with make_engine(retry=settings) as engine:
        with pytest.raises(RunFailedError):
            await engine.run(one_step("/fail", input="COMPONENT_FAILED", onError={"action": "retry"}))
        with pytest.raises(RunFailedError):
            await engine.run(one_step("/fail", input="TIMEOUT"))

    assert within([retried.delay_s for retried in seen.of(StepRetried)], [60] * 6)


async def test_the_numbers_may_come_from_variables(make_engine, seen, one_step):
    flow = one_step(
        "/fail",
        input="COMPONENT_FAILED",
        onError={
            "action": "retry",
            "maxRetries": {"$variable": "$.retry.times"},
            "backoff": {"type": "constant", "delayMs": {"$variable": "pause", "default": 500}},
        },
    )
    async with make_engine() as engine:
        with pytest.raises(RunFailedError):
            await engine.run(flow, variables={"retry": {"times": 2.0}})

    assert within([retried.delay_s for retried in seen.of(StepRetried)], [0.5, 0.5])


@pytest.mark.parametrize("value", ["many", -1, 1.5, None, True, [3]])
@pytest.mark.parametrize("validation", ["strict", "warn", "off"])
async def test_a_number_that_makes_no_sense_refuses_the_run(make_engine, one_step, value, validation):
    flow = one_step("/echo", onError={"action": "retry", "maxRetries": {"$variable": "times"}})
    async with make_engine() as engine:
        with pytest.raises(InputInvalidError, match='step "it", onError.maxRetries'):
            await engine.run(flow, variables={"times": value}, validation=validation)
        with pytest.raises(InputInvalidError, match="times"):
            await engine.run(flow, validation=validation)

        assert await engine.list_runs() == []


async def test_each_class_of_failure_has_a_budget_of_its_own(make_engine, app, seen, one_step):
    outcomes = iter(["TIMEOUT", "COMPONENT_FAILED", "UNREACHABLE", "RESOURCE_UNAVAILABLE", "TIMEOUT", None])

    @app.component("/moody")
    async def moody(value: object) -> str:
        code = next(outcomes)
        if code is not None:
            raise ComponentError("moody", code=ErrorCode(code))
        return "done"

    async with make_engine() as engine:
        assert await engine.run(one_step("/moody", onError={"action": "retry", "maxRetries": 2})) == "done"

    assert [started.attempt for started in seen.of(StepStarted)] == [1, 2, 3, 4, 5, 6]


async def test_retry_after_sets_the_delay_and_not_the_right(make_engine, app, seen, one_step):
    @app.component("/limited")
    async def limited(value: object, ctx: Context) -> str:
        if ctx.attempt == 1:
            raise RetryAfter(36_000)
        return "done"

    async with make_engine() as engine:
        assert await engine.run(one_step("/limited", onError={"action": "retry"})) == "done"
        with pytest.raises(RunFailedError):
            await engine.run(one_step("/limited"))

    assert [retried.delay_s for retried in seen.of(StepRetried)] == [36_000]


@pytest.mark.parametrize("timeout", [2, 0.5, {"$variable": "patience"}, {"$variable": "other", "default": 2}])
async def test_a_time_out_holds_for_each_attempt_and_is_retried_before_a_default(
    make_engine, app, seen, one_step, timeout
):
    @app.component("/slow")
    async def slow(value: object, ctx: Context) -> None:
        seen.attempts.append(ctx.attempt)
        await anyio.sleep(1_000)

    flow = one_step("/slow", timeout=timeout, onError={"action": "useDefault", "defaultValue": "late"})
    async with make_engine() as engine:
        assert await engine.run(flow, variables={"patience": 1.5}) == "late"

    assert seen.attempts == [1, 2, 3, 4]
    assert seen.of(StepDefaulted)[0].error.code is ErrorCode.TIMEOUT


@pytest.mark.parametrize("value", ["soon", 0, -1, None])
async def test_a_time_out_that_is_no_time_refuses_the_run(make_engine, one_step, value):
    async with make_engine() as engine:
        with pytest.raises(InputInvalidError, match='step "it", timeout'):
            await engine.run(one_step("/echo", timeout={"$variable": "t"}), variables={"t": value})

        assert await engine.list_runs() == []


async def test_a_run_ends_at_its_deadline_with_what_was_done(make_engine, one_step):
    flow = one_step("/builtin/sleep", input={"duration_ms": {"$input": "$"}, "passthrough": 1})
    async with make_engine() as engine:
        run = await engine.submit(flow, [1_000, 100_000], deadline_s=50)
        record = await run.wait()
        results = [result async for result in run.results()]

    assert (record.status, record.error.code, record.ended_at - record.created_at) == (
        RunStatus.FAILED,
        ErrorCode.TIMEOUT,
        50,
    )
    assert [result.ok for result in results] == [True, False]
    assert results[1].error.code is ErrorCode.TIMEOUT


async def test_an_inherited_failure_is_told_once_and_dispatches_nothing(make_engine, seen):
    retry = {"action": "retry", "maxRetries": 5}
    steps = [{"id": "a", "component": "/fail", "input": "COMPONENT_FAILED"}]
    steps += [
        {"id": name, "component": "/echo", "input": {"$step": before}, "onError": retry}
        for before, name in pairwise("abc")
    ]
    async with make_engine() as engine:
        with pytest.raises(RunFailedError) as caught:
            await engine.run({"steps": steps, "output": {"$step": "c"}})

    assert (caught.value.step, caught.value.message) == ("a", "COMPONENT_FAILED, as asked")
    assert [(started.step, started.attempt) for started in seen.of(StepStarted)] == [(0, 1), (1, 1), (2, 1)]
    assert seen.of(StepRetried) == []
