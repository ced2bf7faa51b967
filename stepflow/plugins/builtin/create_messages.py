"""The `create_messages` component, and the chat message it shares with `openai`."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from stepflow.plugins.builtin.component import DIALECT, Builtin, read_input
from stepflow.protocols import Host
from stepflow.records import Json, Outcome, Succeeded, Task


class Message(msgspec.Struct, frozen=True):
    role: Literal["system", "user", "assistant"]
    content: str


class CreateMessagesInput(msgspec.Struct, frozen=True):
    user_prompt: Annotated[str, Meta(description="What the user says.")]
    system_instructions: Annotated[str | None, Meta(description="A system message to put first.")] = None


MESSAGES_SCHEMA: dict[str, Json] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "role": {"type": "string", "enum": ["system", "user", "assistant"]},
            "content": {"type": "string"},
        },
        "required": ["role", "content"],
    },
}


async def perform(task: Task, host: Host) -> Outcome:
    given = read_input(CreateMessagesInput, task.input)
    messages: list[Json] = []
    if given.system_instructions is not None:
        messages.append({"role": "system", "content": given.system_instructions})
    messages.append({"role": "user", "content": given.user_prompt})
    return Succeeded({"messages": messages})


CREATE_MESSAGES = Builtin(
    name="create_messages",
    description="Makes the list of chat messages that `openai` takes.",
    input=CreateMessagesInput,
    output_schema={
        "$schema": DIALECT,
        "type": "object",
        "properties": {"messages": MESSAGES_SCHEMA},
        "required": ["messages"],
    },
    perform=perform,
)
