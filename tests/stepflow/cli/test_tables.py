import pytest

from stepflow.cli.tables import tell_table


def test_a_piped_table_is_aligned_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    tell_table(("NAME", "COUNT"), [("a" * 200, "1"), ("b", "1,000")], numbers=("COUNT",))

    heads, first, second = capsys.readouterr().out.splitlines()
    assert heads == f"NAME{' ' * 196}  COUNT"
    assert first == f"{'a' * 200}      1"
    assert second == f"b{' ' * 199}  1,000"


def test_what_would_move_a_cursor_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    tell_table(("NAME",), [("a\x1b[2Jb\n[bold]c",)])

    assert capsys.readouterr().out.splitlines()[1] == "a [2Jb [bold]c"
