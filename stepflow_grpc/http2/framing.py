"""The frames of HTTP/2 (RFC 9113, sections 4, 6 and 7)."""

from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""How every connection begins (section 3.4)."""

HEAD = Struct(">HBBBL")
"""A frame's head: its length as 16 and 8 bits, its kind, its flags, its stream."""

HEAD_SIZE = 9

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

ACK = 0x1
END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB

MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

FIRST_WINDOW = 65_535
"""Bytes that may be sent on a connection, or a stream, before its receiver has said anything."""

WIDEST_WINDOW = 2**31 - 1
SMALLEST_FRAME = 16_384
"""What every receiver takes, and the longest that is taken here."""

LONGEST_FRAME = 2**24 - 1

_SETTING = Struct(">HL")
_NUMBER = Struct(">L")


class ConnectionProblem(Exception):
    """The other side broke the protocol; nothing more of what it says can be understood."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class StreamProblem(Exception):
    """It broke it on one stream; the others go on."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Raises: ConnectionProblem."""
    if len(payload) % _SETTING.size:
        raise ConnectionProblem(FRAME_SIZE_ERROR, "settings of an odd length")
    return list(_SETTING.iter_unpack(payload))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(increment))


def reset(stream: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def goaway(last: int, code: int, text: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _NUMBER.pack(last) + _NUMBER.pack(code) + text.encode()[:200])


def number(payload: bytes) -> int:
    """The one number of a RST_STREAM or WINDOW_UPDATE. Raises: ConnectionProblem."""
    if len(payload) != _NUMBER.size:
        raise ConnectionProblem(FRAME_SIZE_ERROR, "a frame of four bytes has another length")
    found: int = _NUMBER.unpack(payload)[0]
    return found


def unpadded(flags: int, payload: bytes) -> bytes:
    """What a DATA or HEADERS frame holds. Raises: ConnectionProblem."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionProblem(PROTOCOL_ERROR, "more padding than there is payload")
    return payload[1 : len(payload) - payload[0]]
