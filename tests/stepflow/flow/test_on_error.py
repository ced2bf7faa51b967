"""What a step does when it fails, as the document says it."""

from typing import Any

import pytest

from stepflow.errors import FlowInvalidError, Problem
from stepflow.flow.model import Backoff, Literal, OnError, VariableRef
from stepflow.flow.read import flow_from_json


def flow_with(**step: Any) -> Any:
    return flow_from_json({"steps": [{"id": "a", "component": "/a", **step}]})


def on_error(value: Any) -> OnError | None:
    found: OnError | None = flow_with(onError=value).steps[0].on_error
    return found


def problem(**step: Any) -> Problem:
    with pytest.raises(FlowInvalidError) as caught:
        flow_with(**step)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ({"action": "fail"}, OnError(action="fail")),
        ({"action": "fail", "maxRetries": 3}, OnError(action="fail")),
        ({"action": "useDefault"}, OnError(action="useDefault")),
        ({"action": "useDefault", "defaultValue": None}, OnError(action="useDefault")),
        (
            {"action": "useDefault", "defaultValue": {"$input": "x"}, "maxRetries": 2},
            OnError(action="useDefault", default={"$input": "x"}, has_default=True, max_retries=2),
        ),
        (
            {"action": "useDefault", "defaultValue": False},
            OnError(action="useDefault", default=False, has_default=True),
        ),
        ({"action": "retry", "maxRetries": None}, OnError(action="retry")),
        ({"action": "retry", "maxRetries": 3.0}, OnError(action="retry", max_retries=3)),
        ({"action": "retry", "maxRetries": 0}, OnError(action="retry", max_retries=0)),
        (
            {"action": "retry", "maxRetries": {"$variable": "tries"}},
            OnError(action="retry", max_retries=VariableRef(("tries",))),
        ),
        (
            {"action": "retry", "maxRetries": {"$variable": "$.limits.tries", "default": 2}},
            OnError(action="retry", max_retries=VariableRef(("limits", "tries"), Literal(2))),
        ),
        (
            {"action": "retry", "backoff": {"type": "constant", "delayMs": 100, "factor": 2}},
            OnError(action="retry", backoff=Backoff(type="constant", delay_ms=100)),
        ),
        (
            {"action": "retry", "backoff": {"type": "exponential", "minDelayMs": 0, "maxDelayMs": 5.5, "factor": 1.5}},
            OnError(action="retry", backoff=Backoff(type="exponential", min_delay_ms=0, max_delay_ms=5.5, factor=1.5)),
        ),
        (
            {"action": "retry", "backoff": {"type": "fibonacci", "minDelayMs": {"$variable": "d"}}},
            OnError(action="retry", backoff=Backoff(type="fibonacci", min_delay_ms=VariableRef(("d",)))),
        ),
    ],
)
def test_on_error_is_read(value: Any, expected: OnError | None) -> None:
    assert on_error(value) == expected


@pytest.mark.parametrize(
    ("value", "path", "message", "remedy"),
    [
        ("retry", "$.steps[0].onError", "`onError` is an object, not a string", ""),
        ({}, "$.steps[0].onError", "`action` is missing", ""),
        ({"action": 3}, "$.steps[0].onError.action", "`action` is a string", "put it in quotes"),
        (
            {"action": "use_default"},
            "$.steps[0].onError.action",
            "no action `use_default`",
            "did you mean `useDefault`?",
        ),
        ({"action": "continue"}, "$.steps[0].onError.action", "no action", "did you mean `useDefault`?"),
        ({"action": "terminate"}, "$.steps[0].onError.action", "no action", "did you mean `fail`?"),
        ({"action": "retrys"}, "$.steps[0].onError.action", "no action", "did you mean `retry`?"),
        ({"action": "zzz"}, "$.steps[0].onError.action", "no action", "fail, useDefault and retry"),
        ({"action": "retry", "maxRetries": -1}, "$.steps[0].onError.maxRetries", "not -1", "{$variable: name}"),
        ({"action": "retry", "maxRetries": 2.5}, "$.steps[0].onError.maxRetries", "not 2.5", ""),
        ({"action": "retry", "maxRetries": True}, "$.steps[0].onError.maxRetries", "not a boolean", ""),
        ({"action": "retry", "maxRetries": "3"}, "$.steps[0].onError.maxRetries", "not a string", ""),
        ({"action": "retry", "maxRetries": 2**32}, "$.steps[0].onError.maxRetries", "not 4294967296", ""),
        ({"action": "retry", "maxRetries": {"$input": "a"}}, "$.steps[0].onError.maxRetries", "or a variable", ""),
        ({"action": "retry", "maxRetries": {"$variable": "$"}}, "$.steps[0].onError.maxRetries", "or a variable", ""),
        (
            {"action": "retry", "maxRetries": {"$variable": "$[0]"}},
            "$.steps[0].onError.maxRetries",
            "or a variable",
            "",
        ),
        ({"action": "retry", "maxRetries": {"$variable": 1}}, "$.steps[0].onError.maxRetries.$variable", "a path", ""),
        (
            {"action": "retry", "maxRetries": {"$variable": "a", "default": "b"}},
            "$.steps[0].onError.maxRetries",
            "the default of `maxRetries` is a whole number from 0 on",
            "",
        ),
        ({"action": "retry", "backoff": {"delayMs": 1}}, "$.steps[0].onError.backoff", "`type` is missing", ""),
        ({"action": "retry", "backoff": {"type": "linear"}}, "$.steps[0].onError.backoff.type", "`linear`", "constant"),
        (
            {"action": "retry", "backoff": {"type": "constant", "delayMs": -5}},
            "$.steps[0].onError.backoff.delayMs",
            "`delayMs` is a number of milliseconds from 0 on, not -5",
            "",
        ),
        (
            {"action": "retry", "backoff": {"type": "exponential", "factor": 0.5}},
            "$.steps[0].onError.backoff.factor",
            "`factor` is a number from 1 on, not 0.5",
            "",
        ),
    ],
)
def test_a_wrong_on_error_is_refused(value: Any, path: str, message: str, remedy: str) -> None:
    found = problem(onError=value)

    assert found.path == path
    assert message in found.message
    assert remedy in (found.remedy or "")


@pytest.mark.parametrize(
    ("value", "message", "remedy"),
    [
        ({"action": "fail", "maxRetries": 3}, "`maxRetries` has no effect with the action `fail`", ""),
        ({"action": "retry", "defaultValue": 3}, "`defaultValue` has no effect with the action `retry`", ""),
        ({"action": "useDefault", "default_output": 3}, "`default_output` is unknown", "did you mean `defaultValue`?"),
        ({"action": "retry", "max_retries": 3}, "`max_retries` is unknown", "did you mean `maxRetries`?"),
        (
            {"action": "retry", "backoff": {"type": "constant", "factor": 3}},
            "`factor` has no effect with the type `constant`",
            "",
        ),
    ],
)
def test_what_has_no_effect_is_warned_about(value: Any, message: str, remedy: str) -> None:
    (warning,) = flow_with(onError=value).warnings

    assert message in warning.message
    assert remedy in (warning.remedy or "")


def test_a_step_may_have_a_timeout() -> None:
    assert flow_with(timeout=1.5).steps[0].timeout == 1.5
    assert flow_with(timeout={"$variable": "t"}).steps[0].timeout == VariableRef(("t",))
    assert flow_with(timeout=None).steps[0].timeout is None


@pytest.mark.parametrize("timeout", [0, -1, "5s", True, [], {"$variable": "t", "default": 0}])
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    assert "a number of seconds above 0" in problem(timeout=timeout).message
