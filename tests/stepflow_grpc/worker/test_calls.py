"""Which failures of calls are worth another try."""

import grpc
import grpc.aio
import pytest

from stepflow_grpc.worker.calls import Code, is_passing


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (Code.UNAVAILABLE, "away", True),
        (Code.NOT_FOUND, "no such task", False),
        (Code.RESOURCE_EXHAUSTED, "queue 'gpu' is full: try again in 2 s", True),
        (Code.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", True),
        (Code.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (70 vs. 64)", False),
        (Code.RESOURCE_EXHAUSTED, "CLIENT: Sent message larger than max (70 vs. 64)", False),
    ],
)
def test_a_server_that_has_enough_to_do_is_asked_again_and_a_message_too_large_is_not(
    code: grpc.StatusCode, text: str, expected: bool
) -> None:
    nothing = grpc.aio.Metadata()

    assert is_passing(grpc.aio.AioRpcError(code, nothing, nothing, details=text)) is expected
