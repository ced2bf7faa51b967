"""The canonical text of values and flows, and the content ids made of it."""

from collections.abc import Callable
from json.encoder import encode_basestring
from typing import TypeAlias

from stepflow.flow.expression import expression_to_json
from stepflow.flow.model import (
    Backoff,
    Example,
    Expected,
    Flow,
    OnError,
    Schemas,
    Setting,
    Step,
    TestCase,
    TestSection,
    VariableRef,
)
from stepflow.records import BlobId, Json, blob_id

_Free: TypeAlias = Callable[[Json], Json] | None
"""What to do with free-form JSON inside a flow. None: leave it as it is."""

_TWO_63 = 2.0**63


def recover_integers(value: Json) -> Json:
    """A copy in which every whole number that fits in 64 bits with a sign is an integer."""
    match value:
        case float():
            return recovered(value)
        case list():
            return [recover_integers(item) for item in value]
        case dict():
            return {name: recover_integers(item) for name, item in value.items()}
        case _:
            return value


def recovered(number: float) -> int | float:
    """The number, as an integer where it is whole and 64 bits with a sign hold it."""
    return int(number) if -_TWO_63 <= number < _TWO_63 and number.is_integer() else number


def canonical_json(value: Json) -> str:
    """The text whose bytes make the id of a JSON blob: keys sorted, no blanks, numbers as doubles would print.

    Numbers go through a double, as they do in every message between processes, and become integers again where
    they fit in 64 bits with a sign.
    """
    return _text(_sorted(value, _through_double))


def compact_json(value: Json) -> str:
    """The text whose bytes the `put_blob` component stores: keys and numbers as they are, no blanks."""
    return _text(value)


def flow_id(flow: Flow) -> BlobId:
    return blob_id(canonical_flow(flow).encode())


def canonical_flow(flow: Flow) -> str:
    """The one text of a flow. Read as JSON it gives an equal flow."""
    return _text(_flow(flow, _canonical_free))


def flow_to_json(flow: Flow) -> dict[str, Json]:
    """The flow as a document: declared keys in their order, numbers and free-form objects as they are."""
    return _flow(flow, None)


def step_to_json(step: Step) -> dict[str, Json]:
    return _step(step, None)


def _canonical_free(value: Json) -> Json:
    return _sorted(value, _as_double)


def _sorted(value: Json, number: Callable[[int | float], int | float]) -> Json:
    match value:
        case bool() | None | str():
            return value
        case int() | float():
            return number(value)
        case list():
            return [_sorted(item, number) for item in value]
        case _:
            return {name: _sorted(value[name], number) for name in sorted(value)}


def _through_double(number: int | float) -> int | float:
    double = float(number)
    if double == _TWO_63:
        return 2**63 - 1  # as a conversion that saturates gives; ids were made this way
    return recovered(double)


def _as_double(number: int | float) -> int | float:
    """An integer as a double, where reading it again gives the integer back."""
    exact = -(2**63) <= number < 2**63 and int(float(number)) == number if isinstance(number, int) else False
    return float(number) if exact else number


def _text(value: Json) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _double_text(value)
        case str():
            return encode_basestring(value)
        case list():
            return "[" + ",".join(map(_text, value)) + "]"
        case _:
            return "{" + ",".join(f"{encode_basestring(name)}:{_text(item)}" for name, item in value.items()) + "}"


def _double_text(number: float) -> str:
    """The shortest digits that read back as the double; decimal for exponents of ten from -5 to 15."""
    text = repr(number)
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    if exponent == "-05":
        sign, digits = ("-", mantissa[1:]) if mantissa.startswith("-") else ("", mantissa)
        return f"{sign}0.0000{digits.replace('.', '')}"
    return f"{mantissa}e{int(exponent):+d}"


def _members(*members: tuple[str, Json]) -> dict[str, Json]:
    """An object of the members that are not null."""
    return {name: value for name, value in members if value is not None}


def _flow(flow: Flow, free: _Free) -> dict[str, Json]:
    return _members(
        ("name", flow.name),
        ("description", flow.description),
        ("version", flow.version),
        ("schemas", _schemas(flow.schemas, free)),
        ("steps", [_step(step, free) for step in flow.steps] or None),
        ("output", expression_to_json(flow.output, free)),
        ("test", _test(flow.test, free)),
        ("examples", None if flow.examples is None else [_example(example, free) for example in flow.examples]),
        ("metadata", _apply(free, flow.metadata or None)),
    )


def _apply(free: _Free, value: Json) -> Json:
    return value if free is None else free(value)


def _schemas(schemas: Schemas, free: _Free) -> Json:
    steps = _apply(free, schemas.steps or None)
    properties = _members(
        ("input", _apply(free, schemas.input)),
        ("output", _apply(free, schemas.output)),
        ("variables", _apply(free, schemas.variables)),
        ("steps", None if steps is None else {"type": "object", "properties": steps}),
    )
    defs = _apply(free, schemas.defs or None)
    if not properties and defs is None:
        return None
    return _members(("type", "object"), ("$defs", defs), ("properties", properties or None))


def _step(step: Step, free: _Free) -> dict[str, Json]:
    return _members(
        ("id", step.id),
        ("component", step.component),
        ("onError", _on_error(step.on_error, free)),
        ("timeout", _setting(step.timeout, free)),
        ("input", expression_to_json(step.input, free)),
        ("mustExecute", step.must_execute),
        ("metadata", _apply(free, step.metadata or None)),
    )


def _on_error(on_error: OnError | None, free: _Free) -> Json:
    if on_error is None:
        return None
    return _members(
        ("action", on_error.action),
        ("defaultValue", _apply(free, on_error.default)),
        ("maxRetries", _setting(on_error.max_retries, free)),
        ("backoff", _backoff(on_error.backoff, free)),
    )


def _backoff(backoff: Backoff | None, free: _Free) -> Json:
    if backoff is None:
        return None
    return _members(
        ("type", backoff.type),
        ("delayMs", _setting(backoff.delay_ms, free)),
        ("minDelayMs", _setting(backoff.min_delay_ms, free)),
        ("maxDelayMs", _setting(backoff.max_delay_ms, free)),
        ("factor", _setting(backoff.factor, free)),
    )


def _setting(setting: Setting | None, free: _Free) -> Json:
    return expression_to_json(setting, free) if isinstance(setting, VariableRef) else setting


def _test(test: TestSection | None, free: _Free) -> Json:
    if test is None:
        return None
    return _members(
        ("configFile", test.config_file),
        ("config", _apply(free, test.config)),
        ("cases", [_case(case, free) for case in test.cases] or None),
    )


def _case(case: TestCase, free: _Free) -> Json:
    head = _members(("name", case.name), ("description", case.description))
    tail = _members(("output", None if case.output is None else _expected(case.output, free)))
    return {**head, "input": _apply(free, case.input), **tail}


def _expected(expected: Expected, free: _Free) -> Json:
    error = expected.error
    if error is None:
        return {"outcome": "success", "result": _apply(free, expected.result)}
    data = _apply(free, error.data)
    return {
        "outcome": "failed",
        "error": _members(("code", error.code), ("message", error.message), ("data", data)),
    }


def _example(example: Example, free: _Free) -> Json:
    head = _members(("name", example.name), ("description", example.description))
    return {**head, "input": _apply(free, example.input)}
