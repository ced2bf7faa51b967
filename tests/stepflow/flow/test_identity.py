"""Canonical text and content ids."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from stepflow.flow.identity import canonical_flow, canonical_json, flow_id, flow_to_json
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
