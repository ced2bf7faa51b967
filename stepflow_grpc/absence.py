"""Why nobody answers at an address: from what gRPC says to what people can do about it."""

import re

import msgspec

START = "start one with `stepflow serve`, or name another with --url or STEPFLOW_URL"


class Absence(msgspec.Struct, frozen=True):
    """What is the matter, and what can be done."""

    reason: str
    remedy: str = START


_KNOWN = (
    (
        "CERTIFICATE_VERIFY_FAILED",
        Absence("its certificate is not trusted", "name who signed it in STEPFLOW_TLS_CA"),
    ),
    (
        "WRONG_VERSION_NUMBER",
        Absence("it speaks no TLS", "write its address without https://, or name another port"),
    ),
    (
        "[Hh]andshake failed",
        Absence("it does not speak TLS as we do", "look at the variables STEPFLOW_TLS_…, and at the port"),
    ),
    ("Connection refused", Absence("connection refused")),
    ("Domain name not found", Absence("nobody knows the name")),
    (
        "failed to connect.*(Socket closed|Connection reset)",
        Absence(
            "it closed the connection",
            "if it speaks TLS, write https:// before its address; if it wants a certificate of yours, name it in "
            "STEPFLOW_TLS_CERT and STEPFLOW_TLS_KEY",
        ),
    ),
)


def absence(said: str) -> Absence | None:
    """What the text of an UNAVAILABLE call amounts to; None: it is not known, and the text says it itself."""
    return next((found for sign, found in _KNOWN if re.search(sign, said)), None)
