"""A record that means nothing is left out, and no other."""

import asyncio
import logging

import pytest

from stepflow_grpc.noise import leave_out_noise


@pytest.mark.parametrize(
    ("error", "message", "expected"),
    [
        (BlockingIOError(11, "again"), "Exception in callback PollerCompletionQueue._handle_events(<loop>)()", 0),
        (BlockingIOError(11, "again"), "Exception in callback mine()", 1),
        (
            RuntimeError("Event loop is closed"),
            "Exception in callback PollerCompletionQueue._handle_events(<loop>)()",
            0,
        ),
        (RuntimeError("Event loop is closed"), "Exception in callback mine()", 1),
        (OSError(5, "broken"), "Exception in callback PollerCompletionQueue._handle_events(<loop>)()", 1),
    ],
)
def test_what_is_meant_for_another_loop_is_not_logged(
    error: Exception, message: str, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    leave_out_noise()
    leave_out_noise()
    loop = asyncio.new_event_loop()

    with caplog.at_level(logging.ERROR, "asyncio"):
        loop.call_exception_handler({"message": message, "exception": error})
    loop.close()

    assert len(caplog.records) == expected
