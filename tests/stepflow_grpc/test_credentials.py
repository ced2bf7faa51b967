"""Certificates and tokens come from arguments or the environment, and are never shown."""

import logging
from pathlib import Path

import pytest

from stepflow_grpc.address import read_address
from stepflow_grpc.channel import is_loopback, open_sync_channel
from stepflow_grpc.credentials import Credentials, CredentialsError, TokenFile, read_credentials, read_tokens


def test_what_is_given_wins_over_the_environment() -> None:
    environ = {"STEPFLOW_TLS_CA": "a.pem", "STEPFLOW_TOKEN": "from-environment", "STEPFLOW_TOKEN_FILE": "tokens"}

    found = read_credentials(token="given", environ=environ)

    assert (found.ca, found.token, found.token_file) == ("a.pem", "given", None)


def test_the_first_of_several_tokens_is_shown_to_servers() -> None:
    assert read_credentials(environ={"STEPFLOW_TOKEN": "new old"}).token == "new"


def test_children_read_the_same_credentials() -> None:
    found = Credentials(ca="ca.pem", cert="c.pem", key="c.key", token="secret")

    assert read_credentials(environ=found.environment()) == found


def test_a_token_is_never_printed() -> None:
    found = Credentials(token="secret-word")

    assert "secret-word" not in f"{found!r} {found} {[found]}"


@pytest.mark.parametrize("half", ["STEPFLOW_TLS_CERT", "STEPFLOW_TLS_KEY"])
def test_a_certificate_without_its_key_is_refused(half: str) -> None:
    with pytest.raises(CredentialsError, match="go together"):
        read_credentials(environ={half: "file"})


@pytest.mark.parametrize("text", ["", "  \n", "sécret", "a\x00b"])
def test_what_can_not_be_a_token_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(CredentialsError) as raised:
        read_tokens(text, "the file")

    assert not text.strip() or text not in str(raised.value)


def test_a_token_file_is_read_again_when_it_changed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "tokens"
    file.write_text("first\n")
    tokens = TokenFile(str(file))

    file.write_text("second\nfirst\n")
    assert list(tokens.tokens()) == ["second", "first"]

    file.write_text("")
    with caplog.at_level(logging.WARNING):
        assert list(tokens.tokens()) == ["second", "first"]
        assert list(tokens.tokens()) == ["second", "first"]
    assert [record.message for record in caplog.records] == [
        f"there is no token in the token file {file}; the tokens that were read before still count"
    ]


def test_a_token_that_goes_out_in_clear_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for address in ("127.0.0.1:1", "https://far.example:1", "far.example:1"):
            open_sync_channel(read_address(address), Credentials(token="secret")).close()

    assert [record.message for record in caplog.records] == [
        "the token goes to far.example:1 in clear: use TLS, with an address that begins with https://"
    ]


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False), ("far.example", False)],
)
def test_loopback_is_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
