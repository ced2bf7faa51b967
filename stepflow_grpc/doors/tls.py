"""A server's certificate, and whose clients it takes."""

import logging
import os
import ssl

import msgspec

from stepflow_grpc.credentials import CredentialsError, read_file

logger = logging.getLogger("stepflow.server")


class TlsFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server's certificate and key are, as PEM."""

    cert: str  # with the certificates of those that signed it, if they are not the root
    key: str
    client_ca: str | None = None  # of the authorities that sign clients; None: clients show no certificate


class _Loaded(msgspec.Struct, frozen=True):
    state: object
    grpc: ssl.SSLContext
    http: ssl.SSLContext


class Certificates:
    """The content of the files, read again when they changed. What can't be used leaves what was there before.

    Raises:
        CredentialsError: the files can't be read, or do not belong together.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._loaded = self._load()

    def of_grpc(self) -> ssl.SSLContext:
        """For gRPC's port, now. Clients have to show a certificate where there is a `client_ca`."""
        return self._current().grpc

    def of_http(self) -> ssl.SSLContext:
        """For HTTP's port, now. Clients need no certificate there: probes have none."""
        return self._current().http

    def _current(self) -> _Loaded:
        if self._state() != self._loaded.state:
            try:
                self._loaded = self._load()
            except CredentialsError as error:
                logger.warning("%s; the certificate that was read before still counts", error)
            else:
                logger.info("the certificate was read again from %s", self._files.cert)
        return self._loaded

    def _load(self) -> _Loaded:
        files, state = self._files, self._state()
        read_file(files.cert, "the certificate")
        read_file(files.key, "the key")
        if files.client_ca is not None:
            read_file(files.client_ca, "the clients' authority")
        return _Loaded(state, _grpc_context(files), _context(files))

    def _state(self) -> object:
        names = (self._files.cert, self._files.key, self._files.client_ca)
        return [_stamp(name) for name in names if name is not None]


def _stamp(name: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except ssl.SSLError as error:
        text = f"{files.cert} and {files.key} are no certificate and its key: {error.reason or 'no PEM'}"
        raise CredentialsError(text) from None
    except (OSError, ValueError) as error:
        raise CredentialsError(f"{files.cert} and {files.key} can't be used: {error}") from None
    return context


def _grpc_context(files: TlsFiles) -> ssl.SSLContext:
    context = _context(files)
    context.set_alpn_protocols(["h2"])
    if files.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.client_ca)
        except (ssl.SSLError, OSError):
            raise CredentialsError(f"{files.client_ca} holds no certificates of authorities") from None
    return context


def _no_password() -> str:
    raise ValueError("the key is locked by a password; give it without one")
