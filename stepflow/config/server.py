"""How a server listens, as a configuration says it."""

from pathlib import Path

from stepflow.config.model import ServerSettings
from stepflow.config.section import Section

_PORTS = 65_535


def read_server(section: Section | None, directory: Path) -> ServerSettings:
    """`directory`: what relative files are relative to."""
    if section is None:
        return ServerSettings()
    cert, key, client_ca = _read_tls(section.section("tls"), directory)
    settings = ServerSettings(
        host=section.text("host"),
        port=_read_port(section, "port"),
        http_port=_read_port(section, "httpPort"),
        tls_cert=cert,
        tls_key=key,
        tls_client_ca=client_ca,
        token_file=_read_file(section, "tokenFile", directory),
        max_message_bytes=_read_limit(section, "maxMessageBytes", least=65_536),
        max_connections=_read_limit(section, "maxConnections", least=1),
    )
    section.warn_unknown()
    return settings


def _read_tls(section: Section | None, directory: Path) -> tuple[str | None, str | None, str | None]:
    if section is None:
        return None, None, None
    cert, key = (_read_file(section, name, directory, required=True) for name in ("cert", "key"))
    client_ca = _read_file(section, "clientCa", directory)
    section.warn_unknown()
    return cert, key, client_ca


def _read_file(section: Section, key: str, directory: Path, *, required: bool = False) -> str | None:
    file = section.text(key, required=required)
    return None if file is None else str(directory / file)


def _read_port(section: Section, key: str) -> int | None:
    if section.get(key) is None:
        return None
    port = section.integer(key, 0)
    if port > _PORTS:
        section.problems.add((*section.path, key), f"{key} has to be at most {_PORTS}")
    return port


def _read_limit(section: Section, key: str, *, least: int) -> int | None:
    return None if section.get(key) is None else section.integer(key, least, least=least)
