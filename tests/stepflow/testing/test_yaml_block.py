"""Values written as YAML blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepflow.flow.document import read_text
from stepflow.records import Json
from stepflow.testing.yaml_block import yaml_block

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(
        ["a\nb\n", "true", "1e3", "0o7", "~", "a: b", "a #b", "- x", "<<", "=", "line\n\n  more", " x\ny"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_a_value_reads_back_as_it_was(value: Json) -> None:
    written = yaml_block(value)

    assert read_text(written, "value.yaml", "yaml").value == value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"ok": True, "result": [1, {"a": None, "b": []}]}, "ok: true\nresult:\n  - 1\n  - a: null\n    b: []\n"),
        ({"text": "one\ntwo\n"}, "text: |\n  one\n  two\n"),
        (["one\n\ntwo"], "- |-\n    one\n\n    two\n"),
        ({"yes": "yes", "no": "true"}, 'yes: yes\nno: "true"\n'),
        ("plain words", "plain words\n"),
    ],
)  # fmt: skip
def test_a_value_is_written_as_people_write_it(value: Json, written: str) -> None:
    assert yaml_block(value) == written
