"""The `openai` component: chat completions of OpenAI, or of any service that speaks its protocol."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from stepflow.errors import ComponentError, InvalidInputError
from stepflow.plugins.builtin.chat_call import Call
from stepflow.plugins.builtin.component import DIALECT, Builtin, read_input
from stepflow.plugins.builtin.create_messages import Message
from stepflow.protocols import Host
from stepflow.records import ErrorCode, Failed, Json, Outcome, Succeeded, Task

if TYPE_CHECKING:
    from typing import Self

OPENAI_URL = "https://api.openai.com/v1"
DEFAULT_MODEL = "gpt-3.5-turbo"


class OpenAISettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where chat completions come from. The key is sent to `base_url` and to nowhere else."""

    base_url: str = OPENAI_URL
    api_key: str | None = None
    model: str = DEFAULT_MODEL
    timeout_s: float = 600.0  # without a byte from the service

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Self":
        """From OPENAI_API_KEY, OPENAI_BASE_URL and OPENAI_MODEL; an empty one counts as absent."""
        return cls(
            base_url=environ.get("OPENAI_BASE_URL") or OPENAI_URL,
            api_key=environ.get("OPENAI_API_KEY") or None,
            model=environ.get("OPENAI_MODEL") or DEFAULT_MODEL,
        )

    def __repr__(self) -> str:
        key = None if self.api_key is None else "[REDACTED]"
        return f"OpenAISettings(base_url={self.base_url!r}, api_key={key!r}, model={self.model!r})"


class OpenAIInput(msgspec.Struct, frozen=True):
    messages: Annotated[list[Message], Meta(description="The conversation so far, oldest first.")]
    max_tokens: Annotated[int, Meta(ge=1, description="The most tokens of the answer.")] | None = None
    temperature: Annotated[float, Meta(ge=0, description="0 gives the likeliest answer.")] | None = None
    model: Annotated[str | None, Meta(description="Absent: the host's.")] = None
    api_key: Annotated[str | None, Meta(description="Absent: the host's.", extra_json_schema={"is_secret": True})] = (
        None
    )
    base_url: Annotated[
        str | None, Meta(description="Absent: the host's. The host's key is not sent to another address.")
    ] = None


def openai(settings: OpenAISettings) -> Builtin:
    async def perform(task: Task, host: Host) -> Outcome:
        call = prepare(read_input(OpenAIInput, task.input, integers=("max_tokens",)), settings)
        if isinstance(call, Failed):
            return call
        # urllib.request is slow to import, and most flows never call a model.
        from stepflow.plugins.builtin.chat import post

        outcome = await post(call, host.clock)
        if isinstance(outcome, Failed):
            return outcome
        output = read_answer(outcome.output)
        if "usage" in output:
            host.report(task, {"usage": output["usage"]})
        return Succeeded(output)

    return Builtin(
        name="openai",
        description="Asks a chat model of OpenAI, or of any service that speaks its protocol.",
        input=OpenAIInput,
        output_schema=_OUTPUT_SCHEMA,
        perform=perform,
    )


def prepare(given: OpenAIInput, settings: OpenAISettings) -> Call | Failed:
    """The request to send; the settings' key goes only to the settings' address.

    Raises:
        InvalidInputError: the address is not one of HTTP.
    """
    base_url = (given.base_url or settings.base_url).rstrip("/")
    if not _is_address(base_url):
        raise InvalidInputError("the base URL is not an http or https address without credentials - at `$.base_url`")
    key = given.api_key or (settings.api_key if base_url == settings.base_url.rstrip("/") else None)
    if key is None and base_url == OPENAI_URL:
        message = "there is no API key for OpenAI: set OPENAI_API_KEY where the engine runs, or give `api_key`"
        return Failed(ErrorCode.COMPONENT_FAILED, message, may_retry=False)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise InvalidInputError("an API key has printable ASCII characters only - at `$.api_key`")
    body: dict[str, Json] = {
        "model": given.model or settings.model,
        "messages": [{"role": message.role, "content": message.content} for message in given.messages],
    }
    if given.max_tokens is not None:
        body["max_tokens"] = given.max_tokens
    if given.temperature is not None:
        body["temperature"] = given.temperature
    return Call(f"{base_url}/chat/completions", msgspec.json.encode(body), key, settings.timeout_s)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and not {" ", "@"} & set(text)
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


class _Content(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Content = _Content()
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class _Answer(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    model: str | None = None
    usage: _Usage | None = None


def read_answer(value: Json) -> dict[str, Json]:
    """The component's output: the first choice's text, and what the service says of its cost."""
    try:
        answer = msgspec.convert(value, _Answer)
    except msgspec.ValidationError as error:
        raise ComponentError(f"the service's answer is not a chat completion: {error}") from None
    first = answer.choices[0] if answer.choices else _Choice()
    output: dict[str, Json] = {"response": first.message.content or ""}
    if answer.model is not None:
        output["model"] = answer.model
    if first.finish_reason is not None:
        output["finish_reason"] = first.finish_reason
    if answer.usage is not None:
        output["usage"] = msgspec.structs.asdict(answer.usage)
    return output


_TOKENS: dict[str, Json] = {"type": "integer", "minimum": 0}
_OUTPUT_SCHEMA: dict[str, Json] = {
    "$schema": DIALECT,
    "type": "object",
    "properties": {
        "response": {"type": "string"},
        "model": {"type": "string", "description": "The model that answered."},
        "finish_reason": {"type": "string"},
        "usage": {
            "type": "object",
            "properties": {"prompt_tokens": _TOKENS, "completion_tokens": _TOKENS, "total_tokens": _TOKENS},
        },
    },
    "required": ["response"],
}
