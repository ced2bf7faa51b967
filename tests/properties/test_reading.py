"""Whatever is given as a flow becomes a flow, or a refusal that says why and what to do."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stepflow.errors import FlowInvalidError
from stepflow.flow.identity import canonical_flow, flow_id, flow_to_json
from stepflow.flow.model import Flow
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


FORMS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.builds(lambda path: {"$input": path}, st.sampled_from(["$", "a", "$.a[0]", '$["a.b"]', "", "a.b"]))
    | st.builds(
        lambda step, path: {"$step": step, "path": path}, st.text(max_size=3), st.sampled_from(["$", "x", None])
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab$.[ é", max_size=4), inner, max_size=3)
        | st.builds(lambda a, b: {"$if": a, "then": b}, inner, inner)
        | st.builds(lambda a, b, c: {"$if": a, "then": b, "else": c}, inner, inner, inner)
        | st.builds(lambda choices: {"$coalesce": choices}, st.lists(inner, max_size=3))
        | st.builds(lambda a: {"$literal": a}, inner)
        | st.builds(lambda name, a: {"$variable": name, "default": a}, st.text("ab.", min_size=1, max_size=3), inner)
    ),
    max_leaves=8,
)
SETTINGS = st.integers(1, 9) | st.floats(1, 9) | st.just({"$variable": "v"})
ON_ERROR = st.one_of(
    st.just({"action": "fail"}),
    st.fixed_dictionaries(
        {"action": st.just("useDefault")}, optional={"defaultValue": FORMS, "maxRetries": st.integers(0, 9)}
    ),
    st.fixed_dictionaries(
        {"action": st.just("retry")},
        optional={
            "maxRetries": st.integers(0, 9) | st.just({"$variable": "v"}),
            "backoff": st.fixed_dictionaries(
                {"type": st.just("exponential")}, optional={"minDelayMs": SETTINGS, "factor": SETTINGS}
            ),
        },
    ),
)
STEPS = st.fixed_dictionaries(
    {"id": st.text(max_size=5), "component": st.text(max_size=5)},
    optional={
        "input": FORMS,
        "onError": ON_ERROR,
        "timeout": SETTINGS,
        "mustExecute": st.booleans(),
        "metadata": st.dictionaries(st.text(max_size=3), FORMS, max_size=2),
    },
)
SCHEMA = st.booleans() | st.dictionaries(st.sampled_from(["type", "default", "x"]), FORMS, max_size=2)
FLOWS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(max_size=5),
        "description": st.text(max_size=5),
        "version": st.text(max_size=5),
        "schemas": st.fixed_dictionaries(
            {
                "properties": st.fixed_dictionaries(
                    {}, optional={"input": SCHEMA, "output": SCHEMA, "variables": SCHEMA}
                )
            },
            optional={"$defs": st.dictionaries(st.text(max_size=3), SCHEMA, max_size=2)},
        ),
        "steps": st.lists(STEPS, max_size=3),
        "output": FORMS,
        "examples": st.lists(st.fixed_dictionaries({"name": st.text(max_size=3), "input": FORMS}), max_size=2),
        "metadata": st.dictionaries(st.text(max_size=3), FORMS, max_size=2),
    },
)


def read_or_refused(text: str, format: str) -> Flow | None:
    try:
        return flow_text(text, name="f", format=format)
    except FlowInvalidError as error:
        mute = [problem for problem in error.problems if not (problem.message and problem.remedy)]
        return pytest.fail(f"no remedy: {mute[0]}") if mute else None


def bare(flow: Flow) -> Flow:
    return Flow(**{name: getattr(flow, name) for name in flow.__struct_fields__ if name not in ("origin", "warnings")})


@given(FLOWS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_flow_written_and_read_again_is_the_same_flow(document: dict[str, Any]) -> None:
    try:
        flow = flow_from_json(document)
    except FlowInvalidError:  # such as {"$if": 1} without then, made of plain keys
        return

    for again in (
        flow_from_json(flow_to_json(flow)),
        flow_text(json.dumps(flow_to_json(flow)), format="json"),
        flow_text(canonical_flow(flow), format="json"),
    ):
        assert flow_id(again) == flow_id(flow)
        assert canonical_flow(again) == canonical_flow(flow)
    assert bare(flow_from_json(flow_to_json(flow))) == bare(flow)


@settings(deadline=None)
@given(st.text(), st.sampled_from(["yaml", "json"]))
@example("[" * 100_000, "yaml")
@example("[" * 100_000, "json")
@example("a: &a [*a]", "yaml")
@example("&a {b: *a}", "yaml")
@example("? " * 1000, "yaml")
@example("- " * 1000, "yaml")
@example("{a: " * 1000, "yaml")
@example("\ud800", "yaml")
@example("\ud800", "json")
@example("output: " + "9" * 10_000, "yaml")
@example('{"output": ' + "9" * 10_000 + "}", "json")
@example('{"output": NaN}', "json")
@example('{"output": 1e400}', "json")
def test_any_text_is_a_flow_or_is_refused(text: str, format: str) -> None:
    read_or_refused(text, format)


@settings(deadline=None)
@given(st.binary())
def test_any_file_is_a_flow_or_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)

    with suppress(FlowInvalidError):
        read_flow(path)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_a_damaged_flow_is_a_flow_or_is_refused(data: st.DataObject) -> None:
    text = TRIAGE if data.draw(st.booleans()) else json.dumps(flow_to_json(flow_text(TRIAGE)))
    format = "json" if text is not TRIAGE else "yaml"
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 12)))
        piece = data.draw(
            st.sampled_from(
                [
                    "",
                    "\n",
                    " ",
                    "  ",
                    ":",
                    "- ",
                    "{",
                    "}",
                    "[",
                    "]",
                    '"',
                    "'",
                    "&a ",
                    "*a",
                    "!t ",
                    "|",
                    "$",
                    "null",
                    "1e999",
                    "\t",
                    "#",
                    "---\n",
                ]
            )
        )
        text = text[:start] + piece + text[end:]

    flow = read_or_refused(text, format)

    if flow is not None:
        assert flow_id(flow_from_json(flow_to_json(flow))) == flow_id(flow)


@given(FLOWS, st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_flow_with_one_value_replaced_is_a_flow_or_is_refused_at_a_place(
    document: dict[str, Any], data: st.DataObject
) -> None:
    keys = sorted(document)
    if not keys:
        return
    document = {**document, data.draw(st.sampled_from(keys)): data.draw(FORMS)}

    read_or_refused(json.dumps(document, indent=1), "json")
