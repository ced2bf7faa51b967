"""Whether what was read is what was written: SQLite itself does not see a bit that fell over inside a value."""

from collections.abc import Sequence
from zlib import crc32


def entry_crc(header: Sequence[int], payload: bytes) -> int:
    """The checksum of a row of the journal; its header is where it stands, how much it holds, and what kind it is."""
    return crc32(payload, crc32(b"%d %d %d %d %d %d" % tuple(header)))


def result_crc(at: int, place_at: int, outcome: bytes) -> int:
    return crc32(outcome, (at ^ place_at) & 0xFFFFFFFF)


def is_whole_entry(header: Sequence[object], payload: object, crc: int | None) -> bool:
    """Whether a row is as it was written. Rows of older versions have no checksum, damaged ones hold anything."""
    numbers = [number for number in header if isinstance(number, int)]
    if len(numbers) != len(header) or not isinstance(payload, bytes):
        return False
    return crc is None or crc == entry_crc(numbers, payload)


def is_whole_result(at: int, place_at: object, outcome: object, crc: int | None) -> bool:
    """The same of a row of the results."""
    if not isinstance(place_at, int) or not isinstance(outcome, bytes):
        return False
    return crc is None or crc == result_crc(at, place_at, outcome)
