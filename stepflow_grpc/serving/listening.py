"""How `stepflow serve` listens: from its flags, the environment and the configuration, in this order."""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
import msgspec

from stepflow.cli.options import filled
from stepflow.config.model import ServerSettings
from stepflow_grpc.address import PORT
from stepflow_grpc.credentials import TokenFile, read_tokens
from stepflow_grpc.doors.guard import FixedTokens, Tokens
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.doors.tls import TlsFiles

HOST = "127.0.0.1"

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PORTS = click.IntRange(0, 65_535)
_FILE = click.Path(exists=True, dir_okay=False)

_OPTIONS = (
    click.option(
        "--host",
        callback=filled,  # an empty one would be every address of the machine
        envvar="STEPFLOW_HOST",
        help=f"The address to listen on. Not given: {HOST}.",
    ),
    click.option(
        "--port",
        "-p",
        type=_PORTS,
        envvar="STEPFLOW_PORT",
        help=f"The port to listen on; 0 takes a free one. Not given: {PORT}.",
    ),
    click.option(
        "--http-port",
        type=_PORTS,
        envvar="STEPFLOW_HTTP_PORT",
        help="A port for HTTP alone. Not given: --port speaks it too; with TLS, nothing does.",
    ),
    click.option(
        "--tls-cert", type=_FILE, envvar="STEPFLOW_SERVER_TLS_CERT", help="The certificate, as PEM: speak TLS only."
    ),
    click.option("--tls-key", type=_FILE, envvar="STEPFLOW_SERVER_TLS_KEY", help="The key of the certificate, as PEM."),
    click.option(
        "--tls-client-ca",
        type=_FILE,
        envvar="STEPFLOW_SERVER_TLS_CLIENT_CA",
        help="Take only clients and workers whose certificates one of these authorities signed.",
    ),
    click.option(
        "--token-file",
        type=_FILE,
        envvar="STEPFLOW_TOKEN_FILE",
        help="Tokens, one a line, of which callers have to show one. Or set STEPFLOW_TOKEN. Not given: none is asked.",
    ),
)


class Listening(msgspec.Struct, frozen=True, kw_only=True):
    """Where a server listens, and who may come in: what `Server` takes beside its engine."""

    host: str = HOST
    port: int = PORT
    http_port: int | None = None
    tls: TlsFiles | None = None
    tokens: Tokens | None = None
    limits: Limits = Limits()

    def options(self) -> dict[str, Any]:
        """As arguments of `Server`."""
        return msgspec.structs.asdict(self)

    def worker_environment(self, environ: Mapping[str, str] | None = None) -> dict[str, str]:
        """What workers that the server starts need beside its address, so that it lets them in, and they trust it.

        The certificate stands for its own authority, unless the environment names another in STEPFLOW_TLS_CA.
        """
        environ = os.environ if environ is None else environ
        found = {} if self.tokens is None else self.tokens.environment()
        if self.tls is not None:
            found["STEPFLOW_TLS_CA"] = environ.get("STEPFLOW_TLS_CA") or self.tls.cert
        return found


def listening_options(command: _Command) -> _Command:
    """The flags, whose values `read_listening` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_listening(
    settings: ServerSettings,
    *,
    host: str | None = None,
    port: int | None = None,
    http_port: int | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    tls_client_ca: str | None = None,
    token_file: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Listening:
    """
    Raises:
        click.UsageError: a certificate has no key, or a key no certificate.
        CredentialsError: there is no token where tokens are said to be.
    """
    environ = os.environ if environ is None else environ
    ports = _first(port, settings.port, PORT), _first(http_port, settings.http_port)
    return Listening(
        host=_first(host, settings.host, HOST),
        port=ports[0],
        http_port=ports[1],
        tls=_tls(settings, tls_cert, tls_key, tls_client_ca),
        tokens=_tokens(token_file, environ.get("STEPFLOW_TOKEN"), settings.token_file),
        limits=_limits(settings),
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _tls(settings: ServerSettings, cert: str | None, key: str | None, client_ca: str | None) -> TlsFiles | None:
    cert, key = _first(cert, settings.tls_cert), _first(key, settings.tls_key)
    client_ca = _first(client_ca, settings.tls_client_ca)
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise click.UsageError(
            "TLS needs both a certificate and its key: give --tls-cert FILE and --tls-key FILE",
            click.get_current_context(silent=True),
        )
    return TlsFiles(cert=cert, key=key, client_ca=client_ca)


def _tokens(file: str | None, text: str | None, configured: str | None) -> Tokens | None:
    if file is not None:
        return TokenFile(file)
    if text:
        return FixedTokens(read_tokens(text, "STEPFLOW_TOKEN"))
    return None if configured is None else TokenFile(configured)


def _limits(settings: ServerSettings) -> Limits:
    written = {"message_bytes": settings.max_message_bytes, "connections": settings.max_connections}
    limits = msgspec.structs.replace(Limits(), **{name: value for name, value in written.items() if value is not None})
    return msgspec.structs.replace(limits, in_flight_bytes=max(limits.in_flight_bytes, limits.message_bytes))
