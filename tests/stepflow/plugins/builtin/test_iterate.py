import pytest

from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.records import ErrorCode, Failed, Succeeded

FLOW = {"output": {"$input": "$"}}


def count_down(input):
    return Succeeded({"result": "lift-off"} if input == 0 else {"next": input - 1})


@pytest.mark.anyio
async def test_turns_follow_next_until_there_is_a_result(host, task):
    host.answer = count_down

    outcome = await BuiltinPlugin().perform(task("/iterate", {"flow": FLOW, "initial_input": 2}), host)

    assert outcome == Succeeded({"result": "lift-off", "iterations": 3, "terminated": False})
    assert [sub["inputs"] for sub in host.submitted] == [[2], [1], [0]]


@pytest.mark.anyio
async def test_each_turn_has_its_number_as_key(host, task):
    host.answer = count_down

    await BuiltinPlugin().perform(task("/iterate", {"flow": FLOW, "initial_input": 2}), host)

    assert [sub["key"] for sub in host.submitted] == ["0", "1", "2"]


@pytest.mark.anyio
async def test_a_result_wins_over_next_even_when_it_is_null(host, task):
    host.answer = lambda input: Succeeded({"next": 1, "result": None})

    outcome = await BuiltinPlugin().perform(task("/iterate", {"flow": FLOW, "initial_input": 2}), host)

    assert outcome == Succeeded({"result": None, "iterations": 1, "terminated": False})


@pytest.mark.anyio
async def test_used_up_turns_give_the_pending_input(host, task):
    host.answer = lambda input: Succeeded({"next": input + 1})
    input = {"flow": FLOW, "initial_input": 0, "max_iterations": 3.0}

    outcome = await BuiltinPlugin().perform(task("/iterate", input), host)

    assert outcome == Succeeded({"result": 3, "iterations": 3, "terminated": True})


@pytest.mark.anyio
async def test_no_turns_give_the_initial_input(host, task):
    input = {"flow": FLOW, "initial_input": "first", "max_iterations": 0}

    outcome = await BuiltinPlugin().perform(task("/iterate", input), host)

    assert outcome == Succeeded({"result": "first", "iterations": 0, "terminated": True})
    assert host.submitted == []


@pytest.mark.anyio
async def test_turns_stop_at_a_thousand_unless_told(host, task):
    host.answer = lambda input: Succeeded({"next": None})

    outcome = await BuiltinPlugin().perform(task("/iterate", {"flow": FLOW, "initial_input": 0}), host)

    assert outcome == Succeeded({"result": None, "iterations": 1000, "terminated": True})


@pytest.mark.anyio
@pytest.mark.parametrize("output", [None, 3, [], {}, {"Next": 1}])
async def test_an_output_with_neither_is_invalid_input(host, task, output):
    host.answer = lambda input: Succeeded(output)

    outcome = await BuiltinPlugin().perform(task("/iterate", {"flow": FLOW, "initial_input": 0}), host)

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.INVALID_INPUT
    assert "turn 1" in outcome.message


@pytest.mark.anyio
@pytest.mark.parametrize(("code", "may_retry"), [(ErrorCode.COMPONENT_FAILED, True), (ErrorCode.TIMEOUT, False)])
async def test_an_inner_failure_is_the_same_failure_without_more_transport_retries(host, task, code, may_retry):
    host.answer = lambda input: Failed(code, "too slow", {"at": 3})

    outcome = await BuiltinPlugin().perform(task("/iterate", {"flow": FLOW, "initial_input": 0}), host)

    assert outcome == Failed(code, "too slow", {"at": 3}, may_retry=may_retry)
