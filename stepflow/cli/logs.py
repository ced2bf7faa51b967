"""Where logs go, and how a line looks."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import msgspec

from stepflow.cli.failure import CommandError, os_error_text, say

LEVELS = {
    "off": logging.CRITICAL + 10,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG - 5,
}
FORMATS = ("text", "json")
DESTINATIONS = ("stderr", "stdout", "file", "otlp")
"""The last is the reference's; logs go to stderr instead."""

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object a line; whatever a caller passed as `extra` stands beside the text."""

    def format(self, record: logging.LogRecord) -> str:
        shown: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        shown.update((key, value) for key, value in vars(record).items() if key not in _KNOWN)
        if record.exc_info:
            shown["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(shown, enc_hook=str).decode()


class TextLines(logging.Formatter):
    """One line a record: an exception by its name and text, with all that led to it only where that was asked for."""

    def __init__(self, *, traces: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._traces = traces

    def format(self, record: logging.LogRecord) -> str:
        if self._traces or not record.exc_info:
            return super().format(record)
        kind, error, _ = record.exc_info
        plain = logging.makeLogRecord({**vars(record), "exc_info": None, "exc_text": None})
        return f"{super().format(plain)}: {kind.__name__ if kind else ''}: {error}"


class CurrentStderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the moment: a progress bar takes its place for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def set_up_logs(level: str, other_level: str, format: str, file: str | None, destination: str | None = None) -> None:
    """Send the logs of stepflow and of everything else to stderr or stdout, or to the file if there is one."""
    handler = _handler(file, destination)
    text = TextLines(traces=LEVELS[level.lower()] <= logging.DEBUG)
    handler.setFormatter(JsonLines() if format.lower() == "json" else text)
    root, own = logging.getLogger(), logging.getLogger("stepflow")
    for old in root.handlers[:]:
        if getattr(old, "of_stepflow", False):
            root.removeHandler(old)
    handler.of_stepflow = True  # type: ignore[attr-defined]  # so that a second call replaces it
    root.addHandler(handler)
    root.setLevel(LEVELS[other_level.lower()])
    own.setLevel(LEVELS[level.lower()])


@contextmanager
def muted(name: str) -> Iterator[None]:
    """Without the warnings of one logger, while a command shows the same ones itself."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _handler(file: str | None, destination: str | None) -> logging.Handler:
    if destination == "otlp":
        say("warning: --log-destination otlp has no effect: this version exports no telemetry")
        return CurrentStderr(sys.stderr)
    if file is None or destination in ("stderr", "stdout"):
        return logging.StreamHandler(_kept_stdout()) if destination == "stdout" else CurrentStderr(sys.stderr)
    try:
        return logging.FileHandler(file, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"logs cannot be written to {os_error_text(error)}") from None


def _kept_stdout() -> TextIO:
    """What stdout is now, also while it is reserved for results."""
    try:
        return open(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")  # open as long as there are logs
    except (AttributeError, OSError, ValueError):  # a test's stream may be anything
        return sys.stdout
