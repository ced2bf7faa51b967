"""What a status of gRPC becomes."""

import pickle
from typing import Any

import grpc
import pytest

from stepflow.errors import (
    BlobNotFoundError,
    FlowInvalidError,
    InputInvalidError,
    RunActiveError,
    RunNotFoundError,
    StoreUnavailableError,
)
from stepflow_grpc.address import Address
from stepflow_grpc.client.errors import (
    CallFailedError,
    CallTimeoutError,
    FlowNotFoundError,
    NotAllowedError,
    NotServedError,
    ServerBusyError,
    ServerStoreError,
    ServerUnavailableError,
    TooLargeError,
    error_of,
    problems_of,
    shown_size,
)
from stepflow_grpc.details import trailers
from stepflow_grpc.refusals import ended

Code = grpc.StatusCode
HERE = Address("127.0.0.1", 7840)
RUN = "0199aaaa-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("code", "details", "method", "kind", "words"),
    [
        (Code.NOT_FOUND, f"run '{RUN}' not found", "GetRun", RunNotFoundError, RUN),
        (Code.NOT_FOUND, "blob 'b' not found", "GetBlob", BlobNotFoundError, "the id b"),
        (Code.NOT_FOUND, "flow 'f' not found", "GetFlow", FlowNotFoundError, "the id f; store it first"),
        (Code.NOT_FOUND, "step 's' not found", "GetStepDetail", CallFailedError, "step 's' not found"),
        (Code.INVALID_ARGUMENT, "bad", "StoreFlow", FlowInvalidError, "bad"),
        (Code.INVALID_ARGUMENT, "bad", "CreateRun", InputInvalidError, "bad"),
        (Code.FAILED_PRECONDITION, f"run {RUN} has not ended", "DeleteRun", RunActiveError, RUN),
        (Code.UNAVAILABLE, "Connection refused", "GetRun", ServerUnavailableError, "connection refused; start one"),
        (Code.UNAVAILABLE, "the server is closing", "GetRun", ServerUnavailableError, "the server is closing"),
        (Code.UNAVAILABLE, "TLS: CERTIFICATE_VERIFY_FAILED", "GetRun", ServerUnavailableError, "in STEPFLOW_TLS_CA"),
        (
            Code.UNAVAILABLE,
            "failed to connect: Socket closed",
            "GetRun",
            ServerUnavailableError,
            "write https:// before",
        ),
        (Code.UNAVAILABLE, "Socket closed", "GetRun", ServerUnavailableError, "Socket closed; start one"),
        (Code.UNAVAILABLE, "Domain name not found", "GetRun", ServerUnavailableError, "nobody knows the name"),
        (Code.CANCELLED, "", "GetRun", ServerUnavailableError, "it left"),
        (Code.DEADLINE_EXCEEDED, "", "GetRun", CallTimeoutError, "did not answer GetRun in time"),
        (Code.RESOURCE_EXHAUSTED, "queue 'gpu' is full", "CreateRun", ServerBusyError, "queue 'gpu' is full"),
        (
            Code.RESOURCE_EXHAUSTED,
            "Received message larger than max (5000000 vs. 4194304)",
            "PutBlob",
            TooLargeError,
            "4.8 MiB, and the server takes 4.0 MiB",
        ),
        (Code.UNAUTHENTICATED, "no token", "GetRun", NotAllowedError, "STEPFLOW_TOKEN"),
        (Code.UNIMPLEMENTED, "", "Results", NotServedError, "has no Results"),
        (Code.INTERNAL, "internal error", "GetRun", CallFailedError, "GetRun: INTERNAL: internal error"),
    ],
)
def test_each_status_has_its_exception(code: Any, details: str, method: str, kind: Any, words: str) -> None:
    error = error_of(code, details, method, HERE)

    assert type(error) is kind
    assert words in str(error)


def test_a_store_that_does_not_answer_is_not_taken_for_a_server_that_does_not() -> None:
    said = ended(StoreUnavailableError("no connection was free"))

    error = error_of(Code.UNAVAILABLE, said.message, "GetRun", HERE, said.metadata)

    assert said.code == Code.UNAVAILABLE.value[0]
    assert isinstance(error, ServerStoreError)
    assert str(error) == f"the server at {HERE} has no answer from its store: no connection was free"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_busy_server_says_when_to_come_again() -> None:
    metadata = trailers(Code.RESOURCE_EXHAUSTED, "full", None, 2.5)

    error = error_of(Code.RESOURCE_EXHAUSTED, "full", "CreateRun", HERE, metadata)

    assert isinstance(error, ServerBusyError)
    assert error.retry_after_s == 2.5


def test_problems_keep_their_codes_and_are_told_one_by_one() -> None:
    found = problems_of('error 3003: step "b" is not defined ($.steps[0])\nerror: item 1: too long\nand so on')

    assert [(problem.code, problem.message) for problem in found] == [
        (3003, 'step "b" is not defined ($.steps[0])'),
        (None, "item 1: too long"),
        (None, "and so on"),
    ]


def test_sizes_are_told_in_bytes_or_in_mebibytes() -> None:
    assert [shown_size(size) for size in (999_999, 3 * 1024**2)] == ["999,999 bytes", "3.0 MiB"]


@pytest.mark.parametrize(
    "error",
    [
        ServerUnavailableError(HERE, "it left", "wait"),
        CallTimeoutError(HERE, "GetRun"),
        TooLargeError("the blob", 5, 4, "split it"),
        CallFailedError("GetRun", "INTERNAL", "x"),
        FlowNotFoundError("f"),
        ServerBusyError("full"),
    ],
)
def test_an_exception_goes_from_process_to_process_whole(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))

    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
