import pytest

from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.records import ErrorCode, Failed, Succeeded

MISSING = "ab" * 32


async def stored(host):
    return await host.blobs.put(b"{}")


@pytest.mark.anyio
async def test_the_result_carries_the_id_of_the_sub_run(host, task):
    flow_id = await stored(host)

    outcome = await BuiltinPlugin().perform(task("/eval", {"flow_id": flow_id.upper(), "input": 7}), host)

    assert outcome == Succeeded({"result": {"outcome": "success", "result": 7}, "run_id": "sub-run 1"})
    assert host.submitted[0]["flow"] == flow_id
    assert host.submitted[0]["inputs"] == [7]


@pytest.mark.anyio
async def test_an_inner_failure_is_data_without_backtraces(host, task):
    cause = {"stack": [{"error": "deep", "backtrace": "0x1"}], "details": {"n": 1}, "traceback": "Traceback …"}
    host.answer = lambda input: Failed(ErrorCode.COMPONENT_FAILED, "broke", cause)

    outcome = await BuiltinPlugin().perform(task("/eval", {"flow_id": await stored(host), "input": None}), host)

    assert isinstance(outcome, Succeeded)
    assert outcome.output["result"] == {
        "outcome": "failed",
        "error": {
            "code": "COMPONENT_FAILED",
            "message": "broke",
            "data": {"stack": [{"error": "deep"}], "details": {"n": 1}},
        },
    }


@pytest.mark.anyio
async def test_variables_and_overrides_are_handed_on(host, task):
    overrides = {"steps": {}}
    input = {"flow_id": await stored(host), "input": 1, "variables": {"limit": 3}, "overrides": overrides}

    await BuiltinPlugin().perform(task("/eval", input), host)

    assert host.submitted[0]["variables"] == {"limit": 3}
    assert host.submitted[0]["overrides"] == overrides


@pytest.mark.anyio
async def test_the_key_is_the_same_on_every_attempt(host, task):
    input = {"flow_id": await stored(host), "input": 1}

    for _ in range(2):
        await BuiltinPlugin().perform(task("/eval", input), host)

    assert host.submitted[0]["key"] == host.submitted[1]["key"] == "eval"


@pytest.mark.anyio
async def test_a_missing_flow_is_an_unavailable_resource(host, task):
    outcome = await BuiltinPlugin().perform(task("/eval", {"flow_id": MISSING, "input": 1}), host)

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.RESOURCE_UNAVAILABLE
    assert MISSING in outcome.message
