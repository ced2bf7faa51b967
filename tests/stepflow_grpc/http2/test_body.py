"""Messages come out of a request's bytes however these are cut."""

import gzip
import zlib

import pytest

from stepflow_grpc.http2.body import Body
from stepflow_grpc.http2.methods import Ended, Status, TooLong

PACKED = {"gzip": gzip.compress, "deflate": zlib.compress}


def framed(content: bytes, *, is_packed: bool = False) -> bytes:
    return bytes([is_packed]) + len(content).to_bytes(4) + content


def refused(body: Body, data: bytes) -> Ended:
    with pytest.raises(Ended) as raised:
        body.feed(data)
    return raised.value


def test_three_messages_cut_anywhere_are_the_same_three() -> None:
    whole = framed(b"first") + framed(b"") + framed(b"x" * 20)

    for first in range(len(whole) + 1):
        for second in range(first, len(whole) + 1):
            body = Body(20, "identity")
            parts = whole[:first], whole[first:second], whole[second:]
            assert [found for part in parts for found in body.feed(part)] == [b"first", b"", b"x" * 20]
            assert body.is_whole


@pytest.mark.parametrize("size", [1, 4, 5, 9])
def test_a_message_that_has_begun_is_not_whole(size: int) -> None:
    body = Body(100, "identity")

    assert body.feed(framed(b"12345")[:size]) == []
    assert not body.is_whole


def test_one_that_is_too_long_is_refused_before_it_is_here() -> None:
    ended = refused(Body(100, "identity"), b"\0" + (101).to_bytes(4))

    assert (ended.code, ended.message) == (
        Status.RESOURCE_EXHAUSTED,
        "Received message larger than max (101 vs. 100)",
    )


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_of_one_that_is_too_long_the_beginning_is_told(encoding: str) -> None:
    content = b"begins so" + b"x" * 1_000
    is_packed = encoding in PACKED
    data = framed(PACKED[encoding](content) if is_packed else content, is_packed=is_packed)

    ended = refused(Body(500, encoding), data)

    assert isinstance(ended, TooLong)
    assert (ended.longest, ended.head) == (500, content[: len(ended.head)])
    assert len(ended.head) > 100


@pytest.mark.parametrize("encoding", PACKED)
def test_compressed_messages_are_read(encoding: str) -> None:
    content = b"much of the same " * 10

    body = Body(1_000, encoding)

    assert body.feed(framed(PACKED[encoding](content), is_packed=True) + framed(b"plain")) == [content, b"plain"]


@pytest.mark.parametrize("encoding", PACKED)
def test_what_grows_beyond_the_limit_is_refused(encoding: str) -> None:
    ended = refused(Body(100_000, encoding), framed(PACKED[encoding](b"\0" * 50_000_000), is_packed=True))

    assert ended.code == Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("encoding", PACKED)
def test_what_is_broken_is_refused(encoding: str) -> None:
    packed = PACKED[encoding](b"something that is cut off in its midst")

    assert refused(Body(100, encoding), framed(packed[:-6], is_packed=True)).code == Status.INTERNAL
    assert refused(Body(100, encoding), framed(b"garbage", is_packed=True)).code == Status.INTERNAL


@pytest.mark.parametrize("encoding", ["snappy", "identity"])
def test_what_is_compressed_otherwise_is_refused_with_what_is_read(encoding: str) -> None:
    ended = refused(Body(100, encoding), framed(b"x", is_packed=True))

    assert ended.code == Status.UNIMPLEMENTED
    assert ended.metadata == [("grpc-accept-encoding", "identity,deflate,gzip")]
