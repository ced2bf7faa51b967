"""Where an orchestrator is."""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from stepflow.errors import StepflowError

PORT = 7840
"""Of servers, workers and clients, unless told otherwise."""

DEFAULT = f"127.0.0.1:{PORT}"
VARIABLE = "STEPFLOW_URL"


class AddressError(StepflowError):
    """The text is no address."""


class Address(msgspec.Struct, frozen=True):
    """A host, a port, and whether TLS is spoken there."""

    host: str
    port: int = PORT
    is_secure: bool = False

    @property
    def target(self) -> str:
        """As gRPC takes it: `host:port`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https://' if self.is_secure else ''}{self.target}"


def read_address(text: str | None = None, *, environ: Mapping[str, str] | None = None) -> Address:
    """An address from `host`, `host:port`, `http://host:port` or `https://host:port` (which is TLS).

    Args:
        text: None takes the variable STEPFLOW_URL, else 127.0.0.1:7840.

    Raises:
        AddressError: the text is no address.
    """
    environ = os.environ if environ is None else environ
    given = text if text is not None else environ.get(VARIABLE) or DEFAULT
    has_scheme = "://" in given
    try:
        parts = urlsplit(given if has_scheme else f"//{given}")
        port = parts.port or PORT
    except ValueError:
        raise AddressError(_refusal(given)) from None
    is_known = not has_scheme or parts.scheme in ("http", "https", "grpc", "grpcs")
    if not parts.hostname or not is_known or len(parts.hostname.split()) > 1:
        raise AddressError(_refusal(given))
    return Address(parts.hostname, port, parts.scheme in ("https", "grpcs"))


def _refusal(given: str) -> str:
    return f"{given!r} is no address of a server: write host:port, or https://host:port for TLS"
