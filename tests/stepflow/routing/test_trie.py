import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.routing.trie import PathTrie, PatternConflictError, PatternError, parse_pattern


def _trie(*patterns: str, exclusive: bool = True) -> PathTrie[str]:
    trie: PathTrie[str] = PathTrie(exclusive=exclusive)
    for pattern in patterns:
        trie.add(pattern, pattern)
    return trie


def _matched(trie: PathTrie[str], path: str) -> str | None:
    match = trie.match(path)
    return None if match is None else match.value


def test_every_match_comes_the_most_specific_first() -> None:
    trie = _trie("/a/{*rest}", "/a/{x}", "/a/b", "/{*all}", exclusive=False)

    found = [(match.value, match.params) for match in trie.matches("/a/b")]

    assert found == [("/a/b", {}), ("/a/{x}", {"x": "b"}), ("/a/{*rest}", {"rest": "b"}), ("/{*all}", {"all": "a/b"})]


@pytest.mark.parametrize(
    ("first", "second"),
    [("/p/{a}", "/p/{b}"), ("/d/x", "/d/x"), ("/w/{x}", "/w/{*r}"), ("/w/{*r}", "/w/{x}/y"), ("/{*a}", "/{*b}")],
)
def test_a_conflict_names_both_patterns_and_keeps_the_first(first: str, second: str) -> None:
    trie = _trie(first)

    with pytest.raises(PatternConflictError) as raised:
        trie.add(second, second)

    assert (raised.value.pattern, raised.value.other) == (second, first)
    assert _matched(trie, first.replace("{", "").replace("}", "").replace("*", "")) == first


def test_parameter_names_may_differ_where_the_paths_do() -> None:
    trie = _trie("/p/{a}/x", "/p/{b}/y")

    match = trie.match("/p/1/y")

    assert match is not None
    assert match.params == {"b": "1"}


@pytest.mark.parametrize(
    "text", ["", "a", "/{", "/}", "/a{x}", "/{x}b", "/{}", "/{*}", "/{*x}/y", "/{x}/{x}", "/{{{x}}}", "/{a/b}"]
)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(PatternError):
        parse_pattern(text)


def test_a_pattern_of_very_many_segments_is_refused() -> None:
    with pytest.raises(PatternError, match="more than 64 segments"):
        parse_pattern("/a" * 65)


def test_a_very_long_path_is_only_not_found() -> None:
    trie = _trie("/a/{x}/b", "/{*rest}")

    assert _matched(trie, "/a" * 200_000) == "/{*rest}"


@given(st.text(alphabet="/ab{}*", max_size=12), st.text(alphabet="/ab{}", max_size=12))
def test_any_text_is_a_pattern_or_refused_and_any_path_is_matched_or_not(pattern: str, path: str) -> None:
    trie: PathTrie[int] = PathTrie()
    try:
        trie.add(pattern, 1)
    except PatternError:
        return

    match = trie.match(path)

    if match is not None:
        assert all(value in path for value in match.params.values())
