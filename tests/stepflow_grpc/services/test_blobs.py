import hashlib
from typing import Any

import pytest

from stepflow_grpc.messages import new
from stepflow_grpc.wire import from_value, to_value

pytestmark = pytest.mark.anyio


async def test_equal_values_have_equal_ids(calls: Any) -> None:
    one, two = [
        (await calls("BlobService", "PutBlob", json_data=to_value(value))).blob_id
        for value in ({"b": 1, "a": 2.0}, {"a": 2, "b": 1.0})
    ]

    got = await calls("BlobService", "GetBlob", blob_id=one)

    assert one == two == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    assert from_value(got.json_data) == {"a": 2, "b": 1}
    assert got.blob_type == "data"


async def test_bytes_come_back_with_their_name(calls: Any) -> None:
    put = await calls("BlobService", "PutBlob", raw_data=b"\x00\xff", blob_type="binary", filename="a.bin")

    got = await calls("BlobService", "GetBlob", blob_id=put.blob_id.upper())

    assert put.filename == "a.bin"
    assert (got.raw_data, got.blob_type, got.filename) == (b"\x00\xff", "binary", "a.bin")
    assert got.content_type == "application/octet-stream"


async def test_a_flow_may_be_put_as_a_blob(calls: Any) -> None:
    flow = {"steps": [], "output": {"$input": "$"}}
    id = (await calls("BlobService", "PutBlob", json_data=to_value(flow), blob_type="flow")).blob_id

    run = await calls("RunsService", "CreateRun", flow_id=id, input=[to_value(7)], wait=True)

    assert from_value(run.results[0].output) == 7


@pytest.mark.parametrize(
    ("name", "fields", "code"),
    [
        ("PutBlob", {}, "INVALID_ARGUMENT"),
        ("PutBlob", {"raw_data": b"", "blob_type": "picture"}, "INVALID_ARGUMENT"),
        ("GetBlob", {"blob_id": "zz"}, "INVALID_ARGUMENT"),
        ("GetBlob", {"blob_id": "0" * 64}, "NOT_FOUND"),
    ],
)
async def test_what_is_missing_or_malformed_is_refused(calls: Any, name: str, fields: Any, code: str) -> None:
    assert (await calls.refused("BlobService", name, **fields))[0] == code


@pytest.mark.parametrize("content", [b"[" * 60 + b"]" * 60, b"[" * 5_000 + b"]" * 5_000, b"1" + b"0" * 400])
async def test_json_that_no_message_carries_is_refused_by_name(calls: Any, content: bytes) -> None:
    put = await calls("BlobService", "PutBlob", raw_data=content, blob_type="data")

    code, words = await calls.refused("BlobService", "GetBlob", blob_id=put.blob_id)

    assert code == "FAILED_PRECONDITION"
    assert words.startswith(f"blob {put.blob_id}: ")
    assert words.endswith("; put it as binary")


@pytest.mark.parametrize("name", ["GetFlow", "GetFlowVariables"])
async def test_a_blob_of_bottomless_json_is_no_flow(calls: Any, name: str) -> None:
    text = b'{"steps":[],"output":' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    put = await calls("BlobService", "PutBlob", raw_data=text, blob_type="flow")

    code, words = await calls.refused("FlowsService", name, flow_id=put.blob_id)

    assert (code, words) == ("INVALID_ARGUMENT", f"blob {put.blob_id} is no flow")


async def test_bytes_that_were_called_data_are_refused_by_name(calls: Any) -> None:
    put = await calls("BlobService", "PutBlob", raw_data=b"\xff", blob_type="data")

    code, words = await calls.refused("BlobService", "GetBlob", request=new("GetBlobRequest", blob_id=put.blob_id))

    assert code == "INVALID_ARGUMENT"
    assert "put it as binary" in words
