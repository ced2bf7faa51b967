import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.config.substitute import SubstitutionError, substitute, substitute_all
from stepflow.flow.model import Path
from stepflow.records import Json

ENVIRON = {"X": "x", "EMPTY": "", "DOLLAR": "${X}$X"}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("${X}", "x"),
        ("a${X}b${X}", "axbx"),
        ("${X:-d}", "x"),
        ("${X:d}", "x"),
        ("${NONE:-d}", "d"),
        ("${NONE:d}", "d"),
        ("${NONE:}", ""),
        ("${NONE:-}", ""),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY:d}", ""),
        ("${NONE:-http://h:1/p}", "http://h:1/p"),
        ("${NONE:-${ALSO:-${X}}}", "x"),
        ("${X:-${NONE}}", "x"),
        ("${NONE:-a${X}b}", "axb"),
        ("${NONE:-{\\}}", "{}"),
        ("\\${X}", "${X}"),
        ("$${X}", "${X}"),
        ("$$", "$"),
        ("${DOLLAR}", "${X}$X"),
        ("$X $.model $", "$X $.model $"),
        ("C:\\dir\\n", "C:\\dir\\n"),
        ("}", "}"),
    ],
)
def test_a_text_takes_its_variables_from_the_environment(template: str, expected: str) -> None:
    assert substitute(template, ENVIRON).text == expected


@pytest.mark.parametrize(
    ("template", "expected"), [("$X", "x"), ("$X/${X}", "x/x"), ("\\$X", "$X"), ("a\\\\b", "a\\b"), ("$1", "$1")]
)
def test_arguments_of_mcp_servers_take_bare_names_too(template: str, expected: str) -> None:
    assert substitute(template, ENVIRON, bare=True).text == expected


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("${NONE}", "NONE is not set"),
        ("${X", "after ${X comes } or :-"),
        ("${X:-a", "${X is never closed"),
        ("${}", "not followed by the name"),
        ("${1}", "not followed by the name"),
        ("${X-d}", "after ${X comes } or :-"),
        ("${NONE:-${ALSO}}", "ALSO is not set"),
        ("${A:-" * 40 + "}" * 40, "nested deeper"),
    ],
)
def test_what_cannot_be_substituted_says_why(template: str, why: str) -> None:
    with pytest.raises(SubstitutionError) as raised:
        substitute(template, ENVIRON)

    assert why in str(raised.value)


def test_a_value_that_is_not_text_is_refused() -> None:
    with pytest.raises(SubstitutionError, match="BAD is not UTF-8"):
        substitute("${BAD}", {"BAD": "a\udcff"})


def test_every_string_value_is_substituted_and_no_key() -> None:
    refused: list[tuple[Path, str]] = []

    value, used = substitute_all(
        {"${X}": ["${X}", 1, None, {"a": "${NONE}"}], "plain": "p"},
        ENVIRON,
        refuse=lambda path, why: refused.append((path, why)),
    )

    assert value == {"${X}": ["x", 1, None, {"a": "${NONE}"}], "plain": "p"}
    assert list(used) == [("${X}", 0)]
    assert [path for path, _ in refused] == [("${X}", 1 + 2, "a")]


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet="${}:-\\Xab", max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=5,
)


@given(JSON)
def test_any_document_is_substituted_or_refused_string_by_string(value: Json) -> None:
    refused: list[Path] = []

    once, used = substitute_all(value, ENVIRON, refuse=lambda path, why: refused.append(path))

    assert not set(used) & set(refused)
    assert isinstance(once, type(value))
