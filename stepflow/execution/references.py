"""What stands in a store where a secret stood: a small object that says how the value is had again.

`{"$sealed": {"env": "NAME"}}` is the text of an environment variable (with `"json": true` the JSON that it holds, with
`path` a part of that), `{"$sealed": {"token": "…"}}` is sealed with a key, `{"$sealed": {"text": […]}}` is a text of
which some parts are the former. `{"$sealed": {"object": [[key, value], …]}}` is an object that can't be written as it
is: a key of it holds a secret, or is `$sealed` itself.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from stepflow.errors import SecretKeyError
from stepflow.execution.events import Checkpointed, Event, decode_events
from stepflow.execution.keys import VARIABLE, SecretKeys
from stepflow.records import Failed, ItemResult, Json, Outcome, Succeeded

T = TypeVar("T")
E = TypeVar("E", bound=Event)

MARK = "$sealed"
MARK_BYTES = b'"$sealed"'
SEALED = "<sealed>"

VALUES: Mapping[str, tuple[str, ...]] = {
    "RunStarted": ("variables", "overrides"),
    "ItemsAdmitted": ("inputs",),
    "StepSucceeded": ("output",),
    "StepFailed": ("error",),
    "StepDefaulted": ("output", "error"),
    "StepRetried": ("error",),
    "ItemEnded": ("outcome",),
    "RunEnded": ("error",),
}
"""The fields of events that hold values of users or failures. Those of a checkpoint lie deeper."""

SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "": lambda text: text,
    "json": lambda text: msgspec.json.encode(text).decode()[1:-1],
    "ascii": lambda text: json.dumps(text)[1:-1],
    "repr": lambda text: repr(text)[1:-1],
}
"""How a text stands inside another: as it is, or as a part of JSON or of a Python literal."""


class Reference(dict[str, Json]):
    """An object that stands for a secret; of a class of its own, so that it is not taken for data."""

    def __init__(self, how: str, what: Json, **more: Json) -> None:
        super().__init__({MARK: {how: what, **more}})

    @property
    def body(self) -> dict[str, Json]:
        body = self[MARK]
        assert isinstance(body, dict)
        return body


class _MissingError(Exception):
    """A secret can't be had here; the text says why."""


class Opening:
    """Puts values back where references stand. What can't be had here stays a reference; `missing` says why."""

    def __init__(self, environ: Mapping[str, str], keys: SecretKeys | None) -> None:
        self._environ = environ
        self._keys = keys
        self._missing: dict[str, None] = {}

    @property
    def missing(self) -> str | None:
        """All that can't be had here; None: nothing."""
        return "; ".join(self._missing) or None

    def complete(self, opened: T) -> T:
        """What was opened, where nothing of it is missing. Raises: SecretKeyError, with what is."""
        if self.missing is not None:
            raise SecretKeyError(self.missing)
        return opened

    def opened(self, event: E) -> E:
        """An event without references. Raises: SecretKeyError."""
        return self.complete(self.event(event))

    def decode(self, payload: bytes) -> list[Event]:
        """The events of a packed row."""
        events = decode_events(payload)
        return [self.event(event) for event in events] if MARK_BYTES in payload else events

    def event(self, event: E) -> E:
        if isinstance(event, Checkpointed):
            return msgspec.structs.replace(event, open=[self._open_item(item) for item in event.open])
        opened = {name: self._field(getattr(event, name)) for name in VALUES.get(type(event).__name__, ())}
        return msgspec.structs.replace(event, **opened) if opened else event

    def result(self, result: ItemResult) -> ItemResult:
        return ItemResult(result.index, self.outcome(result.outcome))

    def outcome(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Succeeded):
            return Succeeded(self.value(outcome.output))
        return self._failed(outcome)

    def value(self, value: Json) -> Json:
        """A copy without references, as far as that is possible here."""
        if isinstance(value, list):
            items = []
            for part in value:  # one frame a level: values are nested deeply
                items.append(self.value(part))  # noqa: PERF401
            return items
        if not isinstance(value, dict):
            return value
        if MARK in value and len(value) == 1:
            return self._resolved(value)
        fields = {}
        for key, part in value.items():
            fields[key] = self.value(part)
        return fields

    def _field(self, value: Any) -> Any:
        if isinstance(value, Succeeded | Failed):
            return self.outcome(value)
        return self.value(value)

    def _failed(self, failed: Failed) -> Failed:
        return msgspec.structs.replace(failed, data=self.value(failed.data))

    def _open_item(self, item: Any) -> Any:
        outputs = [(step, succeeded, self.value(value)) for step, succeeded, value in item.outputs]
        return msgspec.structs.replace(item, outputs=outputs)

    def _resolved(self, reference: dict[str, Json]) -> Json:
        try:
            return self._referred(reference[MARK])
        except _MissingError as missing:
            self._missing[str(missing)] = None
        except (LookupError, TypeError, ValueError):
            self._missing["a secret of it is stored in a way that this version can't read"] = None
        return reference

    def _referred(self, body: Json) -> Json:
        if not isinstance(body, dict):
            raise TypeError(body)
        match body:
            case {"env": str(name)}:
                return self._read(name, body)
            case {"token": str(token)}:
                return self._unsealed(token)
            case {"text": list(parts)}:
                return "".join(self._part(part) for part in parts)
            case {"object": list(pairs)}:
                return dict(self._pair(pair) for pair in pairs)
        raise ValueError(body)

    def _read(self, name: str, body: dict[str, Json]) -> Json:
        text = self._environ.get(name)
        if text is None:
            raise _MissingError(f"the environment variable {name} is not set")
        if not body.get("json"):
            return text
        path = body.get("path", [])
        try:
            found: Any = msgspec.json.decode(text)
            for part in path if isinstance(path, list) else ():
                found = found[part]
        except (msgspec.DecodeError, LookupError, TypeError):
            raise _MissingError(f"the environment variable {name} no longer holds what it held") from None
        value: Json = found
        return value

    def _unsealed(self, token: str) -> Json:
        if self._keys is None:
            raise _MissingError(f"its secrets are sealed, and {VARIABLE} is not set")
        content = self._keys.open(token)
        if content is None:
            raise _MissingError(f"its secrets are sealed with another key than {VARIABLE} holds")
        value: Json = msgspec.json.decode(content)
        return value

    def _part(self, part: Json) -> str:
        if isinstance(part, str):
            return part
        if not isinstance(part, dict):
            raise TypeError(part)
        spelling = part.get("spelling", "")
        value = self._referred(part)
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return SPELLINGS[str(spelling)](text)

    def _pair(self, pair: Json) -> tuple[str, Json]:
        if not isinstance(pair, list):
            raise TypeError(pair)
        key, value = pair
        name = self.value(key)
        if not isinstance(name, str):
            raise _MissingError(self.missing or "a key of an object is sealed")
        return name, self.value(value)


def shown(value: Json) -> Json:
    """A copy for people to look at, with `<sealed>` where something is sealed or read from the environment."""
    if isinstance(value, list):
        items = []
        for part in value:  # one frame a level: values are nested deeply
            items.append(shown(part))  # noqa: PERF401
        return items
    if not isinstance(value, dict):
        return value
    if MARK in value and len(value) == 1:
        return _shown_reference(value[MARK])
    fields = {}
    for key, part in value.items():
        fields[key] = shown(part)
    return fields


def _shown_reference(body: Json) -> Json:
    match body:
        case {"text": list(parts)}:
            return "".join(part if isinstance(part, str) else SEALED for part in parts)
        case {"object": list(pairs)}:
            return dict(_shown_pairs(pairs))
    return SEALED


def _shown_pairs(pairs: list[Json]) -> Iterator[tuple[str, Json]]:
    for pair in pairs:
        if isinstance(pair, list) and len(pair) == 2:
            yield str(shown(pair[0])), shown(pair[1])
