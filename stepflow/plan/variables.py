"""Variables: what a flow declares, the values of one run, and the settings that are read from them."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy

import msgspec

from stepflow.errors import InputInvalidError, Problem
from stepflow.flow.expression import kind
from stepflow.flow.model import Backoff, Flow, Literal, Setting, Step, VariableRef
from stepflow.flow.path import PathNotFound, format_path, resolve
from stepflow.flow.schema import REDACTED, SchemaError, SchemaValidator, SecretMarks, resolve_ref, schema_document
from stepflow.plan.suggest import did_you_mean
from stepflow.records import Json

_IMPLIED: dict[str, Json] = {"string": "", "number": 0, "integer": 0, "boolean": False}
_SEARCHED = 4  # characters that a secret has at least to be looked for in a text


class VariableInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A variable as the flow declares it."""

    name: str
    schema: Json
    default: Json = None
    has_default: bool = False  # explicit or implied
    implied: bool = False  # the default follows from the type alone
    required: bool = False
    env_var: str | None = None
    secret: bool = False
    description: str | None = None


class Variables(msgspec.Struct, frozen=True):
    """The values of one run, defaults included, and what is wrong with them where that is only a warning."""

    values: dict[str, Json]
    problems: tuple[Problem, ...] = ()


class SettingError(ValueError):
    """A setting has no usable value; the text says why, without naming the setting."""


def declared(flow: Flow) -> tuple[VariableInfo, ...]:
    """The variables of the flow's schema, in the order they are written."""
    schema = _variables_schema(flow)
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return ()
    needed = required if isinstance(required, list) else []
    return tuple(_declared(flow, name, part, required=name in needed) for name, part in properties.items())


def _variables_schema(flow: Flow) -> dict[str, Json]:
    schema = flow.schemas.variables
    return schema if isinstance(schema, dict) else {}


def _declared(flow: Flow, name: str, schema: Json, *, required: bool) -> VariableInfo:
    own = schema if isinstance(schema, dict) else {}
    behind = resolve_ref(own.get("$ref"), schema_document(own, flow.schemas.defs))
    notes = {**behind, **own} if isinstance(behind, dict) else own
    default, implied = notes.get("default"), False
    has_default = "default" in notes
    if not has_default and not required:
        has_default, default = _implied_default(own.get("type"))
        implied = has_default
    env_var, description = notes.get("env_var"), notes.get("description")
    return VariableInfo(
        name=name,
        schema=schema,
        default=default,
        has_default=has_default,
        implied=implied,
        required=required,
        env_var=env_var if isinstance(env_var, str) else None,
        secret=notes.get("is_secret") is True,
        description=description if isinstance(description, str) else None,
    )


def _implied_default(type: Json) -> tuple[bool, Json]:
    """The default of a variable that is not required and names none. It is that of the reference implementation."""
    if isinstance(type, list):
        return "null" in type, None
    if isinstance(type, str) and type in _IMPLIED:
        return True, _IMPLIED[type]
    return False, None


def resolve_variables(flow: Flow, given: Mapping[str, Json], *, validation: str = "strict") -> Variables:
    """The values that the steps see: what was given (null counts), else the declared or implied default.

    Raises:
        InputInvalidError: under `strict` a required variable is missing or a given one does not fit its schema;
            under any validation a step's setting has no usable value.
    """
    defaults = {info.name: info.default for info in declared(flow) if info.has_default}
    values = {**defaults, **given}
    found = () if validation == "off" else variable_problems(flow, given)
    settings = setting_problems(flow, values)
    if settings or (found and validation == "strict"):
        raise InputInvalidError([*found, *settings])
    doubts = () if validation == "off" else misspelt_variables(flow, given)
    return Variables(values, (*(msgspec.structs.replace(problem, level="warning") for problem in found), *doubts))


def variable_problems(flow: Flow, given: Mapping[str, Json]) -> tuple[Problem, ...]:
    """What the flow's schema of variables does not allow: missing required ones first, then mismatches."""
    if flow.schemas.variables is None:
        return ()
    missing = [info for info in declared(flow) if info.required and not info.has_default and info.name not in given]
    problems = [_missing(info, given, flow) for info in missing]
    schema = flow.schemas.variables
    if isinstance(schema, dict):
        schema = {key: part for key, part in schema.items() if key != "required"}  # defaults fill those in
    try:
        violations = SchemaValidator(schema, flow.schemas.defs).violations(dict(given))
    except SchemaError as error:
        return (*problems, Problem(message=f"the schema of the variables cannot be used: {error}", path="$.variables"))
    for violation in violations:
        named = f'variable "{violation.path[0]}"' if violation.path else "variables"
        message = f"{named}: {violation.message} ({violation.rule})"
        problems.append(Problem(message=message, path=format_path(("variables", *violation.path))))
    return tuple(problems)


def misspelt_variables(flow: Flow, given: Mapping[str, Json]) -> tuple[Problem, ...]:
    """Warnings of given variables that the flow does not declare while it declares one of nearly this name."""
    names = [info.name for info in declared(flow)]
    absent = [name for name in names if name not in given]
    return tuple(
        Problem(
            message=f'variable "{name}" is not declared',
            path=format_path(("variables", name)),
            level="warning",
            remedy=f'did you mean "{near}"?',
        )
        for name in given
        if name not in names and (near := did_you_mean(name, absent)) is not None
    )


def _missing(info: VariableInfo, given: Mapping[str, Json], flow: Flow) -> Problem:
    known = {each.name for each in declared(flow)}
    strangers = [name for name in given if name not in known]
    near = did_you_mean(info.name, strangers)
    found = f'; "{near}" was given, which the flow does not declare' if near else ""
    return Problem(
        message=f'variable "{info.name}" is required and has no value (required){found}',
        path=format_path(("variables", info.name)),
        remedy=f"give it a value, or set {environment_name(info)} and ask for variables from the environment",
    )


def environment_name(info: VariableInfo) -> str:
    """The environment variable that a variable's value may be read from."""
    return info.env_var or f"STEPFLOW_VAR_{info.name.upper()}"


def variables_from_environment(flow: Flow, given: Mapping[str, Json], environ: Mapping[str, str]) -> dict[str, Json]:
    """The given values, and for every declared variable not among them the value its environment variable holds.

    The text is read as JSON where it is JSON; it stays text where only the text fits the variable's schema.
    """
    values = dict(given)
    for info in declared(flow):
        text = environ.get(environment_name(info))
        if info.name not in given and text is not None:
            values[info.name] = _from_text(text, info, flow)
    return values


def missing_from_environment(
    flow: Flow, given: Mapping[str, Json], environ: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """Required variables that neither were given nor stand in the environment, each with the name looked for."""
    return tuple(
        (info.name, environment_name(info))
        for info in declared(flow)
        if info.required and not info.has_default and info.name not in given and environment_name(info) not in environ
    )


def _from_text(text: str, info: VariableInfo, flow: Flow) -> Json:
    try:
        value: Json = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text
    try:
        validator = SchemaValidator(info.schema, flow.schemas.defs)
    except SchemaError:
        return value
    return text if not validator.accepts(value) and validator.accepts(text) else value


class _Rule(msgspec.Struct, frozen=True):
    accepts: Callable[[float], bool]
    wanted: str
    whole: bool = False


_RULES = {
    "timeout": _Rule(lambda value: value > 0, "a number of seconds above 0"),
    "maxRetries": _Rule(lambda value: value >= 0, "a whole number from 0 on", whole=True),
    "delayMs": _Rule(lambda value: value >= 0, "a number of milliseconds from 0 on"),
    "minDelayMs": _Rule(lambda value: value >= 0, "a number of milliseconds from 0 on"),
    "maxDelayMs": _Rule(lambda value: value >= 0, "a number of milliseconds from 0 on"),
    "factor": _Rule(lambda value: value >= 1, "a number from 1 on"),
}
_ANY = _Rule(lambda value: True, "a number")
_TOO_LARGE = 1e15


def resolve_setting(setting: Setting, variables: Mapping[str, Json], *, key: str | None = None) -> int | float:
    """The number that a setting stands for. `key` is its name in the document and decides what range is allowed.

    Raises:
        SettingError: the variable has no value, or the value is not a number in the range.
    """
    value = _looked_up(setting, variables) if isinstance(setting, VariableRef) else setting
    rule = _RULES[key] if key is not None else _ANY
    if isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) < _TOO_LARGE and rule.accepts(value) and not (rule.whole and value != int(value)):
            return int(value) if rule.whole else value
        shown = f"{value:g}" if abs(value) < _TOO_LARGE else "a number out of all bounds"
    else:
        shown = kind(value)
    of = f' of variable "{_variable_name(setting)}"' if isinstance(setting, VariableRef) else ""
    raise SettingError(f"the value{of} must be {rule.wanted}, not {shown}")


def _looked_up(ref: VariableRef, variables: Mapping[str, Json]) -> Json:
    name = ref.path[0] if ref.path else None
    if isinstance(name, str) and name in variables:
        try:
            return resolve(variables[name], ref.path[1:])
        except PathNotFound:
            if ref.default is None:
                raise SettingError(f'variable "{name}" has nothing at {format_path(ref.path[1:])}') from None
    match ref.default:
        case VariableRef():
            return _looked_up(ref.default, variables)
        case Literal(value):
            return value
        case None:
            raise SettingError(f'variable "{_variable_name(ref)}" has no value')
        case _:
            raise SettingError(f'the default of variable "{_variable_name(ref)}" must be a number')


def _variable_name(ref: VariableRef) -> str:
    return str(ref.path[0]) if ref.path else "$"


def step_settings(step: Step) -> Iterator[tuple[tuple[str, ...], Setting]]:
    """Every setting of a step that was written, with its path inside the step."""
    if step.timeout is not None:
        yield ("timeout",), step.timeout
    on_error = step.on_error
    if on_error is None:
        return
    if on_error.max_retries is not None:
        yield ("onError", "maxRetries"), on_error.max_retries
    for key, setting in _backoff_settings(on_error.backoff) if on_error.backoff is not None else ():
        yield ("onError", "backoff", key), setting


def _backoff_settings(backoff: Backoff) -> Iterator[tuple[str, Setting]]:
    written = {
        "delayMs": backoff.delay_ms,
        "minDelayMs": backoff.min_delay_ms,
        "maxDelayMs": backoff.max_delay_ms,
        "factor": backoff.factor,
    }
    return ((key, setting) for key, setting in written.items() if setting is not None)


def setting_problems(flow: Flow, variables: Mapping[str, Json]) -> tuple[Problem, ...]:
    """Every setting that has no usable value, naming step, key and variable."""
    problems: list[Problem] = []
    for index, step in enumerate(flow.steps):
        for path, setting in step_settings(step):
            try:
                resolve_setting(setting, variables, key=path[-1])
            except SettingError as error:
                message = f'step "{step.id}", {".".join(path)}: {error}'
                problems.append(Problem(message=message, path=format_path(("steps", index, *path))))
    return tuple(problems)


class Redactor:
    """Puts `[REDACTED]` for a run's secrets into texts that people read: logs and messages, never data.

    Secret are the values below `is_secret` marks of the schemas of variables and input. Texts of less than four
    characters, booleans and null are not searched for: they would be found everywhere.
    """

    def __init__(self, flow: Flow, variables: Mapping[str, Json] = {}) -> None:
        defs = flow.schemas.defs
        self._input = SecretMarks(schema_document(flow.schemas.input, defs))
        self._variables = SecretMarks(schema_document(flow.schemas.variables, defs)).scalars(dict(variables))

    def beside(self, other: "Redactor") -> "Redactor":
        """This one, with the variables that the other keeps secret."""
        both = copy(self)
        both._variables = [*self._variables, *other._variables]
        return both

    def redact(self, text: str, input: Json = None) -> str:
        """The text without the secrets of the variables, and of an item's input where one is given."""
        return without(text, self.secrets(input))

    def secrets(self, input: Json = None) -> list[Json]:
        """The values that are kept secret: those of the variables, and of an item's input where one is given."""
        return [*self._variables, *self._input.scalars(input)]


def without(text: str, secrets: Iterable[Json]) -> str:
    """The text with `[REDACTED]` for each of the secrets."""
    patterns = {pattern for secret in secrets for pattern in _spelt(secret)}
    for pattern in sorted(patterns, key=lambda each: (-len(each), each)):
        text = re.sub(pattern, REDACTED, text)
    return text


def _spelt(secret: Json) -> Iterator[str]:
    """Patterns for the ways in which a text may show the secret."""
    if isinstance(secret, bool) or secret is None:
        return
    if isinstance(secret, int | float):
        number = repr(secret)
        if len(number) >= _SEARCHED:
            yield rf"(?<![\d.]){re.escape(number)}(?!\d)"
    elif isinstance(secret, str) and len(secret) >= _SEARCHED:
        yield re.escape(secret)
        yield re.escape(msgspec.json.encode(secret).decode()[1:-1])
        yield re.escape(repr(secret)[1:-1])
