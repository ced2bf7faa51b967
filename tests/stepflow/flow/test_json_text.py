"""JSON with places, and JSON that is none."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepflow.flow.json_text import decode_json, read_json
from stepflow.flow.marked import Unreadable, plain

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON, st.sampled_from([None, 2]), st.booleans())
def test_both_readings_give_the_same_value(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)

    reading = read_json(f" \n{text}\t")

    assert plain(reading.root) == value
    if not re.search(r"\d{19}", text):
        assert decode_json(text) == value
    assert not reading.faults
    assert not reading.repeated


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        ("", "the text is empty", 0),
        (" \n", "the text is empty", 0),
        ('{"a": 1,}', "a comma after the last member", 7),
        ("[1,]", "a comma after the last member", 2),
        ('{"a" 1}', "expected a colon after the key, found '1'", 5),
        ("[1 2]", "expected a comma or ], found '2'", 3),
        ('{"a": [1, 2}', "expected a comma or ], found '}'", 11),
        ('{"a": 1', "expected a comma or }, found the end of the text", 7),
        ("{", "expected a key in double quotes, found the end of the text", 1),
        ("[", "expected a value, found the end of the text", 1),
        ("{'a': 1}", "expected a key in double quotes", 1),
        ("nul", "expected a value, found 'nul'", 0),
        ("True", "expected a value, found 'True'", 0),
        ("[NaN]", "expected a value, found 'NaN'", 1),
        ("-Infinity", "expected a value, found '-Infinity'", 0),
        ("-", "expected a value", 0),
        ("01", "'1' after the end of the value", 1),
        ("1 2", "'2' after the end of the value", 2),
        ('"a\nb"', "a string that is never closed", 0),
        ('"\\x"', "a wrong escape", 0),
        ("[" * 101 + "]" * 101, "nested deeper than 100 levels", 100),
        ('{"a":' * 100_000, "nested deeper than 100 levels", 500),
        ("\x00", "expected a value", 0),
    ],
)
def test_what_is_no_json_says_why_and_where(text: str, message: str, at: int) -> None:
    with pytest.raises(Unreadable):
        decode_json(text)

    with pytest.raises(Unreadable) as caught:
        read_json(text)

    assert message in caught.value.fault.message
    assert caught.value.fault.offset == at


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1e400]", "the number 1e400 is too large"),
        ("[" + "1" * 5000 + "]", "does not fit in 64 bits"),
        ("[18446744073709551616]", "does not fit in 64 bits"),
        ("[-9223372036854775809]", "does not fit in 64 bits"),
        ('["\\ud800"]', "half of a surrogate pair"),
        ('["\\udc00\\ud800"]', "half of a surrogate pair"),
    ],
)
def test_values_that_nothing_can_hold_are_faults(text: str, message: str) -> None:
    with pytest.raises(Unreadable):
        decode_json(text)

    assert [message in fault.message for fault in read_json(text).faults] == [True]


def test_repeated_keys_are_noted() -> None:
    text = '{"a": {"b": 1, "b": 2}, "a": [{"c": 1, "c": 2}]}'

    with pytest.raises(Unreadable):
        decode_json(text)

    assert read_json(text).repeated == [("a", "b"), ("a", 0, "c"), ("a",)]


def test_a_line_of_ten_megabytes_is_read() -> None:
    text = '{"a": "' + "x" * 10_000_000 + '"}'

    assert plain(read_json(text).root) == decode_json(text)
