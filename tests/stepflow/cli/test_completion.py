"""`stepflow completion`."""

import pytest


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_a_script_that_asks_stepflow(cli, shell: str) -> None:
    outcome = cli("completion", shell)

    assert outcome.code == 0
    assert f"_STEPFLOW_COMPLETE={shell}_complete" in outcome.out


def test_an_unknown_shell_is_a_usage_error(cli) -> None:
    assert cli("completion", "tcsh").code == 2
