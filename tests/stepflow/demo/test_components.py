"""The audit's components as plain functions, on small sources."""

from pathlib import Path

import pytest

from stepflow.demo.components import (
    FileFacts,
    Files,
    Function,
    Measures,
    Place,
    Shape,
    Text,
    data,
    find_lookalikes,
    measure,
    ml,
    oldest,
    python,
    rank,
    read,
    signature,
    sum_by_package,
)

SOURCE = '''"""A module."""

import os


class Shop:
    """It sells."""

    def price(self, n):
        if n > 3:
            return 1
        for _ in range(n):
            try:
                os.getpid()
            except OSError:
                pass
        return 2


async def wait():
    """Nothing is branched here."""
    return lambda: [x for x in range(3) if x]
'''

LOOP = """
def total(rows, limit):
    result = 0
    for row in rows:
        if row > limit:
            result += row * 2
        elif row < 0:
            result -= row
        else:
            continue
        if result > 1_000_000:
            print("too much", result)
            break
    while result > limit:
        result = result - limit
    return result
"""


def test_a_file_is_read_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"\xef\xbb\xbfx = 1\r\ny = '\xc3\xa4'\r\n")

    found = read(Place(str(path)))

    assert found.text == "x = 1\r\ny = 'ä'\r\n"
    assert (found.bytes, found.lines) == (len(path.read_bytes()), 2)


def test_the_declared_encoding_is_used(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"# coding: latin-1\nx = '\xe4'\n")

    assert (read(Place(str(path))).text or "").endswith("x = 'ä'\n")


@pytest.mark.parametrize("content", [b"x = '\xff'\n", b"# coding: no-such-code\nx = 1\n", b"# coding: utf-7\n+2AA-\n"])
def test_what_is_no_text_is_still_counted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(content)

    found = read(Place(str(path)))

    assert found.text is None
    assert (found.bytes, found.lines) == (len(content), content.count(b"\n"))


def test_functions_are_measured() -> None:
    found = measure(Text(SOURCE))

    assert found == Measures(
        parses=True,
        functions=2,
        documented=0.75,  # the module, the class and one of two functions
        complexity=4,  # if, for, except
        longest=Function("price", 9, 9, 4),
    )


def test_an_empty_file_has_no_docstring_share() -> None:
    assert measure(Text("")) == Measures(parses=True)


BROKEN = ["def f(:", "x = '\0'", "(" * 1_000, "x = " + "-" * 200_000 + "1", None]


@pytest.mark.parametrize("text", BROKEN, ids=["syntax", "nul", "parentheses", "depth", "undecodable"])
def test_what_does_not_parse_is_data(text: str | None) -> None:
    assert measure(Text(text)) == Measures(parses=False)
    assert signature(Text(text)).shapes == []


@pytest.mark.parametrize("text", ["if (n := 3): pass", "def f(a, /): pass", "match x:\n    case 1: pass", None])
def test_newer_grammar_raises_a_syntax_error(text: str | None) -> None:
    with pytest.raises(SyntaxError):
        oldest(Text(text))


def test_old_grammar_succeeds_without_a_warning() -> None:
    assert oldest(Text(SOURCE + "\nx = '\\d'\n")).parses


def test_renamed_functions_have_one_shape() -> None:
    renamed = LOOP.replace("total", "count").replace("row", "line").replace('"too much"', '"much"')
    changed = LOOP.replace("row * 2", "len(row)")

    (shape,), (same,), (other,) = (signature(Text(text)).shapes for text in (LOOP, renamed, changed))

    assert (shape.name, shape.lines, same.name) == ("total", 15, "count")
    assert shape.hash == same.hash != other.hash


def test_methods_and_inner_functions_have_shapes_of_their_own() -> None:
    inner = "class A:\n" + "".join(f"    {line}\n" for line in LOOP.splitlines())
    outer = "def outer():\n" + "".join(f"    {line}\n" for line in LOOP.splitlines()) + "    return total\n"

    assert [shape.name for shape in signature(Text(inner)).shapes] == ["total"]
    assert {shape.name for shape in signature(Text(inner + outer)).shapes} == {"total"}


def facts(file: str, package: str = "p", grammar: str = "3.7", shapes: tuple[Shape, ...] = ()) -> FileFacts:
    longest = Function("f", 1, len(file))
    return FileFacts(file, package, 10, 5, Measures(True, 2, 0.5, 1, longest), list(shapes), grammar)


def test_the_longest_functions_come_first() -> None:
    found = rank(Files([facts("bb"), facts("aa", grammar="newer"), facts("ccc", grammar="none")]))

    assert [(function.file, function.lines) for function in found.longest] == [("ccc", 3), ("aa", 2), ("bb", 2)]
    assert (found.files, found.lines, found.functions, found.newer, found.unreadable) == (3, 15, 6, 1, 1)


def test_copies_are_shapes_in_more_than_one_file() -> None:
    twice_here = facts("a", shapes=(Shape("1", "f", 20), Shape("1", "g", 20), Shape("2", "h", 30)))
    there = facts("b", shapes=(Shape("1", "k", 21),))

    found = find_lookalikes(Files([twice_here, there]))

    assert found.count == 1
    assert (found.longest[0].lines, found.longest[0].places) == (21, ["a f", "b k"])


def test_packages_are_summed_the_largest_first() -> None:
    found = sum_by_package(Files([facts("a", "small"), facts("b", "large"), facts("c", "large", "newer")]))

    assert [(one.package, one.files, one.lines, one.newer) for one in found.packages] == [
        ("large", 2, 10, 1),
        ("small", 1, 5, 0),
    ]


def test_only_what_keeps_a_processor_busy_runs_in_processes() -> None:
    components = [*data.all(), *python.all(), *ml.all()]

    assert [component.path for component in components if component.process] == ["/measure", "/oldest", "/signature"]
