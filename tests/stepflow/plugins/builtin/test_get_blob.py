import pytest

from stepflow.plugins.builtin.plugin import BuiltinPlugin
from stepflow.records import BlobType, ErrorCode, Failed, Succeeded

MISSING = "ab" * 32


@pytest.mark.anyio
@pytest.mark.parametrize("type", list(BlobType))
async def test_json_of_any_type_is_read(host, task, type):
    blob_id = await host.blobs.put(b'{"b":1,"a":[2.5,null]}', type)

    outcome = await BuiltinPlugin().perform(task("/get_blob", {"blob_id": blob_id.upper()}), host)

    assert outcome == Succeeded({"data": {"b": 1, "a": [2.5, None]}})


@pytest.mark.anyio
@pytest.mark.parametrize("content", [b"\x00\xff", b"", b"{", b"[" * 100_000, b"[" * 300 + b"]" * 300])
async def test_bytes_that_are_not_json_are_named_for_what_they_are(host, task, content):
    blob_id = await host.blobs.put(content, BlobType.BINARY)

    outcome = await BuiltinPlugin().perform(task("/get_blob", {"blob_id": blob_id}), host)

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.INVALID_INPUT
    assert f"(binary, {len(content)} bytes)" in outcome.message


@pytest.mark.anyio
async def test_a_missing_blob_is_an_unavailable_resource(host, task):
    outcome = await BuiltinPlugin().perform(task("/get_blob", {"blob_id": MISSING}), host)

    assert outcome == Failed(ErrorCode.RESOURCE_UNAVAILABLE, f"no blob has the id {MISSING}")


@pytest.mark.anyio
@pytest.mark.parametrize("blob_id", ["", "xyz", "sha256:" + MISSING, MISSING + "\n", None, 3])
async def test_what_is_no_id_is_refused(host, task, blob_id):
    outcome = await BuiltinPlugin().perform(task("/get_blob", {"blob_id": blob_id}), host)

    assert isinstance(outcome, Failed)
    assert outcome.code is ErrorCode.INVALID_INPUT
