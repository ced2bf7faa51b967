"""Documents: a file or a text becomes a value, and a problem found later its line and column."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path as FilePath

import msgspec

from stepflow.errors import FlowInvalidError, Problem, ProblemsError
from stepflow.flow.json_text import decode_json, read_json
from stepflow.flow.marked import Fault, Marked, Reading, Unreadable, line_at, offset_of, plain
from stepflow.flow.model import Origin, Path
from stepflow.flow.path import PathError, parse_path
from stepflow.flow.yaml_text import read_yaml
from stepflow.records import Json

MAX_BYTES = 256 * 1024 * 1024
MAX_YAML_BYTES = 1024 * 1024
"""YAML beyond this is refused unless the caller allows more: reading it takes seconds a megabyte."""

_FORMATS = {".yml": "yaml", ".yaml": "yaml", ".json": "json", ".jsonl": "json"}
_MOST = 100  # faults that are told
_SHOWN = 200  # characters of a line that a problem quotes


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A text read as JSON or YAML. With problems the value is what could be read of it, or null."""

    value: Json
    origin: Origin
    problems: tuple[Problem, ...] = ()
    repeated: tuple[Path, ...] = ()  # keys written more than once; the last one counts
    root: Marked | None = None  # the value with its places, where the reading gave them


def load_document(
    path: str | os.PathLike[str],
    *,
    error: type[ProblemsError] = FlowInvalidError,
    max_yaml_bytes: int = MAX_YAML_BYTES,
) -> Document:
    """Read a file; its extension says whether it is YAML or JSON.

    Raises:
        ProblemsError: of the class `error`; the file can't be read, or holds something else.
    """
    return _accepted(open_document(path, max_yaml_bytes=max_yaml_bytes), error)


def read_text(
    text: str,
    name: str | None = None,
    format: str = "yaml",
    *,
    error: type[ProblemsError] = FlowInvalidError,
    max_yaml_bytes: int = MAX_YAML_BYTES,
) -> Document:
    """Read a text as `yaml` or `json`; `name` is what problems call it.

    Raises:
        ProblemsError: of the class `error`, with everything that is wrong.
    """
    return _accepted(open_text(text, name, format, max_yaml_bytes=max_yaml_bytes), error)


def _accepted(document: Document, error: type[ProblemsError]) -> Document:
    if document.problems:
        raise error(document.problems)
    return document


def open_document(path: str | os.PathLike[str], *, max_yaml_bytes: int = MAX_YAML_BYTES) -> Document:
    """As `load_document`, but what is wrong is in the answer."""
    name = os.fspath(path)
    format = _FORMATS.get(FilePath(name).suffix.lower())
    if format is None:
        message = "a file's extension says what it holds, and this one is not known"
        return _unreadable(name, Problem(message=message, source=name, remedy="use .yml, .yaml or .json"))
    try:
        with open(name, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as cause:
        remedy = "check the path and its permissions"
        return _unreadable(name, Problem(message=_unreadable_file(cause), source=name, remedy=remedy))
    if len(content) > MAX_BYTES:
        message = f"a document may have {MAX_BYTES:,} bytes, and this has more"
        return _unreadable(name, Problem(message=message, source=name, remedy="load its data at run time"))
    try:
        text = content.decode()
    except UnicodeDecodeError as cause:
        return _unreadable(name, _not_utf8(name, content, cause))
    return open_text(text, name, format, max_yaml_bytes=max_yaml_bytes)


def open_text(
    text: str, name: str | None = None, format: str = "yaml", *, max_yaml_bytes: int = MAX_YAML_BYTES
) -> Document:
    """As `read_text`, but what is wrong is in the answer."""
    if format not in ("yaml", "json"):
        raise ValueError(f"a document is yaml or json, not {format!r}")
    origin = Origin(name=name, text=text.removeprefix("\ufeff"), format=format)
    size = _size(text) if format == "yaml" else 0
    if size > max_yaml_bytes:
        message = f"a YAML document may have {max_yaml_bytes:,} bytes, and this has {size:,}"
        remedy = "write it as JSON, or load its data at run time"
        return _unreadable(name, Problem(message=message, source=name, remedy=remedy))
    if format == "json":
        try:
            return Document(value=decode_json(origin.text or ""), origin=origin)
        except Unreadable:
            pass  # read again below, to say what is wrong and where
    try:
        reading = _read(origin)
    except Unreadable as cause:
        return Document(value=None, origin=origin, problems=(_fault(cause.fault, origin),))
    return Document(
        value=plain(reading.root),
        origin=origin,
        problems=tuple(_fault(fault, origin) for fault in reading.faults[:_MOST]),
        repeated=tuple(reading.repeated),
        root=reading.root,
    )


def _unreadable(name: str | None, problem: Problem) -> Document:
    return Document(value=None, origin=Origin(name=name), problems=(problem,))


def _unreadable_file(cause: OSError | ValueError) -> str:
    if not isinstance(cause, OSError):
        return f"the file cannot be read: {cause}"
    known = {
        errno.ENOENT: "there is no such file",
        errno.EISDIR: "this is a directory, not a file",
        errno.EACCES: "reading this file is not permitted",
    }
    return known.get(cause.errno or 0, f"the file cannot be read: {cause.strerror or cause}")


def _not_utf8(name: str, content: bytes, cause: UnicodeDecodeError) -> Problem:
    return Problem(
        message=f"not UTF-8: byte 0x{content[cause.start]:02x} at offset {cause.start}",
        source=name,
        line=content.count(b"\n", 0, cause.start) + 1,
        column=cause.start - content.rfind(b"\n", 0, cause.start),
        remedy="save the file as UTF-8",
    )


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _read(origin: Origin) -> Reading:
    text = origin.text or ""
    return read_json(text) if origin.format == "json" else read_yaml(text)


def _fault(fault: Fault, origin: Origin) -> Problem:
    line, column, text = line_at(origin.text or "", fault.offset)
    return Problem(
        message=fault.message,
        source=origin.name,
        line=line,
        column=column,
        text=_quoted(text, column),
        remedy=fault.remedy,
    )


def _quoted(line: str, column: int) -> str:
    if len(line) <= _SHOWN:
        return line
    start = max(0, column - 1 - _SHOWN // 2)
    return ("…" if start else "") + line[start : start + _SHOWN] + ("…" if start + _SHOWN < len(line) else "")


def place(origin: Origin, path: Path, *, of_key: bool = False) -> tuple[int, int, str]:
    """Line, column and line of text of the value at a path (or of its key); (0, 0, "") when there is no text.

    Slow: it reads the whole text again. For many paths use `located`.
    """
    if origin.text is None:
        return 0, 0, ""
    line, column, text = line_at(origin.text, offset_of(_root(origin), path, of_key=of_key))
    return line, column, _quoted(text, column)


def located(
    problems: Sequence[Problem], origin: Origin, *, root: Marked | None = None, of_key: bool = False
) -> tuple[Problem, ...]:
    """The same problems, with file, line, column and text where they have none yet. `root` saves reading it again."""
    if not problems or origin.text is None:
        return tuple(msgspec.structs.replace(p, source=p.source or origin.name) for p in problems)
    root = root or _root(origin)
    return tuple(problem if problem.line else _located(problem, origin, root, of_key) for problem in problems)


def _located(problem: Problem, origin: Origin, root: Marked, of_key: bool) -> Problem:
    try:
        path = parse_path(problem.path)
    except PathError:
        path = ()
    line, column, text = line_at(origin.text or "", offset_of(root, path, of_key=of_key))
    return msgspec.structs.replace(problem, source=origin.name, line=line, column=column, text=_quoted(text, column))


def _root(origin: Origin) -> Marked:
    try:
        return _read(origin).root
    except Unreadable:
        return Marked(0)
