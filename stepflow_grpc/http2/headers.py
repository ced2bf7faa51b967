"""The headers of a call and of its answer."""

import base64
import binascii
import logging
import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias
from urllib.parse import quote

import msgspec
from hpack import Decoder, HPACKError

from stepflow_grpc.http2.framing import COMPRESSION_ERROR, PROTOCOL_ERROR, ConnectionProblem, StreamProblem

logging.getLogger("hpack").setLevel(logging.INFO)  # below, it tells what the headers are, and tokens are among them

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

LONGEST = 16_384
"""Bytes of a call's headers, each counted with 32 more (RFC 9113, section 6.5.2)."""

_REMEMBERED = 256
_SHORT = 512

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_OF_HTTP = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})
_OF_GRPC = frozenset({"te", "content-type", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"})
_GRPC = ("application/grpc", "application/grpc+proto")
_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


class Head(msgspec.Struct, frozen=True):
    """What a caller says before its first message."""

    path: str
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    timeout_s: float | None = None
    encoding: str = "identity"  # of messages that are compressed
    refused: int = 0  # the status of HTTP for what is no call of gRPC; 0: it is one


class HeaderReader:
    """Reads the blocks of one connection, in their order.

    What changes nothing in the table of headers reads the same each time: such blocks are remembered, which are nearly
    all that a client of gRPC sends.
    """

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=LONGEST)
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Raises: ConnectionProblem, StreamProblem: the request is malformed."""
        known = self._known.get(block)
        if known is not None:
            return known
        pairs, is_kept = self.decode(block)
        head = _head(pairs)
        if is_kept and len(block) <= _SHORT:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[block] = head
        return head

    def decode(self, block: bytes) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Read a block whatever it says, as the table has to be kept. Also says whether the table is as it was.

        Raises: ConnectionProblem.
        """
        entries = self._decoder.header_table.dynamic_entries
        size, newest = len(entries), entries[0] if entries else None
        try:
            pairs: list[tuple[bytes, bytes]] = [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except (HPACKError, ValueError, IndexError) as error:
            raise ConnectionProblem(COMPRESSION_ERROR, "headers that can't be read") from error
        is_kept = len(entries) == size and (not size or entries[0] is newest)
        if not is_kept:
            self._known.clear()
        return pairs, is_kept


def _head(pairs: Iterable[tuple[bytes, bytes]]) -> Head:
    """Raises: StreamProblem."""
    pseudo: dict[str, str] = {}
    fields: dict[str, str] = {}
    metadata: list[tuple[str, str | bytes]] = []
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name.startswith(":"):
            if fields or metadata or name in pseudo:
                raise StreamProblem(PROTOCOL_ERROR, f"the header {name} is out of its place")
            pseudo[name] = value
        elif name in _OF_GRPC:
            fields[name] = value
        elif not name or name != name.lower() or name in _OF_HTTP:
            raise StreamProblem(PROTOCOL_ERROR, "a header that HTTP/2 has not")
        else:
            metadata.extend((name, each) for each in _values(name, value))
    if not pseudo.keys() <= {":method", ":scheme", ":path", ":authority"} or not pseudo.get(":path"):
        raise StreamProblem(PROTOCOL_ERROR, "a request without its path, or with what no request has")
    kind = fields.get("content-type", "").partition(";")[0].strip()
    refused = 405 if pseudo.get(":method") != "POST" else 0 if kind in _GRPC else 415
    timeout_s = _seconds(fields["grpc-timeout"]) if "grpc-timeout" in fields else None
    return Head(pseudo[":path"], tuple(metadata), timeout_s, fields.get("grpc-encoding", "identity"), refused)


def _values(name: str, value: str) -> Iterable[str | bytes]:
    if not name.endswith("-bin"):
        return (value,)
    try:
        return [base64.b64decode(part + "=" * (-len(part) % 4), validate=True) for part in value.split(",")]
    except (binascii.Error, ValueError):
        raise StreamProblem(PROTOCOL_ERROR, f"the header {name} is no base64") from None


def _seconds(text: str) -> float:
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise StreamProblem(PROTOCOL_ERROR, "grpc-timeout is no time")
    return int(found[1]) * _UNITS[found[2]]


def block(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Headers as they go out: each in full, so that nothing has to be kept of what was said."""
    return b"".join(b"\0" + _string(name.encode()) + _string(value.encode()) for name, value in pairs)


def _string(data: bytes) -> bytes:
    """RFC 7541, sections 5.1 and 5.2, without Huffman's code."""
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    size -= 127
    digits = bytearray((127,))
    while size >= 128:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    digits.append(size)
    return bytes(digits) + data


_HTTP_STATUS = {200: b"\x88", 404: b"\x8d"}  # in the table that every receiver has (RFC 7541, appendix A)

RESPONSE = _HTTP_STATUS[200] + block([("content-type", "application/grpc")])
"""What an answer begins with."""

FINE = block([("grpc-status", "0")])
"""What ends one that is whole."""


def trailers(code: int, message: str, metadata: Metadata = ()) -> bytes:
    """What ends one that failed."""
    pairs = [("grpc-status", str(code)), ("grpc-message", quote(message, safe=_SAFE))]
    for name, value in metadata:
        text = value if isinstance(value, str) else base64.b64encode(value).decode().rstrip("=")
        pairs.append((name, text))
    return block(pairs)


def http_answer(status: int) -> bytes:
    """The only header of an answer to what is no call of gRPC."""
    return _HTTP_STATUS.get(status) or block([(":status", str(status))])
