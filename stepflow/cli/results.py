"""Where results go: stdout, or a file that gets its name when it is complete."""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import click
import msgspec

from stepflow.cli.failure import CommandError, os_error_text, say
from stepflow.cli.streams import results_stream
from stepflow.cli.yaml_text import yaml_text
from stepflow.records import Json, Outcome, outcome_to_json

if sys.platform != "win32":
    import fcntl

_TRIES, _WAIT_S = 100, 0.05  # whoever has the part writes what is left of its results
_ENCODER = msgspec.json.Encoder()


class OutputError(CommandError):
    """Results can't be written any more; the run itself is well."""


@contextmanager
def _writing(where: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # a reader that has gone wants no word
        raise
    except OSError as error:
        remedy = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise OutputError(f"the results cannot be written to {where}: {error.strerror or error}{remedy}") from None


class Results(Protocol):
    @property
    def path(self) -> Path | None:
        """The file, or None for stdout."""
        ...

    @property
    def was_cut(self) -> bool:
        """Whether an earlier command ended before it had written everything."""
        ...

    def prepare(self) -> None:
        """See that results can be written, and change nothing yet. Raises: CommandError."""
        ...

    def begin(self) -> None:
        """The run is there: what an earlier one left is dropped."""
        ...

    def write(self, outcome: Outcome) -> None:
        """Raises: OutputError."""
        ...

    def complete(self) -> None:
        """All results were written: a file gets its name. Raises: OutputError."""
        ...


class Lines:
    """JSON Lines into a stream, each one flushed."""

    path = None
    was_cut = False

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def prepare(self) -> None:
        pass

    def begin(self) -> None:
        pass

    def write(self, outcome: Outcome) -> None:
        with _writing("stdout"):
            self._stream.write(_ENCODER.encode(outcome_to_json(outcome)) + b"\n")
            self._stream.flush()

    def complete(self) -> None:
        pass


class FileResults:
    """Grows as FILE.part and is renamed to FILE when it is complete.

    The part is touched only once the run is known to be this command's: until then it may be another's.
    """

    def __init__(self, path: Path, *, yaml: bool) -> None:
        self.path = path
        self._part = part_of(path)
        self._yaml = yaml
        self._stream: BinaryIO | None = None
        self.was_cut = False
        self._has_begun = False
        self._is_complete = False

    def prepare(self) -> None:
        self.was_cut = self._part.exists()
        try:
            self._stream = self._part.open("ab")
        except OSError as error:
            raise CommandError(f"the results cannot be written to {os_error_text(error)}") from None

    def begin(self) -> None:
        for _ in range(_TRIES):
            if self._is_ours():
                break
            time.sleep(_WAIT_S)
        else:
            raise CommandError(f"another command is writing to {self._part}; name another file with --output")
        self._opened.truncate(0)
        self._has_begun = True

    def _is_ours(self) -> bool:
        """Whether nobody else writes to the part. Where it has got its name meanwhile, another one is opened."""
        if not _is_locked(self._opened):
            return False
        try:
            if os.path.samestat(os.fstat(self._opened.fileno()), self._part.stat()):
                return True
        except FileNotFoundError:
            pass
        self._opened.close()
        self._stream = self._part.open("ab")
        return False

    def write(self, outcome: Outcome) -> None:
        value: Json = outcome_to_json(outcome)
        with _writing(str(self._part)):
            self._opened.write(yaml_text(value).encode() if self._yaml else _ENCODER.encode(value) + b"\n")

    def complete(self) -> None:
        with _writing(str(self._part)):
            self._opened.flush()
            os.replace(self._part, self.path)
        self._is_complete = True

    def close(self) -> None:
        """Leave what was done so far, and nothing where nothing was."""
        if self._stream is None:
            return
        with suppress(OSError):  # it was said when it was met first
            self._stream.flush()
        if not self._is_complete and self._is_ours():
            if self._part.stat().st_size == 0:
                self._part.unlink()
            elif self._has_begun:
                say(f"what was done so far is in {self._part}")
        with suppress(OSError):
            self._opened.close()

    @property
    def _opened(self) -> BinaryIO:
        assert self._stream is not None, "prepare comes first"
        return self._stream


def _is_locked(stream: BinaryIO) -> bool:
    """Take a lock that ends with the stream; False where another process has it."""
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # a file system without locks has no other writer
    return True


def part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


@contextmanager
def open_results(output: str | None, *, batch: bool) -> Iterator[Results]:
    """A single result in a file is JSON or YAML as its extension says; many are JSON Lines.

    Raises:
        CommandError: the file is a directory.
    """
    with results_stream() as stdout:
        if output is None:
            yield Lines(stdout)
            return
        path = Path(output)
        if path.is_dir():
            raise CommandError(f"the results cannot be written to {path}: it is a directory")
        results = FileResults(path, yaml=not batch and _is_yaml(path))
        with closing(results):
            yield results


def _is_yaml(path: Path) -> bool:
    extension = path.suffix.lower()
    if extension not in (".json", ".jsonl", ".yml", ".yaml"):
        message = f"--output {path}: the extension says how the result is written; use .json, .yml or .yaml"
        raise click.UsageError(message, click.get_current_context())
    return extension in (".yml", ".yaml")
