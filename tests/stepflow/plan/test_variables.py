"""Variables: declared, resolved, read from the environment; settings; secrets in texts."""

from typing import Any

import pytest

from stepflow.errors import InputInvalidError
from stepflow.flow.model import Flow, Literal, VariableRef
from stepflow.flow.read import flow_from_json
from stepflow.plan.variables import (
    Redactor,
    SettingError,
    VariableInfo,
    declared,
    missing_from_environment,
    resolve_setting,
    resolve_variables,
    variables_from_environment,
)


def flow_with(properties: Any, required: Any = None, **others: Any) -> Flow:
    variables = {"type": "object", "properties": properties}
    if required is not None:
        variables["required"] = required
    return flow_from_json({"schemas": {"properties": {"variables": variables, **others}}})


@pytest.mark.parametrize(
    ("schema", "default"),
    [
        ({"type": "string"}, ""),
        ({"type": "number"}, 0),
        ({"type": "integer"}, 0),
        ({"type": "boolean"}, False),
        ({"type": ["string", "null"]}, None),
    ],
)
def test_a_variable_that_is_not_required_has_the_default_of_its_type(schema: Any, default: Any) -> None:
    flow = flow_with({"v": schema})

    (info,) = declared(flow)

    assert (info.has_default, info.implied, info.default) == (True, True, default)
    assert resolve_variables(flow, {}).values == {"v": default}


@pytest.mark.parametrize(
    "schema", [{"type": "object"}, {"type": "array"}, {"type": "null"}, {}, True, {"type": ["string", "integer"]}]
)
def test_other_types_imply_no_default(schema: Any) -> None:
    flow = flow_with({"v": schema})

    (info,) = declared(flow)

    assert not info.has_default
    assert resolve_variables(flow, {}).values == {}


def test_a_required_variable_has_no_implied_default() -> None:
    (info,) = declared(flow_with({"v": {"type": "string"}}, required=["v"]))

    assert info.required
    assert not info.has_default


def test_a_written_default_wins_and_a_given_null_counts() -> None:
    flow = flow_with({"limit": {"type": ["integer", "null"], "default": 3}}, required=["limit"])

    assert resolve_variables(flow, {}).values == {"limit": 3}
    assert resolve_variables(flow, {"limit": 5}).values == {"limit": 5}
    assert resolve_variables(flow, {"limit": None}).values == {"limit": None}


def test_what_is_declared_tells_everything_about_a_variable() -> None:
    schema = {"type": "string", "env_var": "KEY", "is_secret": True, "description": "of the API"}
    (info,) = declared(flow_with({"key": schema}, required=["key"]))

    assert info == VariableInfo(
        name="key", schema=schema, required=True, env_var="KEY", secret=True, description="of the API"
    )


def test_a_default_behind_a_reference_is_found() -> None:
    flow = flow_from_json(
        {
            "schemas": {
                "$defs": {"Limit": {"type": "integer", "default": 9, "is_secret": True}},
                "properties": {"variables": {"properties": {"limit": {"$ref": "#/schemas/$defs/Limit"}}}},
            }
        }
    )

    (info,) = declared(flow)

    assert (info.default, info.implied, info.secret) == (9, False, True)


def test_variables_that_are_not_declared_may_be_given() -> None:
    assert resolve_variables(flow_with({}), {"extra": [1]}).values == {"extra": [1]}
    assert resolve_variables(Flow(), {"extra": [1]}).values == {"extra": [1]}


def test_a_name_close_to_a_declared_one_is_doubted() -> None:
    flow = flow_with({"limit": {"type": "integer"}, "mode": {"type": "string"}})

    resolved = resolve_variables(flow, {"limt": 5, "other": 1, "mode": "x"})

    assert [str(each) for each in resolved.problems] == [
        'warning: variable "limt" is not declared ($.variables.limt); did you mean "limit"?'
    ]
    assert resolved.values == {"limit": 0, "mode": "x", "limt": 5, "other": 1}


def test_strict_refuses_missing_and_misfitting_values_at_once() -> None:
    flow = flow_with(
        {"key": {"type": "string"}, "limits": {"type": "array", "items": {"type": "integer"}}}, required=["key"]
    )

    with pytest.raises(InputInvalidError) as caught:
        resolve_variables(flow, {"limits": [1, "x"]}, validation="strict")

    missing, misfit = caught.value.problems
    assert (missing.path, missing.message) == (
        "$.variables.key",
        'variable "key" is required and has no value (required)',
    )
    assert "STEPFLOW_VAR_KEY" in str(missing.remedy)
    assert (misfit.path, misfit.message) == (
        "$.variables.limits[1]",
        'variable "limits": "x" is not of type "integer" (type)',
    )


def test_a_missing_variable_names_a_likely_misspelling() -> None:
    with pytest.raises(InputInvalidError, match='"api_kye" was given, which the flow does not declare'):
        resolve_variables(flow_with({"api_key": {"type": "string"}}, required=["api_key"]), {"api_kye": "x"})


def test_warn_returns_the_problems_and_off_finds_none() -> None:
    flow = flow_with({"limit": {"type": "integer"}})

    warned = resolve_variables(flow, {"limit": "x"}, validation="warn")
    ignored = resolve_variables(flow, {"limit": "x"}, validation="off")

    assert [(each.path, each.level) for each in warned.problems] == [("$.variables.limit", "warning")]
    assert ignored.problems == ()
    assert warned.values == ignored.values == {"limit": "x"}


def test_defaults_are_never_refused() -> None:
    flow = flow_with({"mode": {"type": "string", "enum": ["fast", "slow"]}})

    assert resolve_variables(flow, {}).values == {"mode": ""}


def test_a_secret_value_stays_out_of_the_problem() -> None:
    flow = flow_with({"key": {"type": "string", "minLength": 30, "is_secret": True}})

    with pytest.raises(InputInvalidError) as caught:
        resolve_variables(flow, {"key": "hunter2"})

    assert "hunter2" not in str(caught.value)


def test_a_schema_that_cannot_be_used_is_a_problem() -> None:
    with pytest.raises(InputInvalidError, match="schema of the variables cannot be used"):
        resolve_variables(flow_with({"v": {"type": "nonsense"}}), {})


ENVIRONMENT = flow_with(
    {
        "key": {"type": "string", "env_var": "API_KEY"},
        "limit": {"type": "integer"},
        "code": {"type": "string"},
        "tags": {},
    },
    required=["key", "limit"],
)


def test_variables_come_from_the_annotated_or_the_usual_name() -> None:
    environ = {"API_KEY": "abc", "STEPFLOW_VAR_LIMIT": "12", "STEPFLOW_VAR_TAGS": '["a"]', "STEPFLOW_VAR_OTHER": "1"}

    values = variables_from_environment(ENVIRONMENT, {}, environ)

    assert values == {"key": "abc", "limit": 12, "tags": ["a"]}


def test_given_values_win_over_the_environment() -> None:
    assert variables_from_environment(ENVIRONMENT, {"limit": None}, {"STEPFLOW_VAR_LIMIT": "12"}) == {"limit": None}


@pytest.mark.parametrize(
    ("text", "value"), [("0123", "0123"), ("123", "123"), ("true", "true"), ('"quoted"', "quoted"), ("NaN", "NaN")]
)
def test_text_stays_text_where_only_text_fits(text: str, value: str) -> None:
    assert variables_from_environment(ENVIRONMENT, {}, {"API_KEY": text})["key"] == value


def test_text_that_is_no_json_stays_text_and_other_text_is_read() -> None:
    assert variables_from_environment(ENVIRONMENT, {}, {"STEPFLOW_VAR_TAGS": "0123"})["tags"] == "0123"
    assert variables_from_environment(ENVIRONMENT, {}, {"STEPFLOW_VAR_TAGS": "123"})["tags"] == 123


def test_the_missing_ones_are_named_with_what_was_looked_for() -> None:
    missing = missing_from_environment(ENVIRONMENT, {}, {"API_KEY": "x"})

    assert missing == (("limit", "STEPFLOW_VAR_LIMIT"),)


def test_a_setting_is_a_number_or_the_variable_that_holds_it() -> None:
    values: dict[str, Any] = {"wait": {"seconds": 2.5}, "tries": 3.0}

    assert resolve_setting(10, values, key="timeout") == 10
    assert resolve_setting(VariableRef(("wait", "seconds")), values, key="timeout") == 2.5
    assert resolve_setting(VariableRef(("absent",), Literal(7)), values, key="timeout") == 7
    tries = resolve_setting(VariableRef(("tries",)), values, key="maxRetries")
    assert (tries, type(tries)) == (3, int)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("timeout", 0, "above 0, not 0"),
        ("timeout", True, "a boolean"),
        ("timeout", "5", "not a string"),
        ("timeout", None, "not null"),
        ("timeout", float("nan"), "out of all bounds"),
        ("timeout", 10**400, "out of all bounds"),
        ("maxRetries", 1.5, "whole number from 0 on, not 1.5"),
        ("maxRetries", -1, "whole number from 0 on, not -1"),
        ("delayMs", -1, "from 0 on"),
        ("factor", 0.5, "from 1 on"),
    ],
)
def test_a_setting_out_of_range_says_what_is_wanted(key: str, value: Any, part: str) -> None:
    with pytest.raises(SettingError, match=part):
        resolve_setting(VariableRef(("v",)), {"v": value}, key=key)


def test_settings_are_checked_at_submission_whatever_the_validation() -> None:
    flow = flow_from_json(
        {
            "steps": [
                {
                    "id": "call",
                    "component": "/x",
                    "timeout": {"$variable": "wait"},
                    "onError": {"action": "retry", "maxRetries": {"$variable": "tries"}},
                }
            ]
        }
    )

    with pytest.raises(InputInvalidError) as caught:
        resolve_variables(flow, {"wait": "long"}, validation="off")

    first, second = caught.value.problems
    assert first.message == (
        'step "call", timeout: the value of variable "wait" must be a number of seconds above 0, not a string'
    )
    assert first.path == "$.steps[0].timeout"
    assert second.message == 'step "call", onError.maxRetries: variable "tries" has no value'
    assert resolve_variables(flow, {"wait": 1, "tries": 0}).problems == ()


def test_texts_are_shown_without_secrets() -> None:
    flow = flow_with(
        {"key": {"is_secret": True}, "open": {"type": "string"}},
        input={"properties": {"users": {"type": "array", "items": {"properties": {"pin": {"is_secret": True}}}}}},
    )
    redactor = Redactor(flow, {"key": {"token": "hunter2\n", "id": 12345, "on": True}, "open": "public"})

    shown = redactor.redact(r"hunter2\n for 12345 (not 112345), public true 9876", {"users": [{"pin": "9876"}]})

    assert shown == "[REDACTED] for [REDACTED] (not 112345), public true [REDACTED]"


def test_short_values_are_not_searched_for() -> None:
    redactor = Redactor(flow_with({"key": {"is_secret": True}}), {"key": ["", "a", "abc", 7, None, False]})

    assert redactor.redact("a abc 7 None False") == "a abc 7 None False"


def test_a_secret_inside_a_longer_secret_leaves_nothing_behind() -> None:
    redactor = Redactor(flow_with({"key": {"is_secret": True}}), {"key": ["hunter2", "hunter2-and-more"]})

    assert redactor.redact("hunter2-and-more hunter2") == "[REDACTED] [REDACTED]"


def test_a_flow_without_marks_changes_nothing() -> None:
    assert Redactor(Flow(), {"key": "hunter2"}).redact("hunter2", {"a": "hunter2"}) == "hunter2"
