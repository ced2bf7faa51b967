import pytest

from stepflow.errors import FlowInvalidError, Problem
from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.records import ErrorCode, Failed, Succeeded

FLOW = {"output": {"$input": "$"}}


@pytest.mark.anyio
async def test_each_item_has_its_result_in_order_and_failures_are_counted(host, task):
    host.answer = lambda input: Succeeded(input * 2) if input else Failed(ErrorCode.INVALID_INPUT, "zero")

    outcome = await BuiltinPlugin().perform(task("/map", {"workflow": FLOW, "items": [1, 0, 3]}), host)

    assert outcome == Succeeded(
        {
            "results": [
                {"outcome": "success", "result": 2},
                {"outcome": "failed", "error": {"code": "INVALID_INPUT", "message": "zero"}},
                {"outcome": "success", "result": 6},
            ],
            "successful": 2,
            "failed": 1,
        }
    )


@pytest.mark.anyio
async def test_an_empty_list_gives_no_results(host, task):
    outcome = await BuiltinPlugin().perform(task("/map", {"workflow": FLOW, "items": []}), host)

    assert outcome == Succeeded({"results": [], "successful": 0, "failed": 0})


@pytest.mark.anyio
async def test_the_limit_variables_and_overrides_are_handed_on(host, task):
    input = {"workflow": FLOW, "items": [1], "max_concurrency": 2.0, "variables": {"a": 1}, "overrides": {}}

    await BuiltinPlugin().perform(task("/map", input), host)

    assert host.submitted == [
        {
            "flow": FLOW,
            "inputs": [1],
            "key": "map",
            "variables": {"a": 1},
            "overrides": {},
            "max_concurrency": 2,
        }
    ]


@pytest.mark.anyio
async def test_a_stored_flow_is_named_by_its_id(host, task):
    flow_id = await host.blobs.put(b"{}")

    await BuiltinPlugin().perform(task("/map", {"flow_id": flow_id, "items": [1]}), host)

    assert host.submitted[0]["flow"] == flow_id


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"max_concurrency": 0}, "$.max_concurrency"),
        ({"max_concurrency": 1.5}, "$.max_concurrency"),
        ({"items": {}}, "$.items"),
        ({"workflow": "flow.yaml"}, "$.workflow"),
        ({"flow_id": "ab" * 32}, "either `workflow` or `flow_id`"),
    ],
)
async def test_bad_input_is_refused_by_path(host, task, change, reason):
    outcome = await BuiltinPlugin().perform(task("/map", {"workflow": FLOW, "items": [1]} | change), host)

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.INVALID_INPUT
    assert reason in outcome.message
    assert host.submitted == []


@pytest.mark.anyio
async def test_a_refused_flow_is_invalid_input_with_its_problems(host, task):
    async def refuse(*args, **options):
        raise FlowInvalidError([Problem(message="step x is not defined", path="$.output")])

    host.run_flow = refuse

    outcome = await BuiltinPlugin().perform(task("/map", {"workflow": FLOW, "items": [1]}), host)

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.INVALID_INPUT
    assert outcome.data == {"problems": [{"path": "$.output", "message": "step x is not defined"}]}
