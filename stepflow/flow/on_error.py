"""What a step does when it fails: reading `onError`, and numbers that a variable may hold."""

from collections.abc import Callable

from stepflow.flow.expression import kind, parse_expression
from stepflow.flow.fields import Fields
from stepflow.flow.model import Backoff, Literal, OnError, Setting, VariableRef
from stepflow.flow.words import closest, shorten
from stepflow.records import Json

_ACTIONS = {"fail": (), "useDefault": ("defaultValue", "maxRetries", "backoff"), "retry": ("maxRetries", "backoff")}
_KEYS = ("action", "defaultValue", "maxRetries", "backoff")
_ADVICE = {
    **dict.fromkeys(("default_output", "defaultOutput", "default", "value"), "did you mean `defaultValue`?"),
    **dict.fromkeys(("retries", "maxAttempts", "max_attempts"), "did you mean `maxRetries`?"),
}
_MEANT = {"continue": "useDefault", "default": "useDefault", "skip": "useDefault", "terminate": "fail", "abort": "fail"}
_BACKOFFS = {
    "constant": ("delayMs",),
    "exponential": ("minDelayMs", "maxDelayMs", "factor"),
    "fibonacci": ("minDelayMs", "maxDelayMs"),
}
_BACKOFF_KEYS = ("type", "delayMs", "minDelayMs", "maxDelayMs", "factor")


def read_on_error(step: Fields) -> OnError | None:
    value = step.object("onError")
    if value is None:
        return None
    fields = Fields(value, (*step.at, "onError"), step.findings)
    fields.warn_unknown(_KEYS, _ADVICE)
    action = _action(fields)
    if action is None:
        return None
    for name in _KEYS[1:]:
        if name not in _ACTIONS[action]:
            fields.warn_useless(name, f"with the action `{action}`")
    default = value.get("defaultValue") if action == "useDefault" else None
    retries = read_setting(fields, "maxRetries", "a whole number from 0 on", _is_count)
    backoff = _backoff(fields)
    if action == "fail":
        return OnError(action=action)
    return OnError(
        action=action, default=default, has_default=default is not None, max_retries=retries, backoff=backoff
    )


def _action(fields: Fields) -> str | None:
    fields.require("action")
    action = fields.string("action")
    if action is None or action in _ACTIONS:
        return action
    near = _MEANT.get(action) or closest(action, list(_ACTIONS))
    remedy = f"did you mean `{near}`?" if near else "the actions are fail, useDefault and retry"
    fields.refuse("action", f"there is no action `{shorten(action)}`", remedy)
    return None


def _backoff(on_error: Fields) -> Backoff | None:
    value = on_error.object("backoff")
    if value is None:
        return None
    fields = Fields(value, (*on_error.at, "backoff"), on_error.findings)
    fields.warn_unknown(_BACKOFF_KEYS, {})
    fields.require("type")
    type = fields.string("type")
    if type is not None and type not in _BACKOFFS:
        near = closest(type, list(_BACKOFFS))
        remedy = f"did you mean `{near}`?" if near else "the types are constant, exponential and fibonacci"
        fields.refuse("type", f"there is no back-off of type `{shorten(type)}`", remedy)
    for name in _BACKOFF_KEYS[1:]:
        if name not in _BACKOFFS.get(type or "", _BACKOFF_KEYS):
            fields.warn_useless(name, f"with the type `{type}`")
    return _settings(fields, type)


def _settings(fields: Fields, type: str | None) -> Backoff:
    delays = {
        name: read_setting(fields, name, "a number of milliseconds from 0 on", lambda number: number >= 0)
        for name in _BACKOFF_KEYS[1:4]
    }
    factor = read_setting(fields, "factor", "a number from 1 on", lambda number: number >= 1)
    used = _BACKOFFS.get(type or "", ())
    return Backoff(
        type=type or "",
        delay_ms=delays["delayMs"] if "delayMs" in used else None,
        min_delay_ms=delays["minDelayMs"] if "minDelayMs" in used else None,
        max_delay_ms=delays["maxDelayMs"] if "maxDelayMs" in used else None,
        factor=factor if "factor" in used else None,
    )


def read_setting(fields: Fields, name: str, described: str, fits: Callable[[float], bool]) -> Setting | None:
    """A number, or the variable that holds it. `described` says what number, `fits` whether one is of that kind."""
    value = fields.value.get(name)
    if value is None:
        return None
    if isinstance(value, dict):
        return _variable(fields, name, value, described, fits)
    if isinstance(value, int | float) and not isinstance(value, bool) and fits(value):
        return value
    shown = value if isinstance(value, int | float) and not isinstance(value, bool) else kind(value)
    fields.refuse(name, f"`{name}` is {described}, not {shown}", "write a number or {$variable: name}")
    return None


def _variable(
    fields: Fields, name: str, value: dict[str, Json], described: str, fits: Callable[[float], bool]
) -> Setting | None:
    before = len(fields.findings.problems)
    reference = parse_expression(value, (*fields.at, name), fields.findings.problems)
    if len(fields.findings.problems) > before:
        return None
    if not isinstance(reference, VariableRef) or not reference.path or not isinstance(reference.path[0], str):
        fields.refuse(name, f"`{name}` is {described}, or a variable", "write a number or {$variable: name}")
        return None
    match reference.default:
        case None:
            return reference
        case Literal(int() | float() as default) if not isinstance(default, bool) and fits(default):
            return reference
        case _:
            fields.refuse(name, f"the default of `{name}` is {described}", "write a number")
            return None


def _is_count(number: float) -> bool:
    return isinstance(number, int) and 0 <= number < 2**32
