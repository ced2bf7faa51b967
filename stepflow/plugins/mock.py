"""Components whose answers are written down, for tests of flows."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import msgspec

from stepflow.errors import ConfigError, Problem
from stepflow.flow.identity import canonical_json
from stepflow.protocols import Host
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, Succeeded, Task

_REMEDY = "write {outcome: success, result: …}, {outcome: failed, error: {code: …, message: …}} or {error: text}"
_CODES = frozenset(code.value for code in ErrorCode)


class _Mocked(msgspec.Struct, frozen=True):
    """A component's answers by the canonical text of the input."""

    info: ComponentInfo
    answers: dict[str, Outcome]


class MockPlugin:
    """Answers from a table: `{path: {input_schema, output_schema, behaviors: {input: result}}}`.

    An input is a whole JSON value, compared as such. A key that is the JSON text of a value stands for that value, and
    for the text itself. A result is `{outcome: success, result: …}`,
    `{outcome: failed, error: {code, message, data}}` or `{error: text}`, which is UNREACHABLE, as is any other input.
    """

    def __init__(self, components: Mapping[str, Mapping[str, Any]]) -> None:
        """
        Raises:
            ConfigError: a result is none of these.
        """
        problems: list[Problem] = []
        self._mocked = {path: _mocked(path, settings or {}, problems) for path, settings in components.items()}
        if problems:
            raise ConfigError(problems)
        self._infos = tuple(mocked.info for mocked in self._mocked.values())

    def open(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def components(self, params: Mapping[str, Json]) -> Sequence[ComponentInfo]:
        return self._infos

    async def wait_components(self, params: Mapping[str, Json]) -> None:
        """They are always known."""

    async def perform(self, task: Task, host: Host) -> Outcome:
        mocked = self._mocked.get(task.target)
        if mocked is None:
            known = ", ".join(self._mocked) or "none"
            return Failed(ErrorCode.COMPONENT_NOT_FOUND, f"there is no component {task.target!r}; there are: {known}")
        text = canonical_json(task.input)
        answer = mocked.answers.get(text)
        if answer is None:
            shown = text if len(text) <= 200 else f"{text[:200]}…"
            return Failed(ErrorCode.UNREACHABLE, f"{task.target} is not told what to do with {shown}", may_retry=False)
        if isinstance(answer, Succeeded):
            return Succeeded(msgspec.json.decode(msgspec.json.encode(answer.output)))
        return answer


def _mocked(path: str, settings: Mapping[str, Any], problems: list[Problem]) -> _Mocked:
    answers: dict[str, Outcome] = {}
    meant: dict[str, Outcome] = {}
    for key, result in (settings.get("behaviors") or {}).items():
        answer = _answer(result)
        if answer is None:
            message = f"what {path} does with {key!r} is not told"
            problems.append(Problem(message=message, path=f"$.components[{path!r}].behaviors", remedy=_REMEDY))
            continue
        answers[canonical_json(_plain(key))] = answer
        if isinstance(key, str):
            meant[_value_of(key)] = answer
    info = ComponentInfo(
        id=path, path=path, input_schema=settings.get("input_schema"), output_schema=settings.get("output_schema")
    )
    return _Mocked(info, meant | answers)


def _plain(key: Any) -> Json:
    """A key as JSON: YAML's maps and sequences are frozen where they are keys."""
    if isinstance(key, Mapping):
        return {str(name): _plain(value) for name, value in key.items()}
    if isinstance(key, (tuple, list)):
        return [_plain(value) for value in key]
    value: Json = key
    return value


def _value_of(key: str) -> str:
    """The canonical text of the value that a key is the JSON text of, or of the key itself."""
    try:
        return canonical_json(msgspec.json.decode(key))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return canonical_json(key)


def _answer(result: Any) -> Outcome | None:
    match result:
        case {"outcome": "success"}:
            return Succeeded(result.get("result"))
        case {"outcome": "failed", "error": {"code": str(code), "message": str(message)}} if code in _CODES:
            return Failed(ErrorCode(code), message, result["error"].get("data"))
        case {"error": str(text)}:
            return Failed(ErrorCode.UNREACHABLE, text)
        case _:
            return None
