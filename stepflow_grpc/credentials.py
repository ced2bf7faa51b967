"""Who a client or a worker is, and whom it trusts: certificates and a token, from arguments or the environment."""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from stepflow.errors import StepflowError

logger = logging.getLogger("stepflow.credentials")

VARIABLES: Mapping[str, str] = {
    "ca": "STEPFLOW_TLS_CA",
    "cert": "STEPFLOW_TLS_CERT",
    "key": "STEPFLOW_TLS_KEY",
    "token": "STEPFLOW_TOKEN",
    "token_file": "STEPFLOW_TOKEN_FILE",
}
"""Which variable of the environment stands for which field of `Credentials`."""

_TOKEN = re.compile(r"[\x21-\x7e]+")


class CredentialsError(StepflowError):
    """A certificate, key or token can't be used. The text names the file, never what is in it."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection shows, and what it trusts. Files are PEM, and read when a connection is opened.

    The token file is read again when it changed, so tokens can be replaced while a worker runs; of several tokens in
    it, one a line, the first is shown.
    """

    ca: str | None = None  # file of the authorities that sign servers; None: those of the system
    cert: str | None = None  # file of this side's own certificate, where servers ask for one
    key: str | None = None  # file of its key
    token: str | None = None
    token_file: str | None = None  # wins over `token`

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in ("ca", "cert", "key", "token_file")]
        return f"Credentials({', '.join(shown)}, token={'…' if self.token else None})"

    __str__ = __repr__

    @property
    def means_tls(self) -> bool:
        """Whether TLS is spoken even where the address does not say so."""
        return self.ca is not None or self.cert is not None

    def environment(self) -> dict[str, str]:
        """The variables from which a child process reads the same credentials."""
        return {variable: value for name, variable in VARIABLES.items() if (value := getattr(self, name)) is not None}

    def pem(self, name: str) -> bytes | None:
        """What the file of `ca`, `cert` or `key` holds. Raises: CredentialsError."""
        file: str | None = getattr(self, name)
        return None if file is None else read_file(file, f"the file of {VARIABLES[name]}")


def read_credentials(
    *,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    token: str | None = None,
    token_file: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Credentials:
    """What is given, and the rest from the environment.

    Raises:
        CredentialsError: a certificate has no key or the other way round, or the token is none.
    """
    given = {"ca": ca, "cert": cert, "key": key, "token": token, "token_file": token_file}
    environ = os.environ if environ is None else environ
    if token is not None or token_file is not None:  # either one given leaves none to the environment
        environ = {
            name: value for name, value in environ.items() if name not in ("STEPFLOW_TOKEN", "STEPFLOW_TOKEN_FILE")
        }
    found = {
        name: value if value is not None else environ.get(VARIABLES[name]) or None for name, value in given.items()
    }
    if (found["cert"] is None) != (found["key"] is None):
        raise CredentialsError("a certificate and its key go together: set both STEPFLOW_TLS_CERT and STEPFLOW_TLS_KEY")
    if found["token"] is not None:
        found["token"] = read_tokens(found["token"], "STEPFLOW_TOKEN")[0]
    return Credentials(**found)


def read_file(file: str, what: str) -> bytes:
    """Raises: CredentialsError."""
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise CredentialsError(f"{what}, {file}, can't be read: {error.strerror}") from None


def read_tokens(text: str, source: str) -> tuple[str, ...]:
    """The tokens in a text, separated by white space; each is of printable ASCII characters.

    Raises:
        CredentialsError: there is none, or one of them can't be sent.
    """
    tokens = tuple(text.split())
    if not tokens:
        raise CredentialsError(f"there is no token in {source}")
    if not all(_TOKEN.fullmatch(token) for token in tokens):
        raise CredentialsError(f"a token in {source} has characters that can't be sent: use printable ASCII")
    return tokens


class TokenFile:
    """The tokens of a file, read again when it changed. One that can't be read any more leaves the last ones."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._state = _state(file)
        self._tokens = self._read()

    def tokens(self) -> tuple[str, ...]:
        state = _state(self._file)
        if state != self._state:
            self._state = state
            try:
                self._tokens = self._read()
            except CredentialsError as error:
                logger.warning("%s; the tokens that were read before still count", error)
        return self._tokens

    def environment(self) -> dict[str, str]:
        return {"STEPFLOW_TOKEN_FILE": os.path.abspath(self._file)}

    def _read(self) -> tuple[str, ...]:
        what = f"the token file {self._file}"
        return read_tokens(read_file(self._file, "the token file").decode("utf-8", "replace"), what)


def _state(file: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size)
