"""Outputs recorded in the text of a flow."""

import textwrap

import pytest

from stepflow.flow.model import Origin
from stepflow.testing.recording import RecordingError, recorded

OUTPUT = {"outcome": "success", "result": {"total": 3}}


def record(text: str, *, format: str = "yaml", index: int = 0, output: object = OUTPUT) -> str:
    return recorded(Origin(name="flow.yaml", text=text, format=format), {index: output})


def test_only_the_output_changes_and_every_comment_stays() -> None:
    text = textwrap.dedent("""\
        # head
        steps:   []   # odd spacing
        test:
            cases:
              - name: small   # why
                input: {a: 1}
                output:          # goes with what it speaks of
                  outcome: success
                  result:
                    total: 2   # was two
                # between the cases

              - name: 'large'
                input: |
                  text
        # tail
    """)

    assert record(text) == text.replace(
        "output:          # goes with what it speaks of\n          outcome",
        "output:\n          outcome",
    ).replace("total: 2", "total: 3")


def test_an_output_is_added_behind_the_last_field() -> None:
    text = "test:\n  cases:\n  - name: a\n    input:\n      x: [1,\n        2]   # two\n\n# tail\n"

    assert record(text) == (
        "test:\n  cases:\n  - name: a\n    input:\n      x: [1,\n        2]\n"
        "    output:\n      outcome: success\n      result:\n        total: 3   # two\n\n# tail\n"
    )


def test_an_output_is_added_behind_a_block_of_text() -> None:
    text = (
        "test:\n  cases:\n    - name: a\n      input: |\n        one\n\n        two\n\n\n    - name: b\n      input: 1"
    )

    after = record(text)

    assert after.startswith(
        "test:\n  cases:\n    - name: a\n      input: |\n        one\n\n        two\n      output:\n"
    )
    assert after.endswith("\n    - name: b\n      input: 1")


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (
            "test: {cases: [{name: a, input: 1}]}\n",
            'test: {cases: [{name: a, input: 1, "output": {"outcome": "success", "result": {"total": 3}}}]}\n',
        ),
        (
            "test: {cases: [{name: a, output: {outcome: success}, input: 1}]}\n",
            'test: {cases: [{name: a, output: {"outcome": "success", "result": {"total": 3}}, input: 1}]}\n',
        ),
    ],
)
def test_a_case_in_braces_stays_in_braces(text: str, after: str) -> None:
    assert record(text) == after


def test_json_stays_json() -> None:
    text = '{\n  "test": {\n    "cases": [\n      {"name": "a", "input": 1}\n    ]\n  }\n}\n'

    after = record(text, format="json")

    assert after == text.replace('"input": 1', '"input": 1, "output": {"outcome": "success", "result": {"total": 3}}')


def test_an_alias_is_replaced_and_its_anchor_stays() -> None:
    text = (
        "x: &same {outcome: success, result: 1}\ntest:\n  cases:\n    - name: a\n      output: *same\n      input: 1\n"
    )

    after = record(text)

    assert after.startswith("x: &same {outcome: success, result: 1}\n")
    assert "*same" not in after


def test_windows_line_ends_stay() -> None:
    text = "test:\r\n  cases:\r\n    - name: a\r\n      input: 1\r\n"

    after = record(text)

    assert after.count("\r\n") == after.count("\n") == 8


def test_a_layout_that_would_change_something_else_is_refused() -> None:
    text = (
        "test:\n  cases:\n    - name: a\n      output: &out {outcome: success, result: 1}\n      input: 1\n"
        "    - name: b\n      output: *out\n      input: 1\n"
    )

    with pytest.raises(RecordingError, match="cannot be recorded"):
        record(text)


def test_a_result_of_many_lines_is_recorded_as_a_block() -> None:
    text = "test:\n  cases:\n    - name: a\n      input: 1\n"

    after = record(text, output={"outcome": "success", "result": "one\n\ntwo\n"})

    assert after.endswith(
        "      output:\n        outcome: success\n        result: |\n          one\n\n          two\n"
    )
