"""Which file a SQLite store's path or URL means."""

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from stepflow.errors import StoreError

_WRITABLE = ("rw", "rwc")
_DRIVE = re.compile(r"/[A-Za-z]:[/\\]")


def path_of(location: str | os.PathLike[str]) -> Path:
    """The file that a bare path or a `sqlite:` URL means, not looked for.

    `sqlite:runs.db` is relative; `sqlite:/x.db` and `sqlite:///x.db` are absolute. Only a URL has percent escapes and
    parameters; `mode=rw` and `mode=rwc` are accepted and say what is done anyway.

    Raises:
        StoreError: it names no file, or a database in memory, or has a parameter that is not known.
    """
    text = os.fspath(location)
    is_url = isinstance(location, str) and text.startswith("sqlite:")
    path = _path_of_url(text) if is_url else text
    if ":memory:" in path:
        raise _in_memory(text)
    if not path:
        raise StoreError(f"{text!r} names no file: write a path, or sqlite:PATH")
    if "\0" in path:
        raise StoreError(f"{text!r} is no file name: it holds a NUL")
    return Path(path)


def _path_of_url(url: str) -> str:
    path, _, parameters = url.removeprefix("sqlite:").partition("?")
    for name, value in parse_qsl(parameters, keep_blank_values=True):
        if (name, value) == ("mode", "memory"):
            raise _in_memory(url)
        if name != "mode" or value not in _WRITABLE:
            raise StoreError(f"{url}: {name}={value} is not known here; write sqlite:PATH, or ?mode=rwc after it")
    path = unquote(path.removeprefix("//"))
    return path[1:] if _DRIVE.match(path) else path


def _in_memory(location: str) -> StoreError:
    return StoreError(f"{location}: to keep runs in memory, leave `store` out; a SQLite store is a file")
