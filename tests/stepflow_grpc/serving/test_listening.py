"""Flags win over the environment, which wins over the configuration."""

from pathlib import Path

import click
import pytest

from stepflow.config.model import ServerSettings
from stepflow_grpc.doors.tls import TlsFiles
from stepflow_grpc.serving.listening import Listening, read_listening

WRITTEN = ServerSettings(host="0.0.0.0", port=1, http_port=2, tls_cert="c", tls_key="k", max_message_bytes=100_000_000)


def test_nothing_written_listens_to_this_machine_alone() -> None:
    assert read_listening(ServerSettings(), environ={}) == Listening(host="127.0.0.1", port=7840)


def test_the_configuration_counts_where_no_flag_is_given() -> None:
    found = read_listening(WRITTEN, port=3, environ={})

    assert (found.host, found.port, found.http_port, found.tls) == ("0.0.0.0", 3, 2, TlsFiles(cert="c", key="k"))
    assert found.limits.message_bytes == 100_000_000


def test_tokens_come_from_the_first_that_has_any(tmp_path: Path) -> None:
    for name in ("flag", "configured"):
        (tmp_path / name).write_text(name)
    configured = ServerSettings(token_file=str(tmp_path / "configured"))
    environ = {"STEPFLOW_TOKEN": "new old"}

    found = [
        read_listening(configured, token_file=str(tmp_path / "flag"), environ=environ).tokens,
        read_listening(configured, environ=environ).tokens,
        read_listening(configured, environ={}).tokens,
    ]

    assert [list(tokens.tokens()) for tokens in found if tokens is not None] == [
        ["flag"],
        ["new", "old"],
        ["configured"],
    ]


def test_a_certificate_alone_is_refused() -> None:
    with pytest.raises(click.UsageError, match="--tls-key"):
        read_listening(ServerSettings(), tls_cert="c", environ={})
