"""Documents from files and texts, and the places of what is wrong in them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepflow.errors import ConfigError, FlowInvalidError, Problem
from stepflow.flow import document
from stepflow.flow.document import MAX_YAML_BYTES, load_document, located, open_text, place, read_text
from stepflow.flow.model import Origin

YAML = """\
# a flow
steps:
  - id: a
    input:
      x: {$input: "$a"}
      long: >
        folded
  - {id: b, "component": /x}
"""


@pytest.mark.parametrize("name", ["flow.yaml", "flow.yml", "FLOW.YAML"])
def test_a_yaml_file_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("a: yes", encoding="utf-8")

    document = load_document(path)

    assert document.value == {"a": "yes"}
    assert document.origin == Origin(name=str(path), text="a: yes", format="yaml")


@pytest.mark.parametrize("name", ["flow.json", "flow.jsonl"])
def test_a_json_file_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')

    assert load_document(str(path)).value == {"a": 1}


def message_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_document(path, error=ConfigError)
    problem = caught.value.problems[0]
    assert problem.source == str(path)
    return str(problem)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "dir.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: caf\xe9\n")
    (tmp_path / "flow.txt").write_text("a: 1", encoding="utf-8")

    assert "there is no such file" in message_of(tmp_path / "missing.yaml")
    assert "this is a directory" in message_of(tmp_path / "dir.yaml")
    assert "use .yml, .yaml or .json" in message_of(tmp_path / "flow.txt")
    assert "extension" in message_of(tmp_path / "noextension")
    assert "latin.yaml:2:7: error: not UTF-8: byte 0xe9 at offset 11; save the file as UTF-8" in message_of(
        tmp_path / "latin.yaml"
    )
    assert "cannot be read" in message_of(Path("null\0byte.yaml"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text("a: 1", encoding="utf-8")
    path.chmod(0)

    assert "not permitted" in message_of(path)


def test_yaml_beyond_the_limit_is_refused_by_name_and_size() -> None:
    text = "a: " + "é" * (MAX_YAML_BYTES // 2)

    with pytest.raises(
        FlowInvalidError, match="big.yaml: error: a YAML document may have 1,048,576 bytes, and this has 1,048,579"
    ):
        read_text(text, "big.yaml")

    assert read_text(text, "big.yaml", max_yaml_bytes=2 * MAX_YAML_BYTES).value == {"a": text[3:]}
    assert read_text(json.dumps({"a": text}), format="json").value == {"a": text}


def test_a_file_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_BYTES", 1_000)
    (tmp_path / "endless.json").symlink_to("/dev/zero")

    with pytest.raises(FlowInvalidError, match="a document may have 1,000 bytes, and this has more"):
        load_document(tmp_path / "endless.json")


def test_every_fault_of_a_text_is_told_at_once() -> None:
    document = open_text("a: !x 1\nb: 99999999999999999999\nc: 3\n", "f.yaml")

    assert [(problem.line, problem.column, problem.text) for problem in document.problems] == [
        (1, 4, "a: !x 1"),
        (2, 4, "b: 99999999999999999999"),
    ]
    assert document.value == {"a": "1", "b": 0, "c": 3}


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ((), (2, 1), (2, 1)),
        (("steps",), (3, 3), (2, 1)),
        (("steps", 0), (3, 5), (3, 5)),
        (("steps", 0, "id"), (3, 9), (3, 5)),
        (("steps", 0, "input"), (5, 7), (4, 5)),
        (("steps", 0, "input", "x"), (5, 10), (5, 7)),
        (("steps", 0, "input", "x", "$input"), (5, 19), (5, 11)),
        (("steps", 0, "input", "x", "$input", "deeper"), (5, 19), (5, 11)),
        (("steps", 0, "component"), (3, 5), (3, 5)),
        (("steps", 1, "component"), (8, 26), (8, 13)),
        (("steps", 9), (3, 3), (2, 1)),
        (("steps", "x"), (3, 3), (2, 1)),
    ],
)
def test_a_path_has_a_place_in_yaml(path: Any, value: tuple[int, int], key: tuple[int, int]) -> None:
    origin = Origin(text=YAML)

    assert place(origin, path)[:2] == value
    assert place(origin, path, of_key=True)[:2] == key
    assert place(origin, path)[2] == YAML.splitlines()[value[0] - 1]


def test_a_path_has_a_place_in_json() -> None:
    origin = Origin(text='{\r\n  "a": [1,\r\n    {"b": null}]\r\n}', format="json")

    assert place(origin, ("a", 1, "b")) == (3, 11, '    {"b": null}]')
    assert place(origin, ("a", 1, "b"), of_key=True) == (3, 6, '    {"b": null}]')


def test_an_alias_has_the_place_of_its_anchor() -> None:
    assert place(Origin(text="a: &x\n  y: 1\nb: *x\n"), ("b", "y"))[:2] == (2, 6)


def test_of_a_long_line_only_the_part_around_is_shown() -> None:
    text = json.dumps({"a": "x" * 1000, "b": 1, "c": "y" * 1000})

    line, column, shown = place(Origin(text=text, format="json"), ("b",))

    assert (line, column) == (1, text.index("1,") + 1)
    assert '"b": 1' in shown
    assert len(shown) == 202
    assert shown[0] == shown[-1] == "…"


def test_a_document_without_text_has_no_places() -> None:
    problem = Problem(message="m", path="$.a")

    assert place(Origin(), ("a",)) == (0, 0, "")
    assert located([problem], Origin()) == (problem,)


def test_problems_get_their_places() -> None:
    problems = [Problem(message="m", path="$.steps[1].id"), Problem(message="n", path="$ no path")]

    first, second = located(problems, Origin(name="f.yaml", text=YAML))

    assert str(first) == "f.yaml:8:10: error: m"
    assert first.text == '  - {id: b, "component": /x}'
    assert (second.line, second.column) == (2, 1)


def test_a_text_that_is_none_any_more_places_everything_at_its_start() -> None:
    assert place(Origin(text="a: [", format="yaml"), ("a",)) == (1, 1, "a: [")


def test_a_document_is_yaml_or_json() -> None:
    with pytest.raises(ValueError, match="not 'toml'"):
        read_text("a: 1", format="toml")


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        return [(path, value)]
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return [leaf for key, item in pairs for leaf in leaves(item, (*path, key))]


def block(value: Any, indent: int = 0) -> str:
    """The value as block YAML."""
    if isinstance(value, str):
        return f" {value}\n"
    lead = "\n" + " " * indent
    if isinstance(value, dict):
        return (
            "".join(f"{lead}{json.dumps(key)}:{block(item, indent + 2).rstrip()}" for key, item in value.items()) + "\n"
        )
    return "".join(f"{lead}-{block(item, indent + 2).rstrip()}" for item in value) + "\n"


TREES = st.recursive(
    st.uuids().map(lambda uuid: f"v{uuid.hex}"),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4)
        | st.dictionaries(st.text("ab.[]$ é\"'", max_size=4), inner, min_size=1, max_size=4)
    ),
    max_leaves=10,
).filter(lambda value: not isinstance(value, str))


@settings(deadline=None)
@given(TREES, st.sampled_from(["json", "indented", "flow", "block"]))
def test_every_value_is_found_on_its_line(value: Any, style: str) -> None:
    text = block(value) if style == "block" else json.dumps(value, indent=3 if style == "indented" else None)
    origin = Origin(text=text, format="json" if style in ("json", "indented") else "yaml")
    assert read_text(text, format=origin.format).value == value

    for path, leaf in leaves(value):
        line, column, _ = place(origin, path)

        assert text.split("\n")[line - 1][column - 1 :].lstrip('"').startswith(leaf)
