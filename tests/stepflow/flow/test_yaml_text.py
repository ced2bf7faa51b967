"""YAML by the core rules of version 1.2."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepflow.flow.marked import Unreadable, plain
from stepflow.flow.yaml_text import read_yaml


def value_of(text: str) -> Any:
    reading = read_yaml(text)
    assert not reading.faults
    return plain(reading.root)


@pytest.mark.parametrize(
    "text", ["yes", "no", "on", "off", "y", "n", "No", "01", "1_000", "6:30", "2020-01-01", "1e400"]
)
@pytest.mark.parametrize(
    "more", ["2020-01-01T10:00:00Z", "-01", "0X1F", "0x", "0b2", "+", ".", "-.", "e3", "1.2.3", "TRue"]
)
def test_these_are_strings(text: str, more: str) -> None:
    assert value_of(f"[{text}, {more}]") == [text, more]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("True", True),
        ("TRUE", True),
        ("false", False),
        ("FALSE", False),
        ("null", None),
        ("Null", None),
        ("NULL", None),
        ("~", None),
        ("", None),
        ("0x1F", 31),
        ("0o17", 15),
        ("0b11", 3),
        ("-0x10", -16),
        ("+5", 5),
        ("-0", 0),
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-1.5E-2", -0.015),
        (".inf", None),
        ("-.inf", None),
        (".nan", None),
        ("'true'", "true"),
        ('"12"', "12"),
        ("'it''s'", "it's"),
        ('"\\u00e9\\n"', "é\n"),
        ("|\n  1\n", "1\n"),
        (">\n  a\n  b\n", "a b\n"),
    ],
)
def test_a_scalar_is_what_the_core_rules_say(text: str, value: Any) -> None:
    found = value_of(f"a: {text}")["a"]

    assert found == value
    assert type(found) is type(value)


def test_keys_become_strings() -> None:
    text = "{1: a, true: b, null: c, 1.5: d, 1e3: e, 0x1F: f, .nan: g, 01: h, ~: i}"

    assert list(value_of(text)) == ["1", "true", "null", "1.5", "1000.0", "31", "01"]


def test_merge_keys_stay_ordinary_keys() -> None:
    assert value_of("a: &a {x: 1}\nb: {<<: *a, y: 2}") == {"a": {"x": 1}, "b": {"<<": {"x": 1}, "y": 2}}


def test_an_alias_stands_for_its_anchor() -> None:
    assert value_of("a: &x [1]\nb: *x\n*y : 2\n".replace("*y", "c")) == {"a": [1], "b": [1], "c": 2}
    assert value_of("[&k key, {*k : 1}]") == ["key", {"key": 1}]


def test_an_anchor_may_be_given_again() -> None:
    assert value_of("[&a 1, *a, &a 2, *a]") == [1, 1, 2, 2]


def test_of_a_repeated_key_the_last_counts_and_it_is_noted() -> None:
    reading = read_yaml("a: {b: 1, c: 2, b: 3}")

    assert plain(reading.root) == {"a": {"b": 3, "c": 2}}
    assert reading.repeated == [("a", "b")]


@pytest.mark.parametrize("text", ["", "# only a remark", "---\n", "\n\n"])
def test_an_empty_document_is_null(text: str) -> None:
    assert value_of(text) is None


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        ("a: !foo 1", "tags such as !foo", 3),
        ("a: !!str 1", "tags such as", 3),
        ("! a", "tags such as !", 0),
        ("[18446744073709551616]", "does not fit in 64 bits", 1),
        ("[-9223372036854775809]", "does not fit in 64 bits", 1),
        ("[0x" + "f" * 5000 + "]", "does not fit in 64 bits", 1),
        ("[" + "9" * 5000 + "]", "does not fit in 64 bits", 1),
        ("? [a]\n: 1", "a key is a string, not an array", 2),
        ("{{a: 1}: 2}", "a key is a string, not an object", 1),
        ('a: "\\ud800"', "half of a surrogate pair", 3),
    ],
)
def test_what_json_has_no_value_for_is_a_fault_that_does_not_end_the_reading(text: str, message: str, at: int) -> None:
    reading = read_yaml(text)

    assert [fault.offset for fault in reading.faults] == [at]
    assert message in reading.faults[0].message
    assert reading.faults[0].remedy
    assert len(reading.faults[0].message) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n---\nb: 2\n", "a second document starts here"),
        ("--- a\n...\nb", "a second document starts here"),
        ("a: *x", "no &x stands before it"),
        ("a: &x [*x]", "stands inside the value that it stands for"),
        ("&x a: *y", "no &y stands before it"),
        ("[" * 101 + "]" * 101, "nested deeper than 100 levels"),
        ("[" * 100_000, "nested deeper than 100 levels"),
        ("- " * 500, "nested deeper than 100 levels"),
        ("a:\n\t- b", "not YAML"),
        ("a: b: c", "not YAML"),
        ("a: [1, 2", "not YAML"),
        ("a: 'x", "not YAML"),
        ("a: @x", "not YAML"),
        ("a: \x01", "not YAML"),
        ('"\\UFFFFFFFF"', "not YAML"),
        ("%YAML 3.0\n---\na: 1", "not YAML"),
    ],
)
def test_what_cannot_be_read_says_why(text: str, message: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_yaml(text)

    assert message in caught.value.fault.message


def test_aliases_cannot_blow_a_document_up() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]

    with pytest.raises(Unreadable, match="with its aliases written out"):
        read_yaml("\n".join(lines))


def test_aliases_cannot_nest_deeper_than_the_text_may() -> None:
    lines = ["a0: &a0 [1]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200))]

    with pytest.raises(Unreadable, match="nested deeper than 100 levels"):
        read_yaml("\n".join(lines))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(
        st.characters(codec="utf-8", exclude_characters="\x7f\ufeff\x85\u2028\u2029", exclude_categories=("Cc", "Cn"))
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc $.é", max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON, st.sampled_from([None, 2]))
def test_json_read_as_yaml_is_the_same_value(value: Any, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=indent is None, indent=indent)

    assert value_of(text) == value
