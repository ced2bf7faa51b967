"""Headers as callers send them, and as they are sent back."""

import logging

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from stepflow_grpc.http2.framing import COMPRESSION_ERROR, ConnectionProblem, StreamProblem
from stepflow_grpc.http2.headers import RESPONSE, Head, HeaderReader, block, http_answer, trailers

CALL = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "here"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


def encoded(pairs: list[tuple[str, str]], encoder: Encoder | None = None) -> bytes:
    return (encoder or Encoder()).encode(pairs)


def read(*more: tuple[str, str], call: list[tuple[str, str]] = CALL) -> Head:
    return HeaderReader().read(encoded([*call, *more]))


def test_a_call_is_read() -> None:
    head = read(("grpc-timeout", "2500m"), ("grpc-encoding", "gzip"), ("user-agent", "x"), ("a-bin", "AQID,BA"))

    assert head == Head(
        "/a.B/C",
        (("user-agent", "x"), ("a-bin", b"\1\2\3"), ("a-bin", b"\4")),
        timeout_s=2.5,
        encoding="gzip",
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("1H", 3600), ("2M", 120), ("99999999S", 99_999_999), ("5u", 5e-6), ("7n", 7e-9)]
)
def test_timeouts_have_units(text: str, seconds: float) -> None:
    assert read(("grpc-timeout", text)).timeout_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    "pair",
    [
        ("grpc-timeout", "123456789S"),
        ("grpc-timeout", "1.5S"),
        ("grpc-timeout", "-1S"),
        ("grpc-timeout", "5"),
        ("a-bin", "%%%"),
        ("Upper", "case"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        (":path", "/again"),
        (":status", "200"),
    ],
)
def test_what_breaks_the_rules_ends_its_stream(pair: tuple[str, str]) -> None:
    with pytest.raises(StreamProblem):
        read(pair)


def test_a_request_has_a_path() -> None:
    with pytest.raises(StreamProblem):
        read(call=[pair for pair in CALL if pair[0] != ":path"])


def test_what_is_no_call_of_grpc_gets_a_status_of_http() -> None:
    assert read(call=[(name, "GET" if name == ":method" else value) for name, value in CALL]).refused == 405
    assert read(call=CALL[:-1]).refused == 415
    assert read(call=[*CALL[:-1], ("content-type", "application/grpc-web")]).refused == 415
    assert read(call=[*CALL[:-1], ("content-type", "application/grpc+proto")]).refused == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["x-a", "x-b", "authorization"]), st.sampled_from(["", "1", "2", "y" * 300])),
        max_size=4,
    ).map(tuple)
    | st.sampled_from([(), (("x-a", "1"),), (("x-a", "1"), ("x-b", "2"))]),
    st.integers(0, 2**32 - 1),
)
def test_blocks_that_are_remembered_say_the_same_as_those_that_are_read(
    metadata: tuple[tuple[str, str], ...], seed: int
) -> None:
    """The table of headers moves under them: the same bytes mean something else then."""
    encoder, reader = Encoder(), HeaderReader()
    said = [metadata, (), metadata, (("x-new", str(seed)),), metadata, (), metadata]

    for number, pairs in enumerate(said * 3):
        if number % 5 == 4:
            encoder.header_table_size = 4096 if number % 2 else 200
        found = reader.read(encoded([*CALL, *pairs], encoder))
        assert found.metadata == pairs


def test_the_same_call_is_read_once() -> None:
    encoder, reader = Encoder(), HeaderReader()
    first = reader.read(encoded(CALL, encoder))
    later = [reader.read(encoded(CALL, encoder)) for _ in range(3)]

    assert later[0] == first
    assert later[1] is later[0] is later[2]


def test_what_can_not_be_read_ends_the_connection() -> None:
    for data in (b"\xff\xff\xff\xff\xff\xff", b"\xc0", b"\x40\x05ab", b"\x00\x85\xff\xff\xff\xff\xff\x01a"):
        with pytest.raises(ConnectionProblem) as raised:
            HeaderReader().read(data)
        assert raised.value.code == COMPRESSION_ERROR


def test_headers_beyond_the_limit_end_the_connection() -> None:
    with pytest.raises(ConnectionProblem):
        read(("x-long", "x" * 20_000))


def test_one_field_of_the_table_said_again_and_again_is_too_much() -> None:
    """A block of a few hundred bytes can stand for megabytes."""
    encoder, reader = Encoder(), HeaderReader()
    reader.read(encoded([*CALL, ("x-long", "x" * 3_000)], encoder))

    with pytest.raises(ConnectionProblem):
        reader.read(b"\xbe" * 200)


def test_what_is_read_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        read(("authorization", "Bearer secret-word"))

    assert "secret-word" not in caplog.text


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 10_000])
def test_strings_of_any_length_arrive(size: int) -> None:
    assert Decoder().decode(block([("x", "v" * size)])) == [("x", "v" * size)]


def test_an_answer_begins_and_ends_in_the_words_of_grpc() -> None:
    ended = Decoder().decode(trailers(5, "nothing at 100 % – 'ü'\n", [("retry-after", "1"), ("x-bin", b"\xff\0")]))

    assert Decoder().decode(RESPONSE) == [(":status", "200"), ("content-type", "application/grpc")]
    assert ended == [
        ("grpc-status", "5"),
        ("grpc-message", "nothing at 100 %25 %E2%80%93 '%C3%BC'%0A"),
        ("retry-after", "1"),
        ("x-bin", "/wA"),
    ]


@pytest.mark.parametrize("status", [404, 405, 415])
def test_others_get_a_status_of_http(status: int) -> None:
    assert Decoder().decode(http_answer(status)) == [(":status", str(status))]
