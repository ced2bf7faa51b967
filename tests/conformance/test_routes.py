"""Routes as a running flow meets them."""

import pytest

from stepflow.components import Components
from stepflow.config import open_engine
from stepflow.errors import RunFailedError
from stepflow.records import ErrorCode

pytestmark = pytest.mark.anyio

SEED = {
    "plugins": {"builtin": {"type": "builtin"}, "workers": {"type": "grpc", "queueName": "default"}},
    "routes": {
        "/ml/{*component}": [{"plugin": "workers", "params": {"queueName": "gpu"}}],
        "/data/{*component}": [{"plugin": "workers", "params": {"queueName": "memory"}}],
        "/python/{*component}": [{"plugin": "workers", "params": {"queueName": "cpu"}}],
        "/{*component}": [{"plugin": "builtin"}],
    },
}


def mocked(name):
    return {
        "type": "mock",
        "components": {"/it": {"behaviors": {key: {"outcome": "success", "result": name} for key in KEYS}}},
    }


KEYS = ['{"size":1}', '{"size":"large"}', '{"other":true}', "7", "7.5"]


@pytest.mark.parametrize("component", ["/builtin/noop", "/noop"])
async def test_builtins_answer_below_the_catch_all_of_the_production_page(one_step, component):
    async with open_engine(SEED) as engine:
        assert await engine.run(one_step(component, input={"$input": "$"}), 7) == 7


async def test_a_step_routed_to_what_is_not_installed_fails_alone_or_takes_its_default(one_step, caplog):
    async with open_engine(SEED) as engine:
        with pytest.raises(RunFailedError) as caught:
            await engine.run(one_step("/ml/embed"))
        default = {"action": "useDefault", "defaultValue": "none"}
        assert await engine.run(one_step("/ml/embed", onError=default)) == "none"

    assert caught.value.code is ErrorCode.UNREACHABLE
    assert "stepflow serve" in caught.value.message


@pytest.mark.parametrize(
    ("input", "answer"),
    [({"size": 1}, "small"), ({"size": 1.0}, "small"), ({"size": "large"}, "large"), ({"other": True}, "rest")],
)
async def test_conditions_look_at_the_input_and_a_missing_path_does_not_hold(one_step, input, answer):
    config = {
        "plugins": {name: mocked(name) for name in ("small", "large", "rest")},
        "routes": {
            "/x": [
                {"plugin": "small", "conditions": [{"path": "$.size", "value": 1}]},
                {"plugin": "large", "conditions": [{"path": "size", "value": "large"}]},
                {"plugin": "rest"},
            ]
        },
    }
    async with open_engine(config) as engine:
        assert await engine.run(one_step("/x/it", input={"$input": "$"}), input) == answer


async def test_a_component_that_is_denied_is_not_found(one_step):
    config = {
        "plugins": {"one": mocked("one"), "two": mocked("two")},
        "routes": {
            "/denied": [{"plugin": "one", "componentDeny": ["/it"]}],
            "/passed": [{"plugin": "one", "componentAllow": ["/else"]}, {"plugin": "two"}],
        },
    }
    async with open_engine(config) as engine:
        with pytest.raises(RunFailedError) as caught:
            await engine.run(one_step("/denied/it", input=7))
        assert await engine.run(one_step("/passed/it", input=7)) == "two"

    assert caught.value.code is ErrorCode.COMPONENT_NOT_FOUND
    assert "/denied" in caught.value.message


@pytest.mark.parametrize("key", ["/ml", "/ml/{*component}"])
async def test_both_forms_hand_on_what_lies_below(one_step, key):
    app = Components()

    @app.component("/embed")
    async def embed(value: int) -> int:
        return -value

    async with open_engine(None, components={"/ml": app}) as mounted:
        assert await mounted.run(one_step("/ml/embed", input=3)) == -3
    config = {"plugins": {"m": mocked("m")}, "routes": {key: [{"plugin": "m"}]}}
    async with open_engine(config) as configured:
        assert await configured.run(one_step("/ml/it", input=7)) == "m"


@pytest.mark.parametrize(("input", "retries"), [("down", 2), ("nobody mocked this", 0)])
async def test_a_mocked_fault_is_retried_and_a_missing_answer_is_not(one_step, input, retries):
    plugin = {"type": "mock", "components": {"/it": {"behaviors": {'"down"': {"error": "the service is down"}}}}}
    config = {
        "plugins": {"m": plugin},
        "routes": {"/": [{"plugin": "m"}]},
        "retry": {"transportMaxRetries": 2, "backoff": {"type": "constant", "delayMs": 0}},
    }
    async with open_engine(config) as engine:
        run = await engine.submit(one_step("/it", input=input), [1])
        await run.wait()
        kinds = [type(event).__name__ async for event in run.events()]

        assert (await run.result(0)).error.code is ErrorCode.UNREACHABLE

    assert kinds.count("StepRetried") == retries
