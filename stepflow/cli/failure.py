"""How a command ends: its exit codes, and what is said about an error."""

import os
import sys
import threading
import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import NoReturn

import click
import msgspec

from stepflow.cli.impatience import end_when_interrupted
from stepflow.errors import Problem, ProblemsError, StepflowError, StoreInUseError

COULD_NOT_RUN = 1
USAGE = 2
ITEM_FAILED = 3

_PATIENCE_S = 0.2  # idle worker threads need a moment to end


class CommandError(Exception):
    """The command cannot do what it was asked; the text says why and, where it can, what to do."""


def leave(code: int) -> NoReturn:
    """End the process, without waiting for threads that still run a component nobody waits for any more."""
    end_when_interrupted()
    own = (threading.current_thread(), threading.main_thread())
    others = [thread for thread in threading.enumerate() if not thread.daemon and thread not in own]
    for thread in others:
        thread.join(_PATIENCE_S / len(others))
    if any(thread.is_alive() for thread in others):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def exit_code(error: BaseException) -> int:
    return error.exit_code if isinstance(error, click.ClickException) else COULD_NOT_RUN


def explain(error: Exception, *, debug: bool) -> None:
    """Say on stderr what went wrong, without a traceback unless one was asked for."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    match error:
        case ProblemsError():
            for line in problem_lines(error.problems):
                say(line)
        case click.ClickException():
            say(f"error: {error.format_message()}")
        case StoreInUseError():
            say(f"error: {error}")
            say("`stepflow runs` looks at its runs and asks for something meanwhile: stepflow runs --help")
        case CommandError() | StepflowError():
            say(f"error: {error}")
        case OSError():
            say(f"error: {os_error_text(error)}")
        case ImportError():
            say(f"error: {error}")
        case _:
            hint = "" if debug else "; `stepflow --debug …` shows where it arose"
            say(f"error: unexpected {type(error).__name__}: {error}{hint}")


def explain_usage(error: click.UsageError) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return
    say(f"error: {error.format_message()}")
    if error.ctx is not None:
        say(f"see: {error.ctx.command_path} --help")


def say(line: str) -> None:
    """A line on what stderr is at the moment: a progress bar puts it above itself.

    What was told before it comes before it, also where both go into one file or pipe.
    """
    with suppress(OSError):  # whoever ends the process meets it again
        sys.stdout.flush()
    sys.stderr.write(_showable(line, sys.stderr.encoding) + "\n")
    sys.stderr.flush()


def tell(text: str) -> None:
    """A line, or several, of what was asked for, on stdout."""
    sys.stdout.write(_showable(text, sys.stdout.encoding) + "\n")


def _showable(text: str, encoding: str | None) -> str:
    """The text with a mark for every character that the stream has no way to write."""
    return text.encode(encoding or "utf-8", errors="replace").decode(encoding or "utf-8")


def os_error_text(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}"


def problem_lines(problems: Iterable[Problem], *, as_warnings: bool = False) -> list[str]:
    """One line a problem, and below it the line of the file with a mark under the place."""
    lines = []
    for problem in problems:
        level = "warning" if as_warnings else problem.level.replace("fatal", "error")
        shown = msgspec.structs.replace(problem, level=level)
        lines.append(" ".join(str(shown).splitlines()))
        if problem.text is not None and problem.line:
            lines += quoted(problem)
    return lines


def quoted(problem: Problem) -> list[str]:
    """The line as it stands in the file, and a mark below the column; long lines are cut around it."""
    text, column = problem.text or "", max(problem.column, 1)
    start = max(0, column - 60)
    shown = "".join(c if c.isprintable() else " " for c in text[start : start + 100])
    return [f"    {shown}", f"    {' ' * (column - 1 - start)}^"]
