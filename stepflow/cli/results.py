"""Where results go: stdout, or a file that gets its name when it is complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import click
import msgspec

from stepflow.cli.failure import CommandError, os_error_text, say
from stepflow.cli.streams import results_stream
from stepflow.cli.yaml_text import yaml_text
from stepflow.records import Json, Outcome, outcome_to_json

_ENCODER = msgspec.json.Encoder()


class Results(Protocol):
    @property
    def path(self) -> Path | None:
        """The file, or None for stdout."""
        ...

    def write(self, outcome: Outcome) -> None: ...

    def complete(self) -> None:
        """All results were written: a file gets its name."""
        ...


class Lines:
    """JSON Lines into a stream, each one flushed."""

    path = None

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, outcome: Outcome) -> None:
        self._stream.write(_ENCODER.encode(outcome_to_json(outcome)) + b"\n")
        self._stream.flush()

    def complete(self) -> None:
        pass


class FileResults:
    """Grows as FILE.part and is renamed to FILE when it is complete."""

    def __init__(self, path: Path, stream: BinaryIO, *, yaml: bool) -> None:
        self.path = path
        self._stream = stream
        self._yaml = yaml
        self.is_complete = False

    def write(self, outcome: Outcome) -> None:
        value: Json = outcome_to_json(outcome)
        self._stream.write(yaml_text(value).encode() if self._yaml else _ENCODER.encode(value) + b"\n")

    def complete(self) -> None:
        self._stream.flush()
        os.replace(part_of(self.path), self.path)
        self.is_complete = True


def part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


@contextmanager
def open_results(output: str | None, *, batch: bool) -> Iterator[Results]:
    """A single result in a file is JSON or YAML as its extension says; many are JSON Lines.

    Raises:
        CommandError: the file cannot be written.
    """
    with results_stream() as stdout:
        if output is None:
            yield Lines(stdout)
            return
        path = Path(output)
        if path.is_dir():
            raise CommandError(f"the results cannot be written to {path}: it is a directory")
        yaml = not batch and _is_yaml(path)
        try:
            stream = part_of(path).open("wb")
        except OSError as error:
            raise CommandError(f"the results cannot be written to {os_error_text(error)}") from None
        results = FileResults(path, stream, yaml=yaml)
        try:
            with stream:
                yield results
        finally:
            if not results.is_complete:
                _keep_or_drop(part_of(path))


def _keep_or_drop(part: Path) -> None:
    """Leave what was done so far, and nothing where nothing was."""
    if part.stat().st_size == 0:
        part.unlink()
    else:
        say(f"what was done so far is in {part}")


def _is_yaml(path: Path) -> bool:
    extension = path.suffix.lower()
    if extension not in (".json", ".jsonl", ".yml", ".yaml"):
        message = f"--output {path}: the extension says how the result is written; use .json, .yml or .yaml"
        raise click.UsageError(message, click.get_current_context())
    return extension in (".yml", ".yaml")
