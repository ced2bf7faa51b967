"""The path language."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stepflow.flow.path import PathError, PathNotFound, format_path, parse_path, resolve


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (None, ()),
        ("", ()),
        ("$", ()),
        ("$.", ()),
        ("  $  ", ()),
        ("a", ("a",)),
        (" a", (" a",)),
        ("   ", ("   ",)),
        ("$.a", ("a",)),
        ("$..a", ("a",)),
        ("$.a.", ("a",)),
        ("$.a b", ("a b",)),
        ("$. a ", (" a",)),
        ("$.*", ("*",)),
        ("$.a]b", ("a]b",)),
        ("$.é😀", ("é😀",)),
        ("$.0", ("0",)),
        ("$[0][1]", (0, 1)),
        ("$[ +01 ]", (1,)),
        ("$[000]", (0,)),
        ("$.a.[0]", ("a", 0)),
        ("$['x'][0].y", ("x", 0, "y")),
        ('$[ "x" ]', ("x",)),
        ('$["a.b"]', ("a.b",)),
        ('$[""]', ("",)),
        ("$['it\"s']", ('it"s',)),
        ('$["a\\"b"]', ('a"b',)),
        ('$["a\\]b"]', ("a]b",)),
        ('$["a\\\\"]', ("a\\",)),
        ('$["a\\b"]', ("a\\b",)),
        ("$['a\nb']", ("a\nb",)),
        ("a.b", ("a", "b")),
        ("a[0]", ("a", 0)),
        ("[0]", (0,)),
        (".a", ("a",)),
        ("a.b ", ("a", "b")),
        ('["a.b"]', ("a.b",)),
    ],
)
def test_a_path_is_read(text: str | None, path: tuple[str | int, ...]) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("$a", "write $.a"),
        (" $a", "write $.a"),
        ("$[0]a", "after ] comes . or ["),
        ("$[-1]", "negative"),
        ("$[*]", "wildcards"),
        ("$[a]", "no index"),
        ("$[]", "nothing stands between"),
        ("$[1.5]", "no index"),
        ("$[٣]", "no index"),
        ("$[5", "never closed"),
        ("$[", "never closed"),
        ("a[", "never closed"),
        ('$["a]b"]', "write ] inside a key as"),
        ("$[']", "never closed"),
        ("$['a\"]", "never closed"),
        ('$["a\\"]', "never closed"),
        ("$[99999999999999999999]", "too large"),
        ("$[9223372036854775808]", "too large"),
        ("$[" + "9" * 5000 + "]", "too large"),
    ],
)
def test_what_is_no_path_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(PathError) as caught:
        parse_path(text)

    assert reason in caught.value.reason
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), "$"),
        (("a", 0, "b c"), "$.a[0].b c"),
        ((0, "a]b"), "$[0].a]b"),
        (("a.b",), '$["a.b"]'),
        (("a[0]",), '$["a[0\\]"]'),
        (("",), '$[""]'),
        (("a ",), '$["a "]'),
        (("a ", "b"), "$.a .b"),
        (('.a"\\',), '$[".a\\"\\\\"]'),
    ],
)
def test_a_path_has_one_text(path: tuple[str | int, ...], text: str) -> None:
    assert format_path(path) == text


@settings(deadline=None)
@given(st.lists(st.text() | st.integers(0, 2**63 - 1)))
@example(["a]", '."', "\\"])
@example(["\\]", ".\\", "\x85"])
def test_a_written_path_is_read_back(parts: list[str | int]) -> None:
    path = tuple(parts)

    assert parse_path(format_path(path)) == path


@settings(deadline=None)
@given(st.text(alphabet="$.[]'\"\\ab01+- ") | st.text())
def test_any_text_is_a_path_or_is_refused(text: str) -> None:
    try:
        path = parse_path(text)
    except PathError:
        return

    assert parse_path(format_path(path)) == path


def test_a_path_finds_its_value() -> None:
    value = {"a": [{"b": None}], "": 3, "0": "zero"}

    assert resolve(value, ()) is value
    assert resolve(value, ("a", 0, "b")) is None
    assert resolve(value, ("",)) == 3
    assert resolve(value, ("0",)) == "zero"


@pytest.mark.parametrize("path", [("b",), ("a", 1), ("a", "0"), (0,), ("s", "x"), ("s", 0), ("n", "x")])
def test_a_path_that_leads_nowhere_says_so(path: tuple[str | int, ...]) -> None:
    value = {"a": [1], "s": "text", "n": None, "0": 1}

    with pytest.raises(PathNotFound) as caught:
        resolve(value, path)

    assert str(caught.value) == f"nothing is at {format_path(path)}"
