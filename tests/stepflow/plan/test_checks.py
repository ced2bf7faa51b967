"""Every diagnostic of the catalogue by a small flow: code, level, path and data."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepflow.errors import FlowInvalidError
from stepflow.flow.model import Flow
from stepflow.flow.read import flow_from_json, flow_text
from stepflow.plan.checks import Diagnostic, check, located
from stepflow.plan.infer import infer
from stepflow.plan.types import type_check
from stepflow.records import ComponentInfo

NAMED = {"name": "n", "description": "d"}


def flow(steps: Any = (), output: Any = None, **others: Any) -> Flow:
    return flow_from_json({**NAMED, "steps": list(steps), "output": output, **others})


def step(id: str, input: Any = None, component: str = "/c", **others: Any) -> dict[str, Any]:
    return {"id": id, "component": component, "input": input, **others}


def shown(found: Diagnostic) -> tuple[int, str, str, dict[str, Any]]:
    return found.code, found.level, found.path, found.data


def only(flow: Flow, *, but: tuple[int, ...] = ()) -> Diagnostic:
    (found,) = [each for each in check(flow) if each.code not in but]
    return found


def variables(**properties: Any) -> dict[str, Any]:
    return {"properties": {"variables": {"properties": properties}}}


def test_a_sound_flow_has_no_findings() -> None:
    sound = flow(
        [step("a", {"$input": "x"}), step("b", {"$step": "a"})],
        {"$step": "b"},
        schemas={"properties": {"input": {"type": "object"}}},
    )

    assert check(sound) == ()


def test_an_empty_flow_only_lacks_name_and_description() -> None:
    found = check(flow_from_json({}))

    assert [shown(each) for each in found] == [
        (1001, "warning", "$.name", {}),
        (1002, "warning", "$.description", {}),
    ]


def test_a_blank_name_counts_as_missing_and_an_empty_description_as_present() -> None:
    assert [each.code for each in check(flow_from_json({"name": " ", "description": ""}))] == [1001]


def test_an_id_used_twice_is_fatal_at_every_later_use() -> None:
    used = {"$step": "a"}
    found = [each for each in check(flow([step("a"), step("a"), step("a")], used)) if each.code == 3000]

    assert [shown(each) for each in found] == [
        (3000, "fatal", "$.steps[1].id", {"step_id": "a"}),
        (3000, "fatal", "$.steps[2].id", {"step_id": "a"}),
    ]
    assert found[0].kind == "duplicateStepId"


@pytest.mark.parametrize("id", ["", " ", "\t\n"])
def test_a_blank_id_is_fatal(id: str) -> None:
    found = only(flow([step(id)], {"$step": id}))

    assert shown(found) == (3001, "fatal", "$.steps[0].id", {})
    assert found.kind == "emptyStepId"


def test_a_step_that_names_itself_is_fatal() -> None:
    found = only(flow([step("a", {"x": {"$step": "a"}})]))

    assert shown(found) == (3002, "fatal", "$.steps[0].input.x", {"step_id": "a"})
    assert found.message == 'step "a" refers to itself'


def test_no_step_id_is_reserved() -> None:
    assert check(flow([step("workflow_output")], {"$step": "workflow_output"})) == ()


def test_an_unknown_step_is_fatal_and_says_what_was_meant() -> None:
    found = only(flow([step("count"), step("b", [{"$step": "cuont"}])], [{"$step": "b"}, {"$step": "count"}]))

    assert shown(found) == (3003, "fatal", "$.steps[1].input[0]", {"from_step": "b", "referenced_step": "cuont"})
    assert found.message == 'step "cuont" is not defined; did you mean "count"?'
    assert found.kind == "undefinedStepReference"


def test_a_step_listed_later_is_fatal() -> None:
    found = only(flow([step("a", {"$step": "b"}), step("b")], {"$step": "a"}))

    assert shown(found) == (3003, "fatal", "$.steps[0].input", {"from_step": "a", "referenced_step": "b"})
    assert found.message == 'step "b" is listed after step "a", which refers to it'


def test_the_output_is_called_workflow_output() -> None:
    found = only(flow(output={"r": {"$step": "nowhere"}}))

    assert shown(found) == (
        3003,
        "fatal",
        "$.output.r",
        {"from_step": "workflow_output", "referenced_step": "nowhere"},
    )
    assert found.message == 'step "nowhere" is not defined'


def test_paths_go_through_conditions_choices_defaults_and_odd_names() -> None:
    unknown = {"$step": "x"}
    output = {
        "a.b": {"$if": unknown, "then": {"$coalesce": [1, unknown]}, "else": {"$variable": "v", "default": unknown}},
        "": [unknown],
    }

    found = [each for each in check(flow(output=output)) if each.code == 3003]

    assert [each.path for each in found] == [
        '$.output["a.b"].condition',
        '$.output["a.b"].then[1]',
        '$.output["a.b"].else',
        "$.output.[0]",
    ]
    assert [each.place for each in found] == [
        ("output", "a.b", "$if", "$step"),
        ("output", "a.b", "then", "$coalesce", 1, "$step"),
        ("output", "a.b", "else", "default", "$step"),
        ("output", "", 0, "$step"),
    ]


@pytest.mark.parametrize(
    ("expression", "data"),
    [
        ({"$step": "a", "path": "x[0]"}, {"step_id": "workflow_output", "field": "$.x[0]"}),
        ({"$input": "x"}, {"step_id": "workflow_output", "field": "$.x"}),
        ({"$variable": "v.deep"}, {"step_id": "workflow_output", "field": "$.deep"}),
    ],
)
def test_a_path_into_the_unknown_is_an_experimental_warning(expression: Any, data: dict[str, str]) -> None:
    found = only(flow([step("a", mustExecute=True)], expression, schemas=variables(v={})))

    code, level, path, found_data = shown(found)
    assert (code, level, path, found.experimental) == (1003, "warning", "$.output", True)
    assert found_data.pop("reason")
    assert found_data == data


def test_a_path_on_an_input_with_a_schema_is_not_reported() -> None:
    assert check(flow(output={"$input": "x"}, schemas={"properties": {"input": {}}})) == ()


def test_variables_without_any_schema_are_reported_once() -> None:
    found = only(flow([step("a", {"$variable": "x"})], [{"$step": "a"}, {"$variable": "y"}]))

    assert shown(found) == (1004, "warning", "$.schemas.properties.variables", {})


def test_a_written_default_that_an_implied_one_hides_is_reported() -> None:
    schemas = variables(hidden={"type": "string"}, open={"type": "object"}, own={"type": "string", "default": "x"})
    output = [{"$variable": name, "default": "d"} for name in ("hidden", "open", "own")]

    found = only(flow(output=output, schemas=schemas))

    assert shown(found) == (
        1005,
        "warning",
        "$.output[0]",
        {"variable": "hidden", "context": "workflow_output"},
    )
    assert found.message == 'the default written here is never used: variable "hidden" is "" when it is not given'


@pytest.mark.parametrize(("default", "code"), [({"default": None}, 2004), ({}, 2005)])
def test_an_undeclared_variable_is_an_error(default: Any, code: int) -> None:
    found = only(
        flow([step("a", {"v": {"$variable": "limt.x", **default}})], {"$step": "a"}, schemas=variables(limit={}))
    )

    assert shown(found) == (code, "error", "$.steps[0].input.v", {"variable": "limt", "context": "a"})
    assert found.message.endswith('; did you mean "limit"?')


@pytest.mark.parametrize("path", ["$", "$[0]"])
def test_a_variable_reference_without_a_name_is_an_error(path: str) -> None:
    assert only(flow(output={"$variable": path})).code == 2005


def test_variables_in_settings_are_looked_at_too() -> None:
    steps = [
        step(
            "a",
            timeout={"$variable": "wait"},
            onError={"action": "retry", "maxRetries": {"$variable": "tries"}},
        )
    ]

    found = check(flow(steps, {"$step": "a"}, schemas=variables(v={})))

    assert [(each.code, each.path) for each in found] == [
        (2005, "$.steps[0].timeout"),
        (2005, "$.steps[0].onError.maxRetries"),
    ]


@pytest.mark.parametrize("component", ["python/score", ""])
def test_a_component_that_is_no_path_is_an_error(component: str) -> None:
    found = only(flow([step("a", component=component)], {"$step": "a"}))

    code, level, path, data = shown(found)
    assert (code, level, path) == (2500, "error", "$.steps[0].component")
    assert (data["step_id"], data["component"]) == ("a", component)
    assert data["error"]


def test_a_step_that_nothing_names_is_unreachable() -> None:
    found = only(flow([step("used"), step("dead", {"$step": "used"})]))

    assert shown(found) == (1000, "warning", "$.steps[1]", {"step_id": "dead"})


def test_a_step_that_must_execute_is_never_unreachable() -> None:
    assert check(flow([step("audit", mustExecute=True)])) == ()


def test_a_schema_that_is_no_schema_is_an_error() -> None:
    schemas = {
        "$defs": {"Bad": {"type": 5}},
        "properties": {
            "input": {"type": "nonsense"},
            "output": {"$ref": "http://example.com/x"},
            "variables": {"properties": {"v": True}},
            "steps": {"properties": {"a": {"minLength": -1}}},
        },
    }

    found = check(flow([step("a", mustExecute=True)], schemas=schemas))

    assert [(each.code, each.level, each.path) for each in found] == [
        (2002, "error", "$.schemas.$defs.Bad"),
        (2002, "error", "$.schemas.properties.input"),
        (2002, "error", "$.schemas.properties.output"),
        (2002, "error", "$.schemas.properties.steps.properties.a"),
    ]
    assert all(each.data["error"] for each in found)


def test_a_bad_schema_is_placed_where_it_is_bad() -> None:
    schemas = {
        "$defs": {"Bad": {"properties": {"x": {"type": 5}}}},
        "properties": {"input": {"$ref": "#/$defs/Bad"}, "output": {"items": {"minItems": "x", "$ref": "#/$defs/Bad"}}},
    }

    found = check(flow(schemas=schemas))

    assert [each.place for each in found] == [
        ("schemas", "$defs", "Bad", "properties", "x", "type"),
        ("schemas", "properties", "output", "items", "minItems"),
    ]


INNER = {**NAMED, "steps": [step("x", {"$step": "y"})], "output": {"$step": "x"}}


@pytest.mark.parametrize(
    ("component", "input", "path"),
    [
        ("/builtin/put_blob", {"data": {"$literal": INNER}, "blob_type": "flow"}, "input.data.$literal"),
        ("/put_blob", {"data": {"$literal": INNER}, "blob_type": {"$literal": "flow"}}, "input.data.$literal"),
        ("/builtin/map", {"workflow": {"$literal": INNER}, "items": []}, "input.workflow.$literal"),
        ("/iterate", {"flow": {"$literal": INNER}, "initial_input": 1}, "input.flow.$literal"),
        ("/map", {"$literal": {"workflow": INNER, "items": []}}, "input.$literal.workflow"),
    ],
)
def test_flows_written_inside_an_input_are_checked(component: str, input: Any, path: str) -> None:
    found = only(flow([step("outer", input, component)], {"$step": "outer"}))

    assert shown(found) == (
        3003,
        "fatal",
        f"$.steps[0].{path}.steps[0].input",
        {"from_step": "x", "referenced_step": "y"},
    )
    assert found.place[-4:] == ("steps", 0, "input", "$step")


@pytest.mark.parametrize(
    ("component", "input"),
    [
        ("/builtin/put_blob", {"data": {"$literal": INNER}, "blob_type": "data"}),
        ("/builtin/put_blob", {"data": {"$literal": INNER}, "blob_type": {"$input": "$"}}),
        ("/other/put_blob", {"data": {"$literal": INNER}, "blob_type": "flow"}),
        ("/builtin/map", {"workflow": {"$input": "$"}, "items": []}),
        ("/builtin/map", {"workflow": "0" * 64, "items": []}),
        ("/builtin/noop", {"flow": {"$literal": INNER}}),
    ],
)
def test_other_data_is_not_taken_for_a_flow(component: str, input: Any) -> None:
    assert check(flow([step("outer", input, component)], {"$step": "outer"})) == ()


def test_an_inner_flow_that_is_not_quoted_is_told_to_be() -> None:
    found = check(flow([step("outer", {"workflow": INNER, "items": []}, "/builtin/map")], {"$step": "outer"}))

    assert [(each.code, each.path) for each in found] == [
        (3003, "$.steps[0].input.workflow.steps[0].input"),
        (3003, "$.steps[0].input.workflow.output"),
    ]
    assert {each.remedy for each in found} == {
        "wrap the inner flow in $literal: its references are read as this flow's"
    }


@pytest.mark.parametrize("data", [{"steps": 5}, "text", []])
def test_a_flow_literal_that_cannot_be_read_is_an_error(data: Any) -> None:
    input = {"data": {"$literal": data}, "blob_type": "flow"}

    found = only(flow([step("outer", input, "/put_blob")], {"$step": "outer"}))

    code, level, path, found_data = shown(found)
    assert (code, level, path) == (2003, "error", "$.steps[0].input.data.$literal")
    assert found_data["error"]


def test_flows_inside_flows_inside_flows_are_checked() -> None:
    middle = {**NAMED, "steps": [step("m", {"flow": {"$literal": INNER}}, "/iterate")], "output": {"$step": "m"}}

    found = only(flow([step("o", {"workflow": {"$literal": middle}}, "/map")], {"$step": "o"}))

    assert found.path == "$.steps[0].input.workflow.$literal.steps[0].input.flow.$literal.steps[0].input"


def test_examples_and_test_inputs_are_not_checked() -> None:
    schemas = {"properties": {"input": {"type": "integer"}}}
    test = {"cases": [{"name": "c", "input": "text"}]}

    assert check(flow(schemas=schemas, examples=[{"name": "e", "input": "text"}], test=test)) == ()


def test_findings_come_in_the_order_of_the_catalogue() -> None:
    steps = [
        step("a", {"$step": "z"}),
        step("a", component="x"),
        step(" ", {"flow": {"$literal": {}}}, "/iterate"),
    ]
    document = {"steps": steps, "output": {"$step": "z"}, "schemas": {"properties": {"input": {"type": 1}}}}

    codes = [each.code for each in check(flow_from_json(document))]

    assert codes == [3000, 3001, 1001, 1002, 3003, 3003, 2500, 1000, 1000, 1000, 1001, 1002, 2002]


def test_the_json_form_has_the_keys_of_the_interfaces() -> None:
    found = [each.to_json() for each in check(flow_from_json({"name": "n", "output": {"$step": "x"}}))]

    assert found == [
        {
            "kind": "missingFlowDescription",
            "code": 1002,
            "level": "warning",
            "formatted": "the flow has no description",
            "path": "$.description",
            "experimental": False,
        },
        {
            "kind": "undefinedStepReference",
            "code": 3003,
            "level": "fatal",
            "formatted": 'step "x" is not defined',
            "data": {"from_step": "workflow_output", "referenced_step": "x"},
            "path": "$.output",
            "experimental": False,
        },
    ]


def test_messages_are_one_sentence() -> None:
    document = {
        "steps": [step("a", {"$step": "a"}), step("a", {"$step": "q"}, "c"), step("")],
        "output": [{"$variable": "v"}, {"$input": "x.y"}],
    }

    for each in check(flow_from_json(document)):
        assert re.fullmatch(r"[a-z\"$][^\n]*[^.\n]", each.message), each.message


MISSPELT = """\
name: hello
description: counts and shouts
schemas:
  properties:
    input: {type: object}
steps:
  - id: count
    component: /count
    input: {text: {$input: text}}
  - id: shout
    component: /shout
    input:
      text: {$input: text}
      n:    {$step:  cuont}
output: [{$step: shout}, {$step: count}]
"""


def test_a_located_problem_reads_as_one_line() -> None:
    misspelt = flow_text(MISSPELT, name="flow.yaml")

    (problem,) = located(check(misspelt), misspelt)

    assert str(problem) == 'flow.yaml:14:22: error 3003: step "cuont" is not defined; did you mean "count"?'
    assert problem.level == "fatal"
    assert problem.path == "$.steps[1].input.n"
    assert problem.text == "      n:    {$step:  cuont}"
    assert problem.remedy == 'did you mean "count"?'


def test_a_problem_inside_a_sub_flow_is_located_too() -> None:
    text = (
        MISSPELT.replace("{$step:  cuont}", "1")
        .replace("/shout", "/map")
        .replace(
            "text: {$input: text}\n      n",
            "workflow: {$literal: {name: n, description: d, output: {$step: gone}}}\n      n",
        )
    )
    inner = flow_text(text, name="flow.yaml")

    (problem,) = located(check(inner), inner)

    assert (problem.code, problem.line) == (3003, 13)
    assert problem.text is not None
    assert problem.text[problem.column - 1 :].startswith("gone")


def test_a_flow_without_text_has_problems_with_paths() -> None:
    (problem,) = located(check(flow(output={"$step": "x"})), Flow())

    assert str(problem) == 'error 3003: step "x" is not defined ($.output)'


def test_checking_the_same_flow_twice_gives_the_same_findings() -> None:
    misspelt = flow_text(MISSPELT)

    assert msgspec.json.encode(check(misspelt)) == msgspec.json.encode(check(misspelt))


JSON: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["", "$", "a", "b", "$.a[0]", "/put_blob", "flow"]),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["a", "b", "$step", "$input", "$variable", "$if", "then", "$coalesce", "default", "$literal"]
            ),
            part,
            max_size=3,
        )
    ),
    max_leaves=8,
)
SCHEMA: Any = st.recursive(
    st.sampled_from([True, False, {}, {"type": "string"}, {"type": ["integer", "null"]}, {"$ref": "#/$defs/A"}, 5])
    | st.sampled_from([{"$ref": "#"}, {"type": "nonsense"}, {"enum": ["a", 1]}, {"default": 1}, {"is_secret": True}]),
    lambda part: (
        st.fixed_dictionaries({}, optional={"properties": st.dictionaries(st.sampled_from("ab"), part)})
        | st.fixed_dictionaries({"items": part})
        | st.fixed_dictionaries({"anyOf": st.lists(part, max_size=2)})
    ),
    max_leaves=5,
)
DOCUMENTS: Any = st.fixed_dictionaries(
    {
        "steps": st.lists(
            st.fixed_dictionaries(
                {
                    "id": st.sampled_from(["a", "b", "c", " "]),
                    "component": st.sampled_from(["/c", "c", "/put_blob", "/map", "/iterate"]),
                    "input": JSON
                    | st.fixed_dictionaries({"data": JSON, "blob_type": st.just("flow")})
                    | st.fixed_dictionaries({"flow": JSON, "workflow": JSON}),
                }
            ),
            max_size=4,
        ),
        "output": JSON,
    },
    optional={
        "schemas": st.fixed_dictionaries(
            {"properties": st.fixed_dictionaries({}, optional=dict.fromkeys(("input", "output", "variables"), SCHEMA))},
            optional={"$defs": st.dictionaries(st.just("A"), SCHEMA)},
        )
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(DOCUMENTS, SCHEMA)
def test_no_flow_that_can_be_read_breaks_a_check(document: Any, schema: Any) -> None:
    try:
        read = flow_from_json(document)
    except FlowInvalidError:
        return
    component = ComponentInfo(id="c", input_schema=schema, output_schema=schema)

    found = [*check(read), *type_check(read, {"/c": component}.get, strict=True)]

    inferred = infer(read, {"/c": component}.get)
    assert all(each.message and each.path.startswith("$") for each in found)
    assert len(located(found, read)) == len(found)
    assert all(found.level == _level(found.code) for found in inferred.diagnostics)


def _level(code: int) -> str:
    return {1: "warning", 2: "error", 3: "fatal"}[code // 1000]
