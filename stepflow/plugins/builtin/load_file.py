"""The `load_file` component. It reads only below directories that the host allowed."""

import os
import stat
from codecs import BOM_UTF8
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import anyio.to_thread
import msgspec
from msgspec import Meta

from stepflow.errors import InvalidInputError, ProblemsError, ResourceUnavailableError
from stepflow.flow.document import read_text
from stepflow.plugins.builtin.component import DIALECT, Builtin, read_input, read_json
from stepflow.protocols import Host
from stepflow.records import Json, Outcome, Succeeded, Task

MAX_BYTES = 64 * 1024 * 1024

Format: TypeAlias = Literal["json", "yaml", "text"]
_EXTENSIONS: dict[str, Format] = {".json": "json", ".yml": "yaml", ".yaml": "yaml"}


class LoadFileInput(msgspec.Struct, frozen=True):
    path: Annotated[str, Meta(description="Relative to the first allowed directory that has it, or absolute.")]
    format: Annotated[Format | None, Meta(description="Absent: by the file's extension, else text.")] = None


def load_file(roots: Sequence[Path]) -> Builtin:
    """The component for these directories; with none it refuses every path."""

    async def perform(task: Task, host: Host) -> Outcome:
        given = read_input(LoadFileInput, task.input)
        if not roots:
            raise InvalidInputError("load_file is off: the host allowed no directory; allow some with `load_roots`")
        with host.clock.busy():
            output = await anyio.to_thread.run_sync(partial(load, given.path, given.format, roots))
        return Succeeded(output)

    return Builtin(
        name="load_file",
        description="Reads a JSON, YAML or text file below a directory that the host allowed.",
        input=LoadFileInput,
        output_schema=_OUTPUT_SCHEMA,
        perform=perform,
    )


def load(path: str, format: Format | None, roots: Sequence[Path], *, max_bytes: int = MAX_BYTES) -> dict[str, Json]:
    """The output for one file.

    Raises:
        InvalidInputError: the path leaves the roots, or the file cannot be read in this format.
        ResourceUnavailableError: there is no such file.
    """
    resolved = locate(path, roots)
    content = _content(resolved, max_bytes)
    format = format or _EXTENSIONS.get(resolved.suffix.lower(), "text")
    metadata: dict[str, Json] = {"resolved_path": str(resolved), "size_bytes": len(content), "format": format}
    return {"data": _parse(content, format, path), "metadata": metadata}


def locate(path: str, roots: Sequence[Path]) -> Path:
    """The file's real place, symbolic links followed: it lies below one of the roots.

    A path outside is refused before anyone looks whether it exists.
    """
    if "\0" in path:
        raise InvalidInputError("a path has no NUL character - at `$.path`")
    try:
        places = [_below(root.resolve(), path) for root in roots]
        allowed = [place for place in places if place is not None]
        if not allowed:
            listed = ", ".join(str(root) for root in roots)
            raise InvalidInputError(f"{path!r} lies outside the allowed directories ({listed}) - at `$.path`")
        found = next((place for place in allowed if place.exists()), None)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidInputError(f"{path!r} is no usable path ({error}) - at `$.path`") from None
    if found is None:
        raise ResourceUnavailableError(f"there is no file {path!r} in the allowed directories")
    return found


def _below(root: Path, path: str) -> Path | None:
    place = (root / path).resolve()
    return place if place.is_relative_to(root) else None


def _content(place: Path, max_bytes: int) -> bytes:
    """Never waits for a pipe or a device, and follows no link that was put there since the path was resolved."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not place.is_file():
        raise InvalidInputError(f"{place} is not a regular file - at `$.path`")
    try:
        with open(os.open(place, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidInputError(f"{place} is not a regular file - at `$.path`")
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise ResourceUnavailableError(f"{place} cannot be read: {error.strerror}") from None
    if len(content) > max_bytes:
        raise InvalidInputError(f"{place} is larger than the {max_bytes:,} bytes that load_file reads - at `$.path`")
    return content


def _parse(content: bytes, format: Format, name: str) -> Json:
    if format == "json":
        try:
            return read_json(content.removeprefix(BOM_UTF8))
        except ValueError as error:
            raise InvalidInputError(f"{name} cannot be read as JSON: {error} - at `$.path`") from None
    try:
        text = content.decode("utf-8-sig")
        return text if format == "text" else read_text(text, name, format).value
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{name} is not UTF-8 text: byte {error.start} - at `$.path`") from None
    except ProblemsError as error:
        raise InvalidInputError(f"{error} - at `$.path`") from None


_OUTPUT_SCHEMA: dict[str, Json] = {
    "$schema": DIALECT,
    "type": "object",
    "properties": {
        "data": {"description": "The parsed value; of a text file its text."},
        "metadata": {
            "type": "object",
            "properties": {
                "resolved_path": {"type": "string"},
                "size_bytes": {"type": "integer", "minimum": 0},
                "format": {"type": "string", "enum": ["json", "yaml", "text"]},
            },
            "required": ["resolved_path", "size_bytes", "format"],
        },
    },
    "required": ["data", "metadata"],
}
