import pytest

from stepflow.plugins.builtin.noop import perform
from stepflow.records import Succeeded


@pytest.mark.anyio
@pytest.mark.parametrize("input", [None, False, 0, "", [], {"a": [1.5, None]}])
async def test_any_input_comes_back_unchanged(host, task, input):
    assert await perform(task("/noop", input), host) == Succeeded(input)
