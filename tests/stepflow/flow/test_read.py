"""Flow documents: everything that is right, wrong, or merely odd about them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stepflow.errors import FlowInvalidError
from stepflow.flow.identity import flow_id, flow_to_json
from stepflow.flow.model import Example, Flow, If, InputRef, Literal, ObjectOf, Schemas, Step, StepRef, VariableRef
from stepflow.flow.read import flow_from_json, flow_text, read_flow

TRIAGE = """\
name: triage
schemas:
  type: object
  properties:
    input: {type: object, properties: {text: {type: string}, deep: {type: boolean}}}
    variables: {type: object, properties: {limit: {type: integer, default: 3}}}
steps:
  - {id: quick, component: /py/score, input: {text: {$input: text}, max: {$variable: limit}}}
  - id: slow                                  # runs only when the branch below asks for it
    component: /py/analyse
    onError: {action: useDefault, defaultValue: {verdict: unknown}}
    input: {text: {$input: text}}
  - {id: audit, component: /py/log, mustExecute: true, input: {$step: quick, path: $.score}}
output:
  $if: {$input: deep}
  then: {$step: slow, path: verdict}
  else: {$step: quick, path: "$.labels[0]"}
"""


def problems_of(text: str, **how: Any) -> list[str]:
    with pytest.raises(FlowInvalidError) as caught:
        flow_text(text, name="f.yaml", **how)
    return [str(problem) for problem in caught.value.problems]


def warnings_of(text: str) -> list[str]:
    return [str(warning) for warning in flow_text(text, name="f.yaml").warnings]


def test_a_flow_is_read() -> None:
    flow = flow_text(TRIAGE)

    assert flow.name == "triage"
    assert flow.schemas.variables == {"type": "object", "properties": {"limit": {"type": "integer", "default": 3}}}
    assert [step.id for step in flow.steps] == ["quick", "slow", "audit"]
    assert flow.steps[0].input == ObjectOf((("text", InputRef(("text",))), ("max", VariableRef(("limit",)))))
    assert [step.must_execute for step in flow.steps] == [None, None, True]
    assert flow.output == If(InputRef(("deep",)), StepRef("slow", ("verdict",)), StepRef("quick", ("labels", 0)))
    assert flow.warnings == ()


def test_a_flow_comes_from_a_file_an_object_or_a_flow(tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(TRIAGE, encoding="utf-8")

    flow = read_flow(path)

    assert flow.origin.name == str(path)
    assert read_flow(str(path)) == flow
    assert read_flow(flow) is flow
    assert flow_id(read_flow(flow_to_json(flow))) == flow_id(flow)


def test_a_text_is_never_taken_for_a_flow() -> None:
    with pytest.raises(FlowInvalidError, match="this one is not known"):
        read_flow(TRIAGE)
    with pytest.raises(FlowInvalidError, match="there is no such file"):
        read_flow("nowhere.yaml")


@pytest.mark.parametrize(("text", "what"), [("", "empty"), ("[]", "an array"), ("5", "a number"), ("hi", "a string")])
def test_a_flow_is_an_object(text: str, what: str) -> None:
    assert problems_of(text) == [
        f"f.yaml:1:1: error: a flow is an object, and this is {what}; a flow has `steps` and `output`"
    ]


def test_null_is_absent_everywhere() -> None:
    keys = ("name", "description", "version", "schemas", "steps", "output", "test", "examples", "metadata")
    step = dict.fromkeys(("onError", "timeout", "input", "mustExecute", "metadata", "inputSchema", "skipIf"))

    assert flow_from_json(dict.fromkeys(keys)) == Flow()
    assert flow_from_json({"steps": [{"id": "a", "component": "/a", **step}]}).steps == (Step(id="a", component="/a"),)


def test_everything_wrong_is_told_at_once_and_in_order() -> None:
    text = """\
name: 3
steps:
  - id: a
    onError: {action: continue}
    input:
      x: {$input: "$a"}
      y: !foo 3
  - 5
  - component: /b
    mustExecute: yes
schemas: {input: {}}
metadata: []
"""

    assert [line.split(": error: ")[0] for line in problems_of(text)] == [
        "f.yaml:1:7",
        "f.yaml:3:5",
        "f.yaml:4:23",
        "f.yaml:6:19",
        "f.yaml:7:10",
        "f.yaml:8:5",
        "f.yaml:9:5",
        "f.yaml:10:18",
        "f.yaml:11:10",
        "f.yaml:12:11",
    ]


def test_a_problem_carries_the_line_and_what_to_do() -> None:
    with pytest.raises(FlowInvalidError) as caught:
        flow_text('steps:\n  - {id: 12, component: "/a"}\n', name="f.yaml")

    (problem,) = caught.value.problems
    assert problem.path == "$.steps[0].id"
    assert (problem.source, problem.line, problem.column) == ("f.yaml", 2, 10)
    assert problem.text == '  - {id: 12, component: "/a"}'
    assert problem.remedy == "put it in quotes"


def test_a_problem_of_an_object_has_only_a_path() -> None:
    with pytest.raises(FlowInvalidError) as caught:
        flow_from_json({"steps": [{"id": "a", "component": "/a", "input": {"$step": 1}}]})

    assert str(caught.value) == (
        "error: $step takes the id of a step, not a number ($.steps[0].input.$step); put the id in quotes"
    )


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "inputSchema: {}",
            "`inputSchema` is unknown and ignored; the schema of the input is `schemas.properties.input`",
        ),
        ("input_schema: {}", "`schemas.properties.input`"),
        ("variables: {}", "variables are declared in `schemas.properties.variables`"),
        ("Steps: []", "did you mean `steps`?"),
        ("ouput: 1", "did you mean `output`?"),
        ("zzz: 1", "known here: name, description"),
        ("<<: {name: x}", "merge keys are not applied"),
        ("steps: [{id: a, component: /a, skipIf: x}]", "use $if where the result is read"),
        ("steps: [{id: a, component: /a, on_error: {}}]", "did you mean `onError`?"),
        ("steps: [{id: a, component: /a, must_execute: true}]", "did you mean `mustExecute`?"),
        ("steps: [{id: a, component: /a, outputSchema: {}}]", "`schemas.properties.steps.properties.<id>`"),
        ("steps: [{id: a, component: /a, input: {$expr: x}}]", "there is no `$expr`"),
        ("schemas: {input: {}, properties: {}}", "put it into `schemas.properties`"),
        ("schemas: {properties: {inputs: {}}}", "did you mean `input`?"),
        ("metadata: {a: 1, a: 2}", "the key `a` is written more than once; the last one counts"),
        ("output: {$step: a, default: 3}", "only `$variable` has a default"),
    ],
)
def test_what_has_no_effect_is_warned_about_with_a_suggestion(text: str, warning: str) -> None:
    (found,) = warnings_of(text)

    assert found.startswith("f.yaml:1:")
    assert ": warning: " in found
    assert warning in found


def test_a_warning_points_at_the_key() -> None:
    assert warnings_of("name: x\nsteps:\n  - id: a\n    component: /a\n    skip:\n      x: 1\n")[0].startswith(
        "f.yaml:5:5: warning: the key `skip`"
    )


def test_the_schema_marker_is_no_reason_to_warn() -> None:
    assert warnings_of("schema: https://stepflow.org/schemas/v1/flow.json") == []


@pytest.mark.parametrize(
    "text",
    [
        "name: a\nname: b",
        "steps: [{id: a, id: b, component: /a}]",
        "steps: [{id: a, component: /a, onError: {action: fail, action: fail}}]",
        "schemas: {properties: {input: {}, input: {}}}",
        "test: {cases: [{name: a, name: b, input: 1}]}",
        "examples: [{name: a, name: b, input: 1}]",
    ],
)
@pytest.mark.parametrize("format", ["yaml", "json"])
def test_a_declared_key_written_twice_is_refused(text: str, format: str) -> None:
    if format == "json":
        text = "{" + re.sub(r"([/\w]+)", r'"\1"', text).replace("\n", ",") + "}"

    (problem,) = problems_of(text, format=format)

    assert "is written more than once; keep one of them" in problem


@pytest.mark.parametrize(
    ("schemas", "expected"),
    [
        (None, Schemas()),
        ({}, Schemas()),
        ({"type": "object"}, Schemas()),
        (
            {"properties": {"input": True, "steps": {"properties": {"a": {}, "b": None}}}},
            Schemas(input=True, steps={"a": {}}),
        ),
        ({"$defs": {"Row": {"type": "nonsense"}}}, Schemas(defs={"Row": {"type": "nonsense"}})),
        ({"properties": {"variables": {"properties": {"a": True}}}}, Schemas(variables={"properties": {"a": True}})),
    ],
)
def test_the_schema_bundle_is_read(schemas: Any, expected: Schemas) -> None:
    assert flow_from_json({"schemas": schemas}).schemas == expected


@pytest.mark.parametrize(
    ("schemas", "problem"),
    [
        ([], "`schemas` is an object, not an array"),
        ("x", "`schemas` is an object, not a string"),
        (
            {"input": {}, "output": {}},
            "`input`, `output` stands directly in `schemas`",
        ),
        ({"properties": []}, "`properties` is an object"),
        ({"properties": {"input": "string"}}, "a schema is an object, true or false, not a string"),
        ({"properties": {"steps": {"properties": {"a": 1}}}}, "a schema is an object, true or false, not a number"),
        ({"$defs": 1}, "`$defs` is an object"),
    ],
)
def test_a_wrong_schema_bundle_is_refused(schemas: Any, problem: str) -> None:
    with pytest.raises(FlowInvalidError) as caught:
        flow_from_json({"schemas": schemas})

    assert problem in str(caught.value)


def test_examples_are_read() -> None:
    flow = flow_from_json({"examples": [{"name": "a", "input": None}, {"name": "b", "description": "d", "input": 1}]})

    assert flow.examples == (Example(name="a", input=None), Example(name="b", description="d", input=1))
    assert flow_from_json({"examples": []}).examples == ()
    with pytest.raises(FlowInvalidError, match="`input` is missing"):
        flow_from_json({"examples": [{"name": "a"}]})


def test_whole_numbers_are_integers() -> None:
    flow = flow_text('{"output": 42.0, "metadata": {"a": [1e3, 1.5]}}', format="json")

    assert repr(flow.output) == repr(Literal(42))
    assert repr(flow.metadata) == repr({"a": [1000, 1.5]})


def test_very_many_problems_are_counted_not_told() -> None:
    found = problems_of(json.dumps({"steps": [1] * 50_000}), format="json")

    assert len(found) == 101
    assert found[-1].endswith("49,900 more like these")


def test_a_line_of_ten_megabytes_is_read() -> None:
    long = "x" * 10_000_000

    assert flow_text(json.dumps({"output": long}), format="json").output == Literal(long)
    assert problems_of(json.dumps({"output": long}))[0].startswith("f.yaml: error: a YAML document may have")
