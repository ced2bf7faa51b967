from types import MappingProxyType

import msgspec
import pytest

from stepflow.errors import InputInvalidError, RunFailedError
from stepflow.flow.identity import canonical_flow
from stepflow.flow.read import read_flow

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "overrides",
    [
        {"it": {"input": 2}},
        {"it": {"value": {"input": 2}}},
        {"steps": {"it": {"value": {"input": 2}}}},
        {"steps": {"it": {"$type": "merge_patch", "value": {"input": 2.0}}}},
    ],
)
async def test_either_form_patches_the_step(make_engine, one_step, overrides):
    async with make_engine() as engine:
        assert await engine.run(one_step("/echo", input=1), overrides=overrides) == 2


@pytest.mark.parametrize("overrides", [None, {}, {"steps": {}}, {"steps": None}])
async def test_nothing_is_an_override_too(make_engine, one_step, overrides):
    async with make_engine() as engine:
        assert await engine.run(one_step("/echo", input=1), overrides=overrides) == 1


@pytest.mark.parametrize("overrides", [[], 0, "", False, {"steps": {}, "more": object()}, {"it": {"input": {1, 2j}}}])
async def test_what_is_no_object_of_json_is_refused_and_leaves_no_record(make_engine, one_step, overrides):
    async with make_engine() as engine:
        with pytest.raises(InputInvalidError, match="overrides"):
            await engine.run(one_step("/echo", input=1), overrides=overrides)

        assert await engine.list_runs() == []


async def test_the_flow_that_is_stored_is_the_one_before_the_patch(make_engine, one_step):
    flow = one_step("/echo", input=1)
    async with make_engine() as engine:
        run = await engine.submit(flow, [None], overrides={"it": {"input": 2}})
        await run.wait()
        stored = await engine.backend.blobs.get(run.flow_id)

    assert stored is not None
    assert stored.content.decode() == canonical_flow(read_flow(flow))
    assert msgspec.json.decode(stored.content)["steps"][0]["input"] == 1


async def test_a_failure_of_a_patched_step_names_the_step(make_engine, one_step):
    async with make_engine() as engine:
        with pytest.raises(RunFailedError) as caught:
            await engine.run(one_step("/echo", input="COMPONENT_FAILED"), overrides={"it": {"component": "/fail"}})

    assert caught.value.step == "it"


async def test_variables_may_be_any_mapping(make_engine):
    async with make_engine() as engine:
        assert await engine.run({"output": {"$variable": "who"}}, variables=MappingProxyType({"who": "me"})) == "me"
