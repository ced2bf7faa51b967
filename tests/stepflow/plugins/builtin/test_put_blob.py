import json
from pathlib import Path

import pytest

from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.records import BlobType, ErrorCode, Failed, Succeeded

DATA = Path(__file__).parents[3] / "data" / "blob-ids.json"
VECTORS = json.loads(DATA.read_text(encoding="utf-8"))["put_blob_component"]


def unquoted(input):
    """The step's input as the component sees it: `$literal` is gone."""
    data = input["data"]
    return input | {"data": data["$literal"]} if isinstance(data, dict) and "$literal" in data else input


@pytest.mark.anyio
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
async def test_the_id_is_that_of_the_compact_json(host, task, vector):
    outcome = await BuiltinPlugin().perform(task("/put_blob", unquoted(vector["step_input"])), host)

    assert outcome == Succeeded({"blob_id": vector["blob_id"]})
    assert host.blobs.stored[vector["blob_id"]].content == vector["canonical"].encode()


@pytest.mark.anyio
async def test_the_keys_keep_their_order_and_the_blob_its_type(host, task):
    input = {"data": {"b": 1, "a": [1.5, 100.0, 1e-5, 1e16, "é\n"]}, "blob_type": "binary"}

    await BuiltinPlugin().perform(task("/put_blob", input), host)

    (blob,) = host.blobs.stored.values()
    assert blob.content == '{"b":1,"a":[1.5,100.0,0.00001,1e+16,"é\\n"]}'.encode()
    assert blob.type is BlobType.BINARY


@pytest.mark.anyio
@pytest.mark.parametrize("data", ["no flow", None, {"steps": {}}, {"output": {"$from": 1}}])
async def test_a_flow_that_cannot_be_read_is_refused_and_not_stored(host, task, data):
    outcome = await BuiltinPlugin().perform(task("/put_blob", {"data": data, "blob_type": "flow"}), host)

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.INVALID_INPUT
    assert host.blobs.stored == {}


@pytest.mark.anyio
async def test_another_blob_type_is_refused(host, task):
    outcome = await BuiltinPlugin().perform(task("/put_blob", {"data": 1, "blob_type": "text"}), host)

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.INVALID_INPUT
    assert "$.blob_type" in outcome.message
