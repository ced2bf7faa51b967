"""Whether an outcome is the one that a test case expects, and how the two differ. Pure."""

from difflib import unified_diff

from stepflow.flow.model import Expected
from stepflow.records import Json
from stepflow.testing.yaml_block import yaml_block

_NIL = "00000000-0000-0000-0000-000000000000"


def normalise(value: Json) -> Json:
    """The value without what differs from run to run: `run_id` strings become the nil UUID, `backtrace` keys go.

    So does the traceback in the data of a component's failure. Keys are sorted, so that two equal values print alike.
    """
    match value:
        case dict():
            dropped = ("backtrace", "traceback") if "exception_type" in value else ("backtrace",)
            return {
                key: _NIL if key == "run_id" and isinstance(value[key], str) else normalise(value[key])
                for key in sorted(value, key=_place)
                if key not in dropped
            }
        case list():
            return [normalise(item) for item in value]
        case _:
            return value


def _place(key: str) -> tuple[bool, str]:
    return key != "outcome", key  # a result object begins with it


def expected_json(expected: Expected) -> dict[str, Json]:
    """A case's expectation as a result object of the flow language."""
    if expected.error is None:
        return {"outcome": "success", "result": expected.result}
    error: dict[str, Json] = {"code": expected.error.code, "message": expected.error.message}
    if expected.error.data is not None:
        error["data"] = expected.error.data
    return {"outcome": "failed", "error": error}


def matches(expected: Json, actual: Json) -> bool:
    """Whether everything expected is there; objects may hold more.

    Numbers are equal by value, so 1 is 1.0, but no number is a boolean.
    """
    match expected, actual:
        case dict(), dict():
            return all(key in actual and matches(item, actual[key]) for key, item in expected.items())
        case list(), list():
            return len(expected) == len(actual) and all(map(matches, expected, actual))
        case _:
            return _same(expected, actual)


def outcome_matches(expected: Json, actual: Json) -> bool:
    """The rule for whole result objects: a failure's code and message are equal, its data matches in part."""
    return matches(normalise(expected), normalise(actual))


def _same(expected: Json, actual: Json) -> bool:
    numbers = [isinstance(side, int | float) and not isinstance(side, bool) for side in (expected, actual)]
    return expected == actual and (all(numbers) or type(expected) is type(actual))


def difference(expected: Json, actual: Json) -> str:
    """A unified diff of both as YAML, without what the actual value has beyond the expected one. Empty: they match."""
    wanted, got = normalise(expected), normalise(actual)
    if matches(wanted, got):
        return ""
    before = yaml_block(wanted).splitlines(keepends=True)
    after = yaml_block(_part(wanted, got)).splitlines(keepends=True)
    return "".join(unified_diff(before, after, "expected", "actual", n=3))


def _part(expected: Json, actual: Json) -> Json:
    """What of the actual value the expected one speaks of. What matches is shown as expected (1 and 1.0)."""
    match expected, actual:
        case dict(), dict():
            shared = {key: _part(item, actual[key]) for key, item in expected.items() if key in actual}
            return shared or actual
        case list(), list() if len(expected) == len(actual):
            return [_part(wanted, got) for wanted, got in zip(expected, actual, strict=True)]
        case _:
            return expected if matches(expected, actual) else actual
