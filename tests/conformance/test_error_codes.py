"""The table of error codes: what causes each, and how often a step is tried again after it."""

import pytest

from stepflow.errors import PluginUnavailableError, RunFailedError
from stepflow.execution.events import StepDefaulted, StepRetried
from stepflow.execution.verdict import RetrySettings
from stepflow.records import COMPONENT_CODES, TRANSPORT_CODES, ErrorCode

pytestmark = pytest.mark.anyio


async def failure(engine, flow, input=None, **options):
    with pytest.raises(RunFailedError) as caught:
        await engine.run(flow, input, **options)
    return caught.value


@pytest.mark.parametrize("code", list(ErrorCode))
@pytest.mark.parametrize(
    ("on_error", "component_retries"),
    [
        (None, 0),
        ({"action": "fail"}, 0),
        ({"action": "retry"}, 3),
        ({"action": "retry", "maxRetries": 1}, 1),
        ({"action": "retry", "maxRetries": 0}, 0),
    ],
)
async def test_a_code_is_retried_by_its_class(make_engine, seen, one_step, code, on_error, component_retries):
    flow = one_step("/fail", input=code.value, onError=on_error)
    async with make_engine(retry=RetrySettings(transport_max_retries=2)) as engine:
        error = await failure(engine, flow)

    retries = 2 if code in TRANSPORT_CODES else component_retries if code in COMPONENT_CODES else 0
    assert (error.code, error.step) == (code, "it")
    assert seen.attempts == list(range(1, retries + 2))
    assert [retried.attempt for retried in seen.of(StepRetried)] == list(range(1, retries + 1))
    assert len(set(seen.task_ids)) == 1, "a task keeps its id on every attempt"


@pytest.mark.parametrize("code", list(ErrorCode))
async def test_a_default_covers_every_code_once_the_transport_was_retried(make_engine, seen, one_step, code):
    flow = one_step("/fail", input=code.value, onError={"action": "useDefault", "defaultValue": {"$input": "x"}})
    async with make_engine() as engine:
        assert await engine.run(flow) == {"$input": "x"}, "the default is data, not an expression"

    assert len(seen.attempts) == (4 if code in TRANSPORT_CODES else 1)
    assert [event.error.code for event in seen.of(StepDefaulted)] == [code]


@pytest.mark.parametrize("on_error", [{"action": "useDefault"}, {"action": "useDefault", "defaultValue": None}])
async def test_a_default_that_is_not_written_is_null(make_engine, one_step, on_error):
    async with make_engine() as engine:
        assert await engine.run(one_step("/fail", input="COMPONENT_FAILED", onError=on_error)) is None


async def test_no_route_is_an_orchestrator_error_that_names_the_routes(make_engine, seen, one_step):
    routes = {"/only": [{"plugin": "components at /here"}]}
    async with make_engine(routes=routes, plugins={"components at /here": _none}) as engine:
        error = await failure(engine, one_step("echo"))

    assert error.code is ErrorCode.ORCHESTRATOR_ERROR
    assert '"/only"' in error.message
    assert seen.of(StepRetried) == []


async def test_an_unknown_component_is_not_found_and_those_there_are_named_once(make_engine, seen, one_step):
    async with make_engine() as engine:
        own = await failure(engine, one_step("/ecko", onError={"action": "retry"}))
        builtin = await failure(engine, one_step("/builtin/nop"))

    assert own.code is builtin.code is ErrorCode.COMPONENT_NOT_FOUND
    assert 'did you mean "/echo"? (it has: /echo, /fail)' in own.message
    assert 'did you mean "/builtin/noop"?' in builtin.message
    assert "more" not in builtin.message
    assert seen.of(StepRetried) == []


async def test_a_plugin_that_cannot_be_made_is_unreachable_and_not_retried(make_engine, seen, one_step):
    async with make_engine(routes={"/x": [{"plugin": "x"}]}, plugins={"x": _none}) as engine:
        error = await failure(engine, one_step("/x/y"))

    assert error.code is ErrorCode.UNREACHABLE
    assert "pip install 'stepflow-engine[x]'" in error.message
    assert seen.of(StepRetried) == []


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ({"input": {"$input": "missing"}}, ErrorCode.EXPRESSION_FAILURE),
        ({"input": {"$variable": "missing"}}, ErrorCode.EXPRESSION_FAILURE),
        ({"input": {"$variable": "$"}}, ErrorCode.ORCHESTRATOR_ERROR),
        ({"input": {"$variable": "$[0]"}}, ErrorCode.ORCHESTRATOR_ERROR),
    ],
)
async def test_an_input_that_cannot_be_evaluated_is_no_matter_for_on_error(make_engine, seen, one_step, step, code):
    on_error = [{"action": "useDefault", "defaultValue": 1}, {"action": "retry"}]
    async with make_engine() as engine:
        for each in on_error:
            assert (await failure(engine, one_step("/echo", **step, onError=each), {})).code is code

    assert seen.of(StepRetried, StepDefaulted) == []


@pytest.mark.parametrize(
    ("component", "input", "code"),
    [
        ("sleep", {"duration_ms": "long"}, ErrorCode.INVALID_INPUT),
        ("sleep", {"duration_ms": 1.5}, ErrorCode.INVALID_INPUT),
        ("get_blob", {"blob_id": "0" * 64}, ErrorCode.RESOURCE_UNAVAILABLE),
        ("get_blob", {"blob_id": "x"}, ErrorCode.INVALID_INPUT),
        ("eval", {"flow_id": "0" * 64, "input": 1}, ErrorCode.RESOURCE_UNAVAILABLE),
        ("load_file", {"path": "a.json"}, ErrorCode.INVALID_INPUT),
        ("map", {"items": [], "workflow": {"steps": 5}}, ErrorCode.INVALID_INPUT),
        ("iterate", {"initial_input": 1, "flow": {"output": 5}}, ErrorCode.INVALID_INPUT),
        ("put_blob", {"data": 1, "blob_type": "flow"}, ErrorCode.INVALID_INPUT),
        ("create_messages", {}, ErrorCode.INVALID_INPUT),
        ("openai", {"messages": 5}, ErrorCode.INVALID_INPUT),
    ],
)
async def test_a_builtin_names_what_is_wrong_and_is_not_retried(make_engine, seen, one_step, component, input, code):
    async with make_engine() as engine:
        error = await failure(engine, one_step(f"/builtin/{component}", input={"$literal": input}))

    assert error.code is code
    assert seen.of(StepRetried) == []


def _none():
    raise PluginUnavailableError("no plugin of type x is installed; pip install 'stepflow-engine[x]'")
