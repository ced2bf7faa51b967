"""Columns of rows as parameters: whole arrays in PostgreSQL's binary format, each with one type whatever is in it.

The driver gives a list of numbers the narrowest type that holds them, so that one statement would be prepared in as
many ways as there are mixtures of types.
"""

from collections.abc import Iterable, Sequence
from struct import Struct, pack

from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import Format

_HEAD = Struct("!iiIii")  # dimensions, whether there are NULLs, the type of the elements, their number, the first index
_NULL = b"\xff\xff\xff\xff"
_BOOL, _BYTEA, _INT8, _TEXT, _FLOAT8 = 16, 17, 20, 25, 701


class Bools(bytes):
    """A `boolean[]`."""


class Blobs(bytes):
    """A `bytea[]`."""


class Ints(bytes):
    """A `bigint[]`."""


class Texts(bytes):
    """A `text[]`."""


class Floats(bytes):
    """A `double precision[]`."""


KINDS: dict[type, int] = {Bools: 1000, Blobs: 1001, Ints: 1016, Texts: 1009, Floats: 1022}


def bools(values: Sequence[bool]) -> Bools:
    return Bools(_head(_BOOL, len(values)) + b"".join(b"\0\0\0\1\1" if value else b"\0\0\0\1\0" for value in values))


def blobs(values: Sequence[bytes | None]) -> Blobs:
    return Blobs(_head(_BYTEA, len(values)) + _pieces(values))


def ints(values: Sequence[int | None]) -> Ints:
    if None in values:
        parts = [_NULL if value is None else pack("!iq", 8, value) for value in values]
        return Ints(_head(_INT8, len(values)) + b"".join(parts))
    flat = [part for value in values for part in (8, value)]
    return Ints(_head(_INT8, len(values)) + pack("!" + "iq" * len(values), *flat))


def texts(values: Sequence[str | None]) -> Texts:
    return Texts(_head(_TEXT, len(values)) + _pieces(value if value is None else value.encode() for value in values))


def floats(values: Sequence[float | None]) -> Floats:
    parts = [_NULL if value is None else pack("!id", 8, value) for value in values]
    return Floats(_head(_FLOAT8, len(values)) + b"".join(parts))


def _head(kind: int, count: int) -> bytes:
    return _HEAD.pack(1, 1, kind, count, 1) if count else pack("!iiI", 0, 0, kind)


def _pieces(values: Iterable[bytes | None]) -> bytes:
    parts: list[bytes] = []
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (len(value).to_bytes(4, "big"), value)
    return b"".join(parts)


class _ArrayDumper(Dumper):
    """Hands an array on: it is packed already."""

    format = Format.BINARY

    def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        self.oid = KINDS[cls]

    def dump(self, obj: Buffer) -> Buffer:
        return obj


def register_arrays(adapters: AdaptersMap) -> None:
    """Let a connection take the arrays of this module."""
    for kind in KINDS:
        adapters.register_dumper(kind, _ArrayDumper)
