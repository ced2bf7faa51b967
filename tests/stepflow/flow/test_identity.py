"""Canonical text and content ids."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepflow.flow.identity import (
    canonical_flow,
    canonical_json,
    flow_id,
    flow_to_json,
    recover_integers,
    step_to_json,
)
from stepflow.flow.read import flow_from_json, flow_text
from stepflow.records import blob_id

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data" / "blob-ids.json").read_text(encoding="utf-8"))


def named(kind: str) -> Any:
    return pytest.mark.parametrize("vector", [pytest.param(v, id=v["name"]) for v in VECTORS[kind]])


@named("json_data_blobs")
def test_a_json_blob_has_the_published_id(vector: dict[str, Any]) -> None:
    text = canonical_json(vector["json"])

    assert text == vector["canonical"]
    assert blob_id(text.encode()) == vector["blob_id"]


@named("raw_data_blobs")
def test_raw_bytes_are_hashed_as_they_are(vector: dict[str, Any]) -> None:
    assert blob_id(base64.b64decode(vector["base64"])) == vector["blob_id"]


@named("put_blob_component")
def test_what_the_component_stores_has_the_published_id(vector: dict[str, Any]) -> None:
    text = json.dumps(_unquoted(vector["step_input"]["data"]), separators=(",", ":"))

    assert blob_id(text.encode()) == vector["blob_id"]


def _unquoted(data: Any) -> Any:
    return data["$literal"] if isinstance(data, dict) else data


@named("flows")
def test_a_flow_has_the_published_id(vector: dict[str, Any]) -> None:
    flow = flow_from_json(vector["flow"])

    assert canonical_flow(flow) == vector["canonical"]
    assert flow_id(flow) == vector["flow_id"]


@named("flows")
def test_a_flow_written_and_read_again_is_the_same(vector: dict[str, Any]) -> None:
    flow = flow_from_json(vector["flow"])

    again = flow_from_json(flow_to_json(flow))
    stored = flow_text(canonical_flow(flow), format="json")

    assert flow_id(again) == flow_id(flow) == flow_id(stored)
    assert again.steps == flow.steps
    assert again.output == flow.output


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.5, "0.5"),
        (-1.5e-5, "-0.000015"),
        (1e-5, "0.00001"),
        (-2e-6, "-2e-6"),
        (1.5e19, "1.5e+19"),
        (123456789012345.67, "123456789012345.67"),
        (-1e22, "-1e+22"),
        (1e100, "1e+100"),
    ],
)
def test_a_double_has_its_shortest_text(number: float, text: str) -> None:
    assert canonical_json(number) == text


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_double_reads_back_as_it(number: float) -> None:
    text = canonical_flow(flow_from_json({"output": number})).removeprefix('{"output":').removesuffix("}")

    assert float(text) == number
    assert ("e" in text) == (number != 0 and not 1e-5 <= abs(number) < 1e16)


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, -(2**53) - 1])
def test_an_integer_that_no_double_holds_keeps_its_digits(number: int) -> None:
    flow = flow_from_json({"output": number})

    again = flow_text(canonical_flow(flow), format="json")

    assert again.output == flow.output
    assert type(again.output.value) is int  # type: ignore[union-attr]


def test_whole_numbers_have_one_id_however_they_are_written() -> None:
    assert flow_id(flow_from_json({"output": [1, 1e15]})) == flow_id(flow_from_json({"output": [1.0, 10**15]}))


def test_the_order_of_free_form_keys_does_not_matter() -> None:
    one = flow_text("{output: {b: {$literal: {y: 1, x: 2}}, a: 1}, metadata: {d: 1, c: 2}}")
    other = flow_text("{metadata: {c: 2, d: 1}, output: {a: 1, b: {$literal: {x: 2, y: 1}}}}")

    assert flow_id(one) == flow_id(other)


def test_a_quoted_key_keeps_its_quotes() -> None:
    dotted = flow_from_json({"output": {"$input": '$["a.b"]'}})
    nested = flow_from_json({"output": {"$input": "a.b"}})

    assert canonical_flow(dotted) == '{"output":{"$input":"$[\\"a.b\\"]"}}'
    assert flow_id(dotted) != flow_id(nested)


def test_our_own_keys_are_written_only_where_they_stand() -> None:
    document = {
        "steps": [
            {
                "metadata": {"z": 1},
                "input": {"$variable": "v", "default": 2},
                "timeout": 30.0,
                "onError": {
                    "backoff": {"factor": 2, "maxDelayMs": {"$variable": "m"}, "type": "exponential"},
                    "maxRetries": 3.0,
                    "action": "retry",
                },
                "component": "/a",
                "id": "a",
            }
        ]
    }

    flow = flow_from_json(document)

    assert canonical_flow(flow) == (
        '{"steps":[{"id":"a","component":"/a","onError":{"action":"retry","maxRetries":3,"backoff":{"type":"exponential",'
        '"maxDelayMs":{"$variable":"$.m"},"factor":2}},"timeout":30,"input":{"$variable":"$.v","default":2.0},'
        '"metadata":{"z":1.0}}]}'
    )
    assert json.dumps(step_to_json(flow.steps[0]), separators=(",", ":")) == (
        '{"id":"a","component":"/a","onError":{"action":"retry","maxRetries":3,"backoff":{"type":"exponential",'
        '"maxDelayMs":{"$variable":"$.m"},"factor":2}},"timeout":30,"input":{"$variable":"$.v","default":2},'
        '"metadata":{"z":1}}'
    )


def test_a_test_section_is_written_whole() -> None:
    cases = [
        {"name": "a", "input": None, "output": {"outcome": "success", "result": None}},
        {
            "name": "b",
            "description": "d",
            "input": 1,
            "output": {"outcome": "failed", "error": {"code": "TIMEOUT", "message": "m", "data": [1]}},
        },
    ]
    document = {"test": {"configFile": "c", "config": {"b": 1, "a": 2}, "cases": cases}}

    assert flow_to_json(flow_from_json(document)) == document


@pytest.mark.parametrize(
    ("value", "recovered"),
    [
        (1.0, 1),
        (-0.0, 0),
        (1.5, 1.5),
        (1e18, 10**18),
        (2.0**63, 2.0**63),
        (-(2.0**63), -(2**63)),
        (float("inf"), float("inf")),
        ([{"a": 2.0}], [{"a": 2}]),
    ],
)
def test_whole_doubles_become_integers(value: Any, recovered: Any) -> None:
    assert repr(recover_integers(value)) == repr(recovered)
