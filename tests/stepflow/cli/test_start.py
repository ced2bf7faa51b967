"""The first lines of the command line."""

import subprocess
import sys

import pytest

from stepflow.cli import start


def test_an_interrupt_while_the_command_line_is_loaded_ends_it_with_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "import_module", interrupted)

    with pytest.raises(SystemExit) as ended:
        start.main()

    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_it_leads_to_the_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stepflow.cli.start", "--version"], capture_output=True, text=True, timeout=60
    )

    assert [done.returncode, done.stdout.split()[0]] == [0, "stepflow"]
