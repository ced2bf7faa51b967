"""A worker that serves functions from blobs."""

import msgspec
import pytest

from stepflow.components import Components
from stepflow.records import BlobType, ErrorCode
from stepflow_grpc.worker.worker import Worker, WorkerError

pytestmark = pytest.mark.anyio


async def test_a_worker_calls_functions_from_blobs_when_it_is_told_to(engine, working, results) -> None:
    content = {"code": "input.a * 2", "input_schema": {"type": "object"}}
    blob_id = await engine.backend.blobs.put(msgspec.json.encode(content), BlobType.DATA)

    async with working(Components(), udf=True):
        (result,) = await results(["/w/udf"], [{"blob_id": blob_id, "input": {"a": 21}}])

    assert result.output == 42


async def test_a_worker_that_was_not_told_to_calls_none(working, results) -> None:
    app = Components()
    app.component("/other")(lambda input: input)

    async with working(app):
        (result,) = await results(["/w/udf"], [{"blob_id": "0" * 64}])

    assert result.error is not None
    assert result.error.code is ErrorCode.COMPONENT_NOT_FOUND


def test_a_worker_without_components_and_functions_does_nothing() -> None:
    with pytest.raises(WorkerError, match="has no components"):
        Worker(Components())
