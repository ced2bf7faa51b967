import pytest

from stepflow.plugins.builtin.create_messages import perform
from stepflow.records import Succeeded

USER = {"role": "user", "content": "hi"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("input", "messages"),
    [
        ({"user_prompt": "hi"}, [USER]),
        ({"user_prompt": "hi", "system_instructions": None, "other": 1}, [USER]),
        ({"user_prompt": "hi", "system_instructions": "be kind"}, [{"role": "system", "content": "be kind"}, USER]),
        ({"user_prompt": "hi", "system_instructions": ""}, [{"role": "system", "content": ""}, USER]),
    ],
)
async def test_the_system_message_comes_first_when_there_is_one(host, task, input, messages):
    outcome = await perform(task("/create_messages", input), host)

    assert outcome == Succeeded({"messages": messages})
