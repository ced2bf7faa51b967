"""The messages in the bytes of a request."""

import zlib

from stepflow_grpc.http2.methods import Ended, Status, TooLong

_PREFIX = 5
_HEAD = 256
_ANY_FORMAT = 47  # zlib finds out itself whether it is gzip's or its own


class Body:
    """Cuts what arrives into messages: each has a flag, whether it is compressed, and its length before it.

    Args:
        longest: bytes of one message, as it is used.
    """

    __slots__ = ("_encoding", "_longest", "_rest")

    def __init__(self, longest: int, encoding: str) -> None:
        self._longest = longest
        self._encoding = encoding
        self._rest = bytearray()

    @property
    def is_whole(self) -> bool:
        """Whether no message has begun and not ended."""
        return not self._rest

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole now.

        Raises:
            Ended: one is too long, or is compressed in a way that is not read here.
        """
        size = len(data) - _PREFIX
        if not self._rest and 0 <= size <= self._longest and data[:_PREFIX] == b"\0" + size.to_bytes(4):
            return [data[_PREFIX:]]
        rest = self._rest
        rest += data
        found = []
        while len(rest) >= _PREFIX:
            size = int.from_bytes(rest[1:_PREFIX])
            if size > self._longest:
                raise TooLong(size, self._longest, bytes(rest[_PREFIX : _PREFIX + _HEAD]))
            if len(rest) < _PREFIX + size:
                break
            with memoryview(rest) as view:
                message = bytes(view[_PREFIX : _PREFIX + size])
            found.append(self._plain(message) if rest[0] else message)
            del rest[: _PREFIX + size]
        return found

    def _plain(self, message: bytes) -> bytes:
        if self._encoding not in ("gzip", "deflate"):
            text = f"messages can't be compressed by {self._encoding!r} here: take gzip, deflate or identity"
            raise Ended(Status.UNIMPLEMENTED, text, [("grpc-accept-encoding", "identity,deflate,gzip")])
        inflating = zlib.decompressobj(_ANY_FORMAT)
        try:
            found = inflating.decompress(message, self._longest + 1)
        except zlib.error:
            raise Ended(Status.INTERNAL, f"a message is no {self._encoding}") from None
        if len(found) > self._longest:
            raise TooLong(len(found), self._longest, found[:_HEAD])
        if not inflating.eof:
            raise Ended(Status.INTERNAL, f"a message breaks off in its {self._encoding}")
        return found
