"""Whether what was read is what was written: SQLite itself does not see a bit that fell over inside a value."""

from collections.abc import Callable, Sequence
from zlib import crc32


def entry_crc(header: Sequence[int], payload: bytes) -> int:
    """The checksum of a row of the journal; its header is where it stands, how much it holds, and what kind it is."""
    return crc32(payload, crc32(b"%d %d %d %d %d %d" % tuple(header)))


def result_crc(at: int, place_at: int, outcome: bytes) -> int:
    return crc32(outcome, (at ^ place_at) & 0xFFFFFFFF)


def is_whole(content: object, crc: int | None, check: Callable[[bytes], int]) -> bool:
    """Whether content has its checksum. Rows of older versions have none, and a damaged row may hold no content."""
    return isinstance(content, bytes) and crc in (None, check(content))
