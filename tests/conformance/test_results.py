"""Items, their results and counts: while the run goes on, at its end, and where it ends early."""

import anyio
import pytest

from stepflow.errors import RunFailedError
from stepflow.execution.events import ItemEnded, StepStarted
from stepflow.records import ErrorCode, RunStatus

pytestmark = pytest.mark.anyio

SLEEPS = {
    "steps": [{"id": "s", "component": "/builtin/sleep", "input": {"duration_ms": {"$input": "$"}, "passthrough": 1}}],
    "output": {"$step": "s", "path": "duration_ms"},
}
LONG = 1_000_000


async def endless(*inputs):
    for input in inputs:
        yield input
    await anyio.sleep_forever()


def counts(record):
    return (record.status, record.total, record.succeeded, record.failed)


async def all_of(run, order="item"):
    return [
        (result.index, result.output if result.ok else result.error.code) async for result in run.results(order=order)
    ]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_run_that_ends_at_its_deadline_has_a_result_for_each_item(make_engine, is_streamed):
    inputs = [1, LONG, 5]
    async with make_engine() as engine:
        run = await engine.submit(SLEEPS, endless(*inputs) if is_streamed else inputs, deadline_s=10)
        record = await run.wait()

        assert counts(record) == (RunStatus.FAILED, 3, 2, 1)
        assert await all_of(run) == [(0, 1), (1, ErrorCode.TIMEOUT), (2, 5)]
        assert sorted(await all_of(run, "completion")) == [(0, 1), (1, ErrorCode.TIMEOUT), (2, 5)]


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_run_that_is_cancelled_keeps_what_was_done_and_stays_so(make_engine, is_streamed):
    inputs = [1, LONG, 5]
    async with make_engine() as engine:
        run = await engine.submit(SLEEPS, endless(*inputs) if is_streamed else inputs)
        seen = []
        async for result in run.results(order="completion"):
            seen.append(result.index)
            if len(seen) == 2:
                await engine.cancel(run.id)
        first = await run.record()
        await engine.cancel(run.id)
        record = await run.record()

        assert counts(record) == (RunStatus.CANCELLED, 3, 2, 0)
        assert record == first
        assert seen == [0, 2, 1]
        assert await all_of(run) == [(0, 1), (1, ErrorCode.CANCELLED), (2, 5)]


async def test_cancelling_what_has_ended_changes_nothing(make_engine):
    async with make_engine() as engine:
        run = await engine.submit(SLEEPS, [1])
        record = await run.wait()
        await run.cancel()

        assert await run.record() == record
        assert record.status is RunStatus.COMPLETED


async def test_results_are_there_while_the_run_goes_on(make_engine):
    async with make_engine() as engine:
        run = await engine.submit(SLEEPS, [30, 10, 20])
        seen = []
        async for result in run.results(order="completion"):
            record = await run.record()
            seen.append((result.index, record.succeeded, record.status.is_terminal))

    assert [index for index, _, _ in seen] == [1, 2, 0]
    assert [(done, over) for _, done, over in seen[:2]] == [(1, False), (2, False)]


async def test_one_failed_item_fails_the_run_and_no_other_item(make_engine, seen):
    async with make_engine() as engine:
        run = await engine.submit({"output": {"$input": "a"}}, [{"a": 1}, {}, {"a": None}])
        record = await run.wait()

        assert counts(record) == (RunStatus.FAILED, 3, 2, 1)
        assert record.error is None, "the run itself came to its end"
        assert await all_of(run) == [(0, 1), (1, ErrorCode.EXPRESSION_FAILURE), (2, None)]

    assert sorted(event.item for event in seen.of(ItemEnded)) == [0, 1, 2]


async def test_no_items_are_a_completed_run_of_none(make_engine, seen):
    async with make_engine() as engine:
        run = await engine.submit(SLEEPS, [])

        assert counts(await run.wait()) == (RunStatus.COMPLETED, 0, 0, 0)
        assert await all_of(run) == []


@pytest.mark.parametrize("input", [None, True, 0, 1.5, "", "x", [], [None], {}, {"a": {"b": [1]}}])
async def test_any_json_is_an_input(make_engine, input):
    async with make_engine() as engine:
        assert await engine.run({"output": {"$input": "$"}}, input) == input


async def test_a_failed_step_that_the_output_does_not_need_fails_nobody(make_engine, seen, one_step):
    flow = {**one_step("/fail", input="COMPONENT_FAILED", mustExecute=True), "output": "fine"}
    async with make_engine() as engine:
        run = await engine.submit(flow, [1, 2])

        assert counts(await run.wait()) == (RunStatus.COMPLETED, 2, 2, 0)

    assert len(seen.of(StepStarted)) == 2


async def test_without_an_output_only_what_must_run_runs(make_engine, seen):
    steps = [
        {"id": "free", "component": "/echo", "input": 1},
        {"id": "needed", "component": "/echo", "input": 2},
        {"id": "must", "component": "/echo", "input": {"$step": "needed"}, "mustExecute": True},
    ]
    async with make_engine() as engine:
        assert await engine.run({"steps": steps}) is None

    assert [event.step for event in seen.of(StepStarted)] == [1, 2]


async def test_a_failure_says_which_step_it_came_from(make_engine):
    steps = [
        {"id": "first", "component": "/fail", "input": "INVALID_INPUT"},
        {"id": "second", "component": "/echo", "input": {"$step": "first"}},
    ]
    async with make_engine() as engine:
        with pytest.raises(RunFailedError) as caught:
            await engine.run({"steps": steps, "output": {"$step": "second"}})

    assert (caught.value.step, caught.value.code) == ("first", ErrorCode.INVALID_INPUT)
    assert caught.value.data == {"exception_type": "ComponentError"}
