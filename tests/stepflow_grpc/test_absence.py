"""What people are told where nobody answers."""

import pytest

from stepflow_grpc.absence import absence
from stepflow_grpc.worker.connection import reason_of
from stepflow_grpc.worker.link import LinkLostError

HANDSHAKE = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Tls handshake failed (TSI): no"
UNTRUSTED = f"{HANDSHAKE} CERTIFICATE_VERIFY_FAILED"
CLOSED = "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed"

RESET = CLOSED.replace("Socket closed", "recvmsg:Connection reset by peer (104)")


@pytest.mark.parametrize(
    ("said", "reason", "remedy"),
    [
        (UNTRUSTED, "its certificate is not trusted", "name who signed it in STEPFLOW_TLS_CA"),
        (f"{HANDSHAKE} WRONG_VERSION_NUMBER", "it speaks no TLS", "write its address without https://"),
        (HANDSHAKE, "it does not speak TLS as we do", "look at the variables STEPFLOW_TLS_…, and at the port"),
        (CLOSED, "it closed the connection", "if it speaks TLS, write https:// before its address"),
        (RESET, "it closed the connection", "if it speaks TLS, write https:// before its address; if it wants a cert"),
        ("ipv4:127.0.0.1:1: Connection refused", "connection refused", "start one with `stepflow serve`"),
    ],
)
def test_a_worker_and_a_client_say_the_same_of_an_address_where_nobody_answers(
    said: str, reason: str, remedy: str
) -> None:
    found = absence(said)

    assert found is not None
    assert found.reason == reason
    assert found.remedy.startswith(remedy)
    assert reason_of(LinkLostError(said, status="UNAVAILABLE"), "cpu") == f"{reason}; {found.remedy}"


def test_what_is_not_known_is_told_as_it_is() -> None:
    assert absence("the moon is full") is None
    assert reason_of(LinkLostError("the moon is full", status="UNAVAILABLE"), "cpu") == "the moon is full"


def test_where_the_server_names_the_variable_it_is_not_named_again() -> None:
    error = LinkLostError("this server wants a token: set STEPFLOW_TOKEN", status="UNAUTHENTICATED")

    assert reason_of(error, "cpu") == "this server wants a token: set STEPFLOW_TOKEN"
