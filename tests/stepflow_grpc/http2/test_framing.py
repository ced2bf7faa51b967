"""Frames as they are on the wire."""

import pytest

from stepflow_grpc.http2.framing import (
    FRAME_SIZE_ERROR,
    PADDED,
    PROTOCOL_ERROR,
    ConnectionProblem,
    frame,
    goaway,
    number,
    read_settings,
    reset,
    settings,
    unpadded,
    window_update,
)


def test_frames_look_as_the_standard_has_them() -> None:
    assert frame(0x0, 0x1, 5, b"abc") == bytes.fromhex("000003 00 01 00000005") + b"abc"
    assert frame(0x1, 0x0, 1, b"x" * 70_000)[:9] == bytes.fromhex("011170 01 00 00000001")
    assert settings({3: 100, 4: 65_536}) == bytes.fromhex("00000c 04 00 00000000 0003 00000064 0004 00010000")
    assert window_update(7, 1_000) == bytes.fromhex("000004 08 00 00000007 000003e8")
    assert reset(9, 8) == bytes.fromhex("000004 03 00 00000009 00000008")
    assert goaway(11, 2, "why") == bytes.fromhex("00000b 07 00 00000000 0000000b 00000002") + b"why"


def test_settings_are_read_in_their_order() -> None:
    assert read_settings(settings({4: 1, 3: 2})[9:]) == [(4, 1), (3, 2)]
    with pytest.raises(ConnectionProblem) as raised:
        read_settings(b"\0" * 7)
    assert raised.value.code == FRAME_SIZE_ERROR


@pytest.mark.parametrize("payload", [b"", b"\0\0\0", b"\0" * 5])
def test_a_number_has_four_bytes(payload: bytes) -> None:
    with pytest.raises(ConnectionProblem) as raised:
        number(payload)
    assert raised.value.code == FRAME_SIZE_ERROR
    assert number(b"\0\0\1\0") == 256


@pytest.mark.parametrize(
    ("payload", "content"), [(b"\0abc", b"abc"), (b"\2abc\0\0", b"abc"), (b"\0", b""), (b"\3\0\0\0", b"")]
)
def test_padding_is_taken_off(payload: bytes, content: bytes) -> None:
    assert unpadded(PADDED, payload) == content
    assert unpadded(0, payload) == payload


@pytest.mark.parametrize("payload", [b"", b"\1", b"\4abc"])
def test_more_padding_than_payload_breaks_the_protocol(payload: bytes) -> None:
    with pytest.raises(ConnectionProblem) as raised:
        unpadded(PADDED, payload)
    assert raised.value.code == PROTOCOL_ERROR
