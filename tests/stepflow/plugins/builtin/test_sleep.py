import pytest

from stepflow.errors import InvalidInputError
from stepflow.plugins.builtin.sleep import perform
from stepflow.records import Succeeded


@pytest.mark.anyio
async def test_it_waits_by_the_clock_without_a_slot(host, task):
    outcome = await perform(task("/sleep", {"duration_ms": 1500}), host)

    assert outcome == Succeeded({"duration_ms": 1500})
    assert host.clock.slept == [1.5]
    assert host.waits == ["sleep"]


@pytest.mark.anyio
async def test_a_whole_double_is_an_integer(host, task):
    outcome = await perform(task("/sleep", {"duration_ms": 10.0}), host)

    assert outcome == Succeeded({"duration_ms": 10})
    assert isinstance(outcome.output["duration_ms"], int)


@pytest.mark.anyio
@pytest.mark.parametrize("value", [None, 1, 2.0, {"deep": [2.0]}])
async def test_the_passthrough_is_given_back_as_it_came(host, task, value):
    outcome = await perform(task("/sleep", {"duration_ms": 0, "passthrough": value}), host)

    assert outcome == Succeeded({"duration_ms": 0, "passthrough": value})


@pytest.mark.anyio
@pytest.mark.parametrize("duration", [-1, 1.5, "10", True, None])
async def test_a_duration_that_is_no_count_of_milliseconds_is_refused(host, task, duration):
    with pytest.raises(InvalidInputError, match=r"\$\.duration_ms"):
        await perform(task("/sleep", {"duration_ms": duration}), host)

    assert host.clock.slept == []
