"""The keys that secrets are sealed with."""

import pytest
from cryptography.fernet import Fernet

from stepflow.errors import SecretKeyError
from stepflow.execution import keys
from stepflow.execution.keys import SecretKeys, keys_of

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


def test_the_first_key_seals_and_each_of_them_opens() -> None:
    sealed_before = SecretKeys(OLD).seal(b"hunter2")

    both = SecretKeys(f"{NEW}, {OLD}")

    assert both.open(sealed_before) == b"hunter2"
    assert SecretKeys(NEW).open(both.seal(b"x")) == b"x"
    assert SecretKeys(OLD).open(both.seal(b"x")) is None


def test_a_token_that_was_changed_is_not_opened() -> None:
    token = SecretKeys(NEW).seal(b"hunter2")

    assert SecretKeys(NEW).open(f"{token[:-4]}AAA=") is None
    assert SecretKeys(NEW).open("no token at all") is None
    assert SecretKeys(NEW).open("ünïcode") is None


@pytest.mark.parametrize("text", ["hunter2", NEW[:-2], f"{NEW},", f"{NEW},{OLD}x", "ü" * 44], ids=range(5))
def test_what_is_no_key_is_refused_with_a_way_to_make_one_and_is_not_shown(text: str) -> None:
    with pytest.raises(SecretKeyError, match=r"STEPFLOW_SECRET_KEY is not 32 bytes.*Fernet\.generate_key") as caught:
        SecretKeys(text)

    assert NEW not in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("environ", [{}, {"STEPFLOW_SECRET_KEY": ""}, {"STEPFLOW_SECRET_KEY": " "}])
def test_an_empty_variable_holds_no_key(environ: dict[str, str]) -> None:
    assert keys_of(environ) is None


def test_a_key_without_the_package_that_seals_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "find_spec", lambda name: None)

    with pytest.raises(SecretKeyError, match=r"stepflow-engine\[secrets\]"):
        keys_of({"STEPFLOW_SECRET_KEY": NEW})
