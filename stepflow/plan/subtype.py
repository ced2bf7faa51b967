"""Whether every value of one type fits another, as far as JSON Schemas tell."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from stepflow.flow.model import Path
from stepflow.plan.notation import type_text
from stepflow.plan.shared_root import (
    Case,
    Part,
    SharedRoot,
    all_of,
    declared_fields,
    field_schema,
    finite_values,
    is_closed,
    is_pattern,
    is_same,
    is_typed,
    item_schema,
    kinds_of,
    kinds_of_case,
    matches,
    prefix_length,
    required_fields,
)
from stepflow.records import Json

_MOST_STEPS = 5_000
_DEEPEST = 40
_OPAQUE = ("not", "if", "$dynamicRef", "$recursiveRef")
_OPAQUE_OF_KIND: dict[str, tuple[str, ...]] = {
    "object": ("dependentRequired", "dependentSchemas", "dependencies", "propertyNames", "unevaluatedProperties"),
    "array": ("contains", "unevaluatedItems"),
}
_FIELDS = ("properties", "patternProperties", "additionalProperties", "required")
_LOWER = {"minLength": "string", "minItems": "array", "minProperties": "object"}
_UPPER = {"maxLength": "string", "maxItems": "array", "maxProperties": "object"}


class Reason(msgspec.Struct, frozen=True):
    """Why a type does not fit, or why that cannot be told: where in the value, and what."""

    path: Path
    text: str


class Answer(msgspec.Struct, frozen=True):
    holds: bool | None  # None: it cannot be told
    reasons: tuple[Reason, ...] = ()


YES = Answer(True)


def no(at: Path, text: str) -> Answer:
    return Answer(False, (Reason(at, text),))


def unknown(at: Path, text: str) -> Answer:
    return Answer(None, (Reason(at, text),))


def every(answers: Iterable[Answer]) -> Answer:
    """Yes when all are; no as soon as one is no."""
    listed = list(answers)
    for verdict in (False, None):
        reasons = [reason for answer in listed if answer.holds is verdict for reason in answer.reasons]
        if any(answer.holds is verdict for answer in listed):
            return Answer(verdict, tuple(dict.fromkeys(reasons)))
    return YES


def is_subtype(actual: Json, expected: Json, root: SharedRoot | None = None) -> Answer:
    """Whether every value of `actual` fits `expected`.

    Yes is certain. No means that the types are at odds; where only a constraint such as a pattern cannot be proved,
    or nothing is known of a value, the answer is that it cannot be told.
    """
    try:
        return _Relation(root or SharedRoot()).relate(actual, expected, ())
    except RecursionError:
        return unknown((), "the types are nested too deeply")


class _Relation:
    """One question, with what was assumed on the way: a type that contains itself is met again inside itself."""

    def __init__(self, root: SharedRoot) -> None:
        self._root = root
        self._assumed: dict[str, int] = {}
        self._steps = 0
        self._depth = 0

    def relate(self, actual: Json, expected: Json, at: Path) -> Answer:
        if is_same(actual, expected) or not self._root.parts(expected):
            return YES
        key = repr((actual, expected))
        if key in self._assumed:
            return YES if self._assumed[key] < len(at) else unknown(at, "the type refers to itself")
        cases = self._root.cases(actual)
        if cases is None or self._steps > _MOST_STEPS or self._depth > _DEEPEST:
            return unknown(at, "the types are too large to compare")
        self._assumed[key] = len(at)
        try:
            return every([self._case(case, expected, at, None) for case in cases])
        finally:
            del self._assumed[key]

    def _case(self, case: Case, expected: Json, at: Path, only: str | None) -> Answer:
        """`only` restricts the case to one kind of value."""
        self._steps += 1
        if self._steps > _MOST_STEPS or self._depth > _DEEPEST:
            return unknown(at, "the types are too large to compare")
        self._depth += 1
        try:
            return self._kinds(case, expected, at, only)
        finally:
            self._depth -= 1

    def _kinds(self, case: Case, expected: Json, at: Path, only: str | None) -> Answer:
        parts = self._root.parts(expected)
        if not parts:
            return YES
        if not case and only is None:
            return unknown(at, "nothing is known of the value's type")
        values = self._values(case)
        if values is not None:
            return every(self._value(value, expected, at) for value in values)
        kinds = [only] if only is not None else kinds_of_case(case)
        answer = every(self._kind(case, kind, expected, at) for kind in kinds)
        return (
            answer if only is not None or is_typed(case) or answer.holds is not False else Answer(None, answer.reasons)
        )

    def _values(self, case: Case) -> list[Json] | None:
        """The values of a case that lists them."""
        listed = next((values for part in case if (values := finite_values(part)) is not None), None)
        if listed is None:
            return None
        parts = [part for part in case if not _looks_around(part)]
        return [value for value in listed if not any(self._root.violations(part, value) for part in parts)]

    def _value(self, value: Json, expected: Json, at: Path) -> Answer:
        violations = self._root.violations(expected, value)
        if violations is None:
            return unknown(at, "the expected type cannot be used to check a value")
        return every(no((*at, *each.path), each.message) for each in violations)

    def _kind(self, case: Case, kind: str, expected: Json, at: Path) -> Answer:
        if kind == "null":
            return self._value(None, expected, at)
        if kind == "boolean":
            return every(self._value(value, expected, at) for value in (True, False))
        return every(self._part(case, kind, part, at) for part in self._root.parts(expected))

    def _part(self, case: Case, kind: str, part: Part | bool, at: Path) -> Answer:
        if isinstance(part, bool):
            return no(at, "nothing is allowed here")
        if any(is_same(part, each) for each in case) and not _looks_around(part):
            return YES
        if kind not in kinds_of(part) or finite_values(part) is not None:
            return no(at, f"{self._text(case, kind)} is not {type_text(part, self._root)}")
        answers = [self._branches(case, kind, key, part, at) for key in ("anyOf", "oneOf") if key in part]
        opaque = [key for key in (*_OPAQUE, *_OPAQUE_OF_KIND.get(kind, ())) if key in part]
        answers += [unknown(at, f'"{key}" of the expected type cannot be compared') for key in opaque]
        match kind:
            case "integer" | "fraction":
                answers += _numbers(case, kind, part, at)
            case "string":
                answers += _equal(case, part, "pattern", at)
            case "array":
                answers += [*self._items(case, part, at), *_unique(case, part, at)]
            case "object":
                answers += self._fields(case, part, at)
        return every([*answers, *_sizes(case, kind, part, at)])

    def _text(self, case: Case, kind: str) -> str:
        """The case as people read it; one that allows several kinds as the one that does not fit."""
        if any(kind in kinds_of(part) and "type" in part for part in case):
            return type_text(all_of(list(case)), self._root)
        return "number" if kind == "fraction" else kind

    def _branches(self, case: Case, kind: str, key: str, part: Part, at: Path) -> Answer:
        branches = part[key] if isinstance(part[key], list) else []
        answers = [self._case(case, branch, at, kind) for branch in branches]
        fitting = [index for index, answer in enumerate(answers) if answer.holds]
        if fitting and (key == "anyOf" or all(self._apart(kind, b) for i, b in enumerate(branches) if i != fitting[0])):
            return YES
        if fitting or any(answer.holds is None for answer in answers):
            return unknown(at, f'which branch of "{key}" holds cannot be told')
        likely = [answer for answer, branch in zip(answers, branches, strict=True) if not self._apart(kind, branch)]
        if len(likely) == 1:
            return likely[0]
        if likely and kind in ("object", "array"):
            return unknown(at, f'which branch of "{key}" holds cannot be told')  # they may share the values
        return no(at, f"{self._text(case, kind)} is not {type_text(part, self._root)}")

    def _apart(self, kind: str, branch: Json) -> bool:
        """Whether a branch has no value of this kind."""
        cases = self._root.cases(branch)
        return cases is not None and all(kind not in kinds_of_case(case) for case in cases)

    def _fields(self, case: Case, part: Part, at: Path) -> list[Answer]:
        answers = self._named_fields(case, part, at)
        says_nothing = not any(key in each for each in case for key in _FIELDS)
        if says_nothing and any(answer.holds is None for answer in answers):
            return [unknown(at, "nothing is known of the object's properties")]
        return answers

    def _named_fields(self, case: Case, part: Part, at: Path) -> list[Answer]:
        names, sure = declared_fields(case), required_fields(case)
        answers = [_required(case, name, at) for name in part.get("required") or () if name not in sure]
        properties, patterns = part.get("properties") or {}, part.get("patternProperties") or {}
        for name, schema in properties.items():
            answers.append(self.relate(field_schema(case, name), schema, (*at, name)))
        others = part.get("additionalProperties", True)
        if not all(map(is_pattern, patterns)):
            return [*answers, unknown(at, "fields chosen by a pattern cannot be compared")]
        for name in names:
            found = [schema for pattern, schema in patterns.items() if matches(pattern, name)]
            if name not in properties and not found:
                found = [others]
            answers += [self._other(field_schema(case, name), schema, (*at, name)) for schema in found]
        if not is_closed(case) and (patterns or others is not True):
            answers.append(self._rest(case, patterns, others, at))
        return answers

    def _other(self, actual: Json, expected: Json, at: Path) -> Answer:
        if expected is False and self._root.cases(actual) != []:
            return no(at, f'property "{at[-1]}" is not allowed')
        return self.relate(actual, expected, at)

    def _rest(self, case: Case, patterns: dict[str, Any], others: Json, at: Path) -> Answer:
        """Fields that the case does not name."""
        known = [each["additionalProperties"] for each in case if "additionalProperties" in each]
        if patterns or any(each.get("patternProperties") for each in case):
            return unknown(at, "fields chosen by a pattern cannot be compared")
        rest = all_of(known)
        if others is False:
            return unknown(at, "there may be properties that are not allowed")
        return self.relate(rest, others, (*at, "*"))

    def _items(self, case: Case, part: Part, at: Path) -> list[Answer]:
        answers: list[Answer] = []
        most = _longest(case)
        count = max([prefix_length(each) for each in (*case, part)])
        for index in range(count + 1):
            if most is not None and index >= most:
                break
            last = index == count  # stands for all that follow
            place: Path = (*at, "*") if last and not count else (*at, index)
            answers.append(self.relate(item_schema(case, index), item_schema((part,), index), place))
        return answers


def _looks_around(part: Part) -> bool:
    """Whether the part means something else once it is taken out of its schema."""
    return "unevaluatedProperties" in part or "unevaluatedItems" in part


def _required(case: Case, name: str, at: Path) -> Answer:
    names = declared_fields(case)
    if name in names and field_schema(case, name) is not False:
        return no(at, f'property "{name}" may be missing')
    if names or is_closed(case):
        return no(at, f'property "{name}" is missing')
    return unknown(at, f'whether there is a property "{name}" is not known')


def _longest(case: Case) -> int | None:
    """The most items that an array of this case has; None without a limit."""
    limits = [each["maxItems"] for each in case if _is_number(each.get("maxItems"))]
    limits += [prefix_length(each) for each in case if each.get("items") is False]
    return int(min(limits)) if limits else None


def _least(case: Case, key: str) -> float | None:
    found = [each[key] for each in case if _is_number(each.get(key))]
    if key == "minProperties":
        found.append(len(required_fields(case)))
    return max(found, default=None)


def _most(case: Case, key: str) -> float | None:
    if key == "maxItems":
        return _longest(case)
    found = [each[key] for each in case if _is_number(each.get(key))]
    if key == "maxProperties" and is_closed(case):
        found.append(len(declared_fields(case)))
    return min(found, default=None)


def _sizes(case: Case, kind: str, part: Part, at: Path) -> list[Answer]:
    answers: list[Answer] = []
    for lower, of in _LOWER.items():
        if of == kind and lower in part:
            answers.append(
                _at_least(_least(case, lower), _most(case, lower.replace("min", "max")), part[lower], lower, at)
            )
    for upper, of in _UPPER.items():
        if of == kind and upper in part:
            answers.append(
                _at_most(_least(case, upper.replace("max", "min")), _most(case, upper), part[upper], upper, at)
            )
    return answers


_Bound: TypeAlias = float | None


def _at_least(least: _Bound, most: _Bound, wanted: Any, key: str, at: Path) -> Answer:
    if not _is_number(wanted):
        return unknown(at, f'"{key}" cannot be compared')
    if wanted <= 0 and key.startswith("min") and key != "minimum":
        return YES
    if least is not None and least >= wanted:
        return YES
    if most is not None and most < wanted:
        return no(at, f'"{key}" of {wanted} is out of reach')
    return unknown(at, f'"{key}" of {wanted} is not certain')


def _at_most(least: _Bound, most: _Bound, wanted: Any, key: str, at: Path) -> Answer:
    if not _is_number(wanted):
        return unknown(at, f'"{key}" cannot be compared')
    if most is not None and most <= wanted:
        return YES
    if least is not None and least > wanted:
        return no(at, f'"{key}" of {wanted} is always exceeded')
    return unknown(at, f'"{key}" of {wanted} is not certain')


def _numbers(case: Case, kind: str, part: Part, at: Path) -> list[Answer]:
    answers: list[Answer] = []
    low, high = _least(case, "minimum"), _most(case, "maximum")
    above, below = _least(case, "exclusiveMinimum"), _most(case, "exclusiveMaximum")
    least = max((bound for bound in (low, above) if bound is not None), default=None)
    most = min((bound for bound in (high, below) if bound is not None), default=None)
    if "minimum" in part:
        answers.append(_at_least(least, most, part["minimum"], "minimum", at))
    if "maximum" in part:
        answers.append(_at_most(least, most, part["maximum"], "maximum", at))
    wanted = part.get("exclusiveMinimum")
    if wanted is not None:
        sure = _is_number(wanted) and ((low is not None and low > wanted) or (above is not None and above >= wanted))
        answers.append(YES if sure else unknown(at, '"exclusiveMinimum" is not certain'))
    wanted = part.get("exclusiveMaximum")
    if wanted is not None:
        sure = _is_number(wanted) and ((high is not None and high < wanted) or (below is not None and below <= wanted))
        answers.append(YES if sure else unknown(at, '"exclusiveMaximum" is not certain'))
    if "multipleOf" in part:
        answers.append(_multiples(case, kind, part["multipleOf"], at))
    return answers


def _multiples(case: Case, kind: str, wanted: Any, at: Path) -> Answer:
    steps = [each.get("multipleOf") for each in case]
    whole = isinstance(wanted, int) and not isinstance(wanted, bool) and wanted > 0
    if whole and ((kind == "integer" and wanted == 1) or any(isinstance(s, int) and s % wanted == 0 for s in steps)):
        return YES
    return YES if wanted in steps else unknown(at, f'"multipleOf" of {wanted} is not certain')


def _equal(case: Case, part: Part, key: str, at: Path) -> list[Answer]:
    if key not in part or any(each.get(key) == part[key] for each in case):
        return []
    return [unknown(at, f'"{key}" is not certain')]


def _unique(case: Case, part: Part, at: Path) -> list[Answer]:
    longest = _longest(case)
    if part.get("uniqueItems") is not True or (longest is not None and longest <= 1):
        return []
    return _equal(case, part, "uniqueItems", at)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
