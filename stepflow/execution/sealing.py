"""Secrets of runs on their way into a store: each is replaced there by what it can be had again from.

A run has its secrets in clear as long as it is driven; only what is written is sealed. Secret are the values below
`is_secret` marks of the schemas of variables and input, wherever they turn up again: as a value of their own, and from
six characters on also inside another text.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from stepflow.errors import InputInvalidError, Problem, SecretKeyError
from stepflow.execution.events import Checkpointed, Event, ItemEnded, ItemsAdmitted, RunStarted, StepWaiting
from stepflow.execution.keys import VARIABLE, SecretKeys, keys_of
from stepflow.execution.known import Known, Scalar, is_searched, scalar_of
from stepflow.execution.references import MARK, VALUES, Opening, Reference
from stepflow.execution.submission import Prepared
from stepflow.flow.model import Flow
from stepflow.flow.schema import SecretMarks, schema_document
from stepflow.plan.variables import declared, environment_name, variables_from_environment
from stepflow.records import Failed, ItemResult, Json, Outcome, Succeeded

logger = logging.getLogger("stepflow.engine")

SECRETS = ("refuse", "warn", "plain")
"""What a durable store does with secrets that can't be sealed there."""

_encode = msgspec.json.Encoder().encode


class Vault:
    """What an engine knows of secrets: the keys, the environment, and whether what can't be sealed may stand in clear.

    Raises:
        SecretKeyError: STEPFLOW_SECRET_KEY is malformed.
    """

    def __init__(self, environ: Mapping[str, str], *, secrets: str = "refuse") -> None:
        self._environ = environ
        self._keys = keys_of(environ)
        self._secrets = secrets

    def renewed(self, seen: Mapping[str, str]) -> dict[str, str]:
        """The environment as it is now, which was seen otherwise before; the keys are those that it holds."""
        environ = dict(self._environ)
        if environ != seen:
            try:
                self._keys = keys_of(environ) or self._keys
            except SecretKeyError as error:
                logger.error("the keys stay as they were: %s", error)
        return environ

    def opening(self) -> Opening:
        return Opening(self._environ, self._keys)

    @property
    def key_names(self) -> list[str]:
        """What the keys may be called in public, the one that seals first; empty: there are none."""
        return [] if self._keys is None else self._keys.names

    def seal_bytes(self, content: bytes) -> bytes:
        assert self._keys is not None, "whoever seals looks first whether there is a key"
        return self._keys.seal(content).encode()

    def open_bytes(self, sealed: bytes) -> bytes:
        """Raises: SecretKeyError."""
        content = None if self._keys is None else self._keys.open(sealed.decode("ascii", "replace"))
        if content is None:
            raise SecretKeyError(f"what was sealed can't be opened with what {VARIABLE} holds")
        return content

    def sealer(
        self, prepared: Prepared, parent: "Sealer | None" = None, item: int = -1, *, is_sealed: bool | None = None
    ) -> "Sealer | None":
        """What seals a run's secrets; None where there are none, or nothing can be sealed.

        Args:
            parent: that of the run whose `item` this is a sub-run of.
            is_sealed: of a run that goes on: whether it was sealed before. It stays as it was.
        """
        if is_sealed is False or (prepared.redactor is None and parent is None and not is_sealed):
            return None
        sealer = Sealer(prepared, self._named(prepared), self._keys, parent, item)
        return sealer if is_sealed or sealer.is_needed else None

    def refuse(self, prepared: Prepared) -> None:
        """Where there is no key, a durable store would keep in clear what the caller passes.

        Raises:
            InputInvalidError: a secret variable was given that is not in the environment, or the input has secrets.
        """
        if self._keys is not None or self._secrets == "plain" or prepared.redactor is None:
            return
        marks, named = _variable_marks(prepared.plan.flow), self._named(prepared)
        given = [name for name, value in prepared.given.items() if name not in named and _secrets(marks, name, value)]
        found = [f'variable "{name}"' for name in given]
        if _input_marks(prepared.plan.flow).any:
            found.append("the input")
        self._object(found)

    def refuse_sub_run(
        self, prepared: Prepared, given: Mapping[str, Json], inputs: Sequence[Json], parent: "Sealer | None", item: int
    ) -> None:
        """The same for a sub-run: what it inherits was settled with its parent, `given` and `inputs` are new.

        Raises:
            InputInvalidError: they hold secrets that are not in the environment.
        """
        if self._keys is not None or self._secrets == "plain" or prepared.redactor is None:
            return
        flow, named = prepared.plan.flow, self._named(prepared)
        known = {} if parent is None else parent.known(item).sources
        variables, input = _variable_marks(flow), _input_marks(flow)
        found = [
            f'variable "{name}"'
            for name, value in given.items()
            if name not in named and not all(scalar_of(each) in known for each in _secrets(variables, name, value))
        ]
        if any(scalar_of(each) not in known for value in inputs for each in input.scalars(value) if each is not None):
            found.append("the input")
        self._object(found)

    def _object(self, found: Sequence[str]) -> None:
        """Refuse what can't be sealed, or warn of it the first time."""
        if not found:
            return
        message = f"{' and '.join(found)} hold secrets, which this store would keep in clear"
        if self._secrets == "refuse":
            remedy = f'set {VARIABLE} to have them sealed, or allow it with secrets="plain"'
            raise InputInvalidError([Problem(message=message, remedy=remedy)])
        self._secrets = "plain"
        logger.warning(
            "SECRETS ARE STORED IN CLEAR from now on: %s. Set %s to have them sealed, or have such runs refused by "
            "`secrets: strict` in the configuration",
            *(message.replace("would keep", "keeps"), VARIABLE),
        )

    def _named(self, prepared: Prepared) -> dict[str, Reference]:
        return named_secrets(prepared.plan.flow, prepared.given, self._environ)


class Sealer:
    """Replaces one run's secrets in what is written. It is told of inputs in the order in which they come."""

    def __init__(
        self,
        prepared: Prepared,
        named: Mapping[str, Reference],
        keys: SecretKeys | None,
        parent: "Sealer | None" = None,
        item: int = -1,
    ) -> None:
        flow, given = prepared.plan.flow, prepared.given
        self._keys = keys
        self._marks: tuple[SecretMarks, ...] = (_variable_marks(flow), *(() if parent is None else parent._marks))
        self._input_marks = _input_marks(flow)
        self._named: dict[str, tuple[Reference, Json]] = {} if parent is None else dict(parent._named)
        self._named.update({name: (reference, given[name]) for name, reference in named.items()})
        self._known = Known(self._sources(given), None if parent is None else parent.known(item))
        self._has_marked = self._input_marks.any or any(_secrets(self._marks[0], *each) for each in given.items())
        self._items: dict[int, Known] = {}  # of items that have not ended, where their inputs hold secrets
        self._outcomes: dict[int, Outcome] = {}  # of items whose end was sealed and is not stored yet
        self._tokens: dict[bytes, Reference] = {}  # of the variables' secrets, which are written again and again

    @property
    def is_needed(self) -> bool:
        """Whether there is anything that could be sealed."""
        return bool(self._known.sources or self._named) or (self._keys is not None and self._has_marked)

    def known(self, item: int) -> Known:
        """The secrets that may turn up in what is told of an item; of the whole run below 0."""
        return self._items.get(item, self._known)

    def is_in(self, text: bytes, item: int) -> bool:
        """Whether a JSON text holds a secret of an item that is long enough not to stand there by chance."""
        return self.known(item).is_inside(text)

    def seal(self, rows: Sequence[list[Event]]) -> list[list[Event]]:
        """The events as they may be written. The same may be sealed twice."""
        return [[self._sealed(event) for event in row] for row in rows]

    def ended(self, results: Sequence[ItemResult]) -> list[ItemResult]:
        """The results of items whose end has been sealed. Their secrets are not looked for any longer."""
        for result in results:
            self._items.pop(result.index, None)
        return [ItemResult(result.index, self._outcomes.pop(result.index)) for result in results]

    def learn(self, events: Sequence[Event]) -> None:
        """Look from now on for the secrets in the inputs of a journal, but for those of items that have ended."""
        for event in events:
            if isinstance(event, ItemsAdmitted):
                for index, input in enumerate(event.inputs, event.first):
                    self._learn_input(index, input)
            elif isinstance(event, ItemEnded):
                self._items.pop(event.item, None)
            elif isinstance(event, Checkpointed):
                done = {*event.ended_above, *(index for index in self._items if index < event.low_water)}
                self._items = {index: known for index, known in self._items.items() if index not in done}

    def _sources(self, given: Mapping[str, Json]) -> dict[Scalar, Reference | None]:
        """The secrets of the variables that can be told in one way or the other."""
        found: dict[Scalar, Reference | None] = {}
        for name, value in given.items():
            for each in _secrets(self._marks[0], name, value) if name not in self._named else ():
                if self._keys is not None and is_searched(each):
                    found[scalar_of(each)] = None
        for name, (reference, value) in self._named.items():
            for path, each in _leaves(value):
                if self._marks[0].depth((name, *path)) is not None and is_searched(each):
                    found[scalar_of(each)] = _part_of(reference, path)
        return found

    def _learn_input(self, index: int, input: Json) -> Known:
        scalars = self._input_marks.scalars(input) if self._keys is not None else []
        secrets = {scalar_of(each): None for each in scalars if is_searched(each)}
        if not secrets:
            return self._known
        self._items[index] = known = Known(secrets, self._known)
        return known

    def _sealed(self, event: Event) -> Event:
        if isinstance(event, RunStarted):
            given = self._variables(event.variables)
            return msgspec.structs.replace(event, variables=given, overrides=self._value(event.overrides, self._known))
        if isinstance(event, ItemsAdmitted):
            inputs = [self._input(index, input) for index, input in enumerate(event.inputs, event.first)]
            return msgspec.structs.replace(event, inputs=inputs)
        if isinstance(event, Checkpointed):
            return msgspec.structs.replace(event, open=[self._open_item(item) for item in event.open])
        known = self.known(getattr(event, "item", -1))
        if known.occurs_in(_encode(event)):
            event = self._replaced(event, known)
        if isinstance(event, ItemEnded):
            self._outcomes[event.item] = event.outcome
        return event

    def _replaced(self, event: Event, known: Known) -> Event:
        if isinstance(event, StepWaiting):
            return msgspec.structs.replace(event, reason=known.redacted(event.reason))
        fields = VALUES.get(type(event).__name__, ())
        return msgspec.structs.replace(event, **{name: self._field(getattr(event, name), known) for name in fields})

    def _variables(self, given: Mapping[str, Json]) -> dict[str, Json]:
        sealed: dict[str, Json] = {}
        for name, value in given.items():
            named = self._named.get(name)
            if named is not None and _encode(named[1]) == _encode(value):
                sealed[name] = named[0]
                continue
            for marks in self._marks if self._keys is not None else ():
                value = _field_of(marks.replaced({name: value}, self._token), name)
            sealed[name] = self._value(value, self._known)
        return sealed

    def _input(self, index: int, input: Json) -> Json:
        known = self._learn_input(index, input)
        if self._keys is not None:
            input = self._input_marks.replaced(input, self._token)
        return self._value(input, known) if known.occurs_in(_encode(input)) else input

    def _open_item(self, item: Any) -> Any:
        known = self.known(item.index)
        outputs = [(step, succeeded, self._field(value, known)) for step, succeeded, value in item.outputs]
        return msgspec.structs.replace(item, outputs=outputs)

    def _field(self, value: Any, known: Known) -> Any:
        if isinstance(value, Succeeded):
            return Succeeded(self._value(value.output, known))
        if isinstance(value, Failed):
            message = known.redacted(value.message)
            return msgspec.structs.replace(value, message=message, data=self._value(value.data, known))
        return self._value(value, known)

    def _value(self, value: Json, known: Known) -> Json:
        """A copy in which references stand for the secrets."""
        if isinstance(value, str):
            return self._text(value, known)
        if isinstance(value, list):
            items = []
            for part in value:  # one frame a level: values are nested deeply
                items.append(self._value(part, known))  # noqa: PERF401
            return items
        if not isinstance(value, dict):
            return self._number(value, known)
        if isinstance(value, Reference):
            return value
        fields = {}
        for key, part in value.items():
            fields[key] = self._value(part, known)
        if MARK in fields or any(self._text(key, known) is not key for key in fields):
            return Reference("object", [[self._text(key, known), part] for key, part in fields.items()])
        return fields

    def _number(self, value: Json, known: Known) -> Json:
        if isinstance(value, bool) or not isinstance(value, int | float) or scalar_of(value) not in known.sources:
            return value
        return known.sources[scalar_of(value)] or self._token(value)

    def _text(self, text: str, known: Known) -> Json:
        if (str, text) in known.sources:
            return known.sources[(str, text)] or self._token(text)
        found = list(known.pattern.finditer(text))
        if not found:
            return text
        if any(known.spelt[match.group()][0] is None for match in found):
            return self._token(text)
        parts: list[Json] = []
        end = 0
        for match in found:
            source, spelling = known.spelt[match.group()]
            assert source is not None
            parts += [text[end : match.start()], {**source.body, **({"spelling": spelling} if spelling else {})}]
            end = match.end()
        return Reference("text", [part for part in (*parts, text[end:]) if part != ""])

    def _token(self, value: Json) -> Reference:
        assert self._keys is not None, "what needs a key is not looked for without one"
        content = _encode(value)
        kept = self._tokens.get(content)
        if kept is None:
            kept = Reference("token", self._keys.seal(content))
            if isinstance(value, str | int | float) and scalar_of(value) in self._known.sources:
                self._tokens[content] = kept
        return kept


def named_secrets(flow: Flow, given: Mapping[str, Json], environ: Mapping[str, str]) -> dict[str, Reference]:
    """The secret variables whose values stand in the environment, with the references that tell them."""
    marks = _variable_marks(flow)
    if not marks.any:
        return {}
    names = {info.name: environment_name(info) for info in declared(flow)}
    there = variables_from_environment(flow, {}, environ)
    return {
        name: _named_reference(names[name], there[name], environ)
        for name, value in given.items()
        if name in there and _encode(there[name]) == _encode(value) and _secrets(marks, name, value)
    }


def _variable_marks(flow: Flow) -> SecretMarks:
    return SecretMarks(schema_document(flow.schemas.variables, flow.schemas.defs))


def _input_marks(flow: Flow) -> SecretMarks:
    return SecretMarks(schema_document(flow.schemas.input, flow.schemas.defs))


def _secrets(marks: SecretMarks, name: str, value: Json) -> list[Json]:
    """The scalars of a variable that are secret. Null hides nothing."""
    return [each for each in marks.scalars({name: value}) if each is not None]


def _named_reference(name: str, value: Json, environ: Mapping[str, str]) -> Reference:
    return Reference("env", name) if value == environ[name] else Reference("env", name, json=True)


def _part_of(reference: Reference, path: Sequence[str | int]) -> Reference:
    return Reference("env", reference.body["env"], json=True, path=list(path)) if path else reference


def _leaves(value: Json, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Json]]:
    """Every scalar of a value with its place."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _leaves(part, (*path, index))
    else:
        yield path, value


def _field_of(value: Json, name: str) -> Json:
    assert isinstance(value, dict)
    return value[name]
