"""A failure's status says in fields what its text says in words."""

from typing import Any

import grpc
import grpc.aio
import pytest

from stepflow_grpc.details import LONGEST, read_details, short, trailers
from stepflow_grpc.messages import methods

pytestmark = pytest.mark.anyio

MISSING = "0191d7e0-0000-7000-8000-000000000000"


async def failure(calls: Any, service: str, name: str, **fields: Any) -> tuple[grpc.aio.AioRpcError, list[Any]]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await calls(service, name, **fields)
    return raised.value, read_details(raised.value.trailing_metadata())


@pytest.mark.parametrize(
    ("service", "name", "fields", "kind", "id"),
    [
        ("RunsService", "GetRun", {"run_id": MISSING}, "run", MISSING),
        ("BlobService", "GetBlob", {"blob_id": "0" * 64}, "blob", "0" * 64),
        ("RunsService", "CreateRun", {"flow_id": "0" * 64}, "flow", "0" * 64),
        ("OrchestratorService", "TaskHeartbeat", {"task_id": "t", "worker_id": "w"}, "task", "t"),
        ("TasksService", "GetOrchestratorForRun", {"run_id": MISSING}, "run lease", MISSING),
    ],
)
async def test_what_is_missing_is_named(
    calls: Any, service: str, name: str, fields: dict[str, Any], kind: str, id: str
) -> None:
    error, details = await failure(calls, service, name, **fields)

    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, f"{kind} '{id}' not found")
    assert (details[0].reason, details[0].domain) == ("RESOURCE_NOT_FOUND", "stepflow.io")
    assert dict(details[0].metadata) == {"resource_type": kind, "resource_id": id}


async def test_an_invalid_argument_has_a_field(calls: Any) -> None:
    error, details = await failure(calls, "RunsService", "GetRun", run_id="nonsense")

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in details[0].field_violations] == ["run_id"]
    assert details[0].field_violations[0].description == error.details()


async def test_bytes_that_are_no_request_are_an_invalid_argument(calls: Any) -> None:
    method = methods("RunsService")["CreateRun"]
    call = calls._channel.unary_unary(method.path)

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(b"\xff\xff\xff", timeout=60)

    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == "the bytes are no stepflow.v1.CreateRunRequest"


async def test_a_text_of_any_length_reaches_the_caller(calls: Any) -> None:
    for letter in ("x", "é", "漢", "\n"):
        error, _ = await failure(calls, "RunsService", "GetRun", run_id=letter * 50_000)

        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("text", ["short", "x" * 10_000, "漢" * 10_000, "a b\n" * 3_000])
def test_what_is_said_fits_into_the_headers_that_clients_take(text: str) -> None:
    kept = short(text)
    size = sum(len(key) + len(value) * 4 / 3 for key, value in trailers(grpc.StatusCode.INTERNAL, kept, None, 1.5))

    assert kept == text or kept.endswith(" …")
    assert size + LONGEST < 8_192


def test_when_to_come_again_is_said_twice() -> None:
    found = dict(trailers(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", None, 1.25))

    assert found["retry-after"] == "2"
    assert read_details(found.items())[0].retry_delay.ToTimedelta().total_seconds() == 1.25
