"""How a server listens, as a configuration says it."""

from pathlib import Path
from typing import Any

import pytest

from stepflow.config.model import ServerSettings
from stepflow.config.read import load_config
from stepflow.errors import ConfigError


def settings(server: Any) -> ServerSettings:
    return load_config({"plugins": {}, "routes": {}, "server": server}, environ={}, directory="/etc/flows").server


def test_every_key_is_read_and_files_are_beside_the_configuration() -> None:
    found = settings(
        {
            "host": "0.0.0.0",
            "port": 7840,
            "httpPort": 8080,
            "tls": {"cert": "tls/cert.pem", "key": "/abs/key.pem", "clientCa": "ca.pem"},
            "tokenFile": "tokens",
            "maxMessageBytes": 100_000,
            "maxConnections": 5,
        }
    )

    assert found == ServerSettings(
        host="0.0.0.0",
        port=7840,
        http_port=8080,
        tls_cert=str(Path("/etc/flows/tls/cert.pem")),
        tls_key="/abs/key.pem",
        tls_client_ca=str(Path("/etc/flows/ca.pem")),
        token_file=str(Path("/etc/flows/tokens")),
        max_message_bytes=100_000,
        max_connections=5,
    )


@pytest.mark.parametrize("nothing", [None, {}])
def test_nothing_written_is_nothing(nothing: Any) -> None:
    assert settings(nothing) == ServerSettings()


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"port": 70_000}, "port has to be at most 65535"),
        ({"tls": {"cert": "c"}}, "key is missing"),
        ({"maxMessageBytes": 1}, "maxMessageBytes has to be at least 65536"),
        ({"tokenFile": 5}, "tokenFile has to be text, not a number"),
    ],
)
def test_what_can_not_be_is_refused(server: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings(server)
