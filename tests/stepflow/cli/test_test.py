"""`stepflow test`: what it says of flows' test cases."""

from pathlib import Path

import pytest

APP = ("--app", "components:app")
CASES = """\
test:
  cases:
    - name: right  # a comment that stays
      input: {text: a b}
      output: {outcome: success, result: "Hello: 2"}
    - name: wrong
      input: {text: a b}
      output: {outcome: success, result: "Hello: 3"}
    - name: new
      input: {text: a}
"""


@pytest.fixture
def tested(project: Path) -> Path:
    flow = project / "flow.yaml"
    flow.write_text(flow.read_text() + CASES)
    return flow


def test_what_failed_is_shown_as_a_difference(cli, tested: Path) -> None:
    outcome = cli("test", ".", *APP)

    assert outcome.code == 1
    assert outcome.lines[0] == "flow.yaml: 1/3 passed"
    assert '    -result: "Hello: 3"' in outcome.lines
    assert '    +result: "Hello: 2"' in outcome.lines
    assert outcome.lines[-6:] == [
        "=== Test Summary ===",
        "Files tested: 1",
        "Files skipped: 0",
        "Total test cases: 3",
        "Passed: 1",
        "Failed: 2",
    ]
    assert outcome.last == "error: 2 test(s) failed"


def test_a_case_can_be_chosen(cli, tested: Path) -> None:
    assert cli("test", "flow.yaml", *APP, "--case", "right").code == 0
    assert cli("test", "flow.yaml", *APP, "--case", "rihgt").code == 2


def test_update_records_outcomes_and_keeps_comments(cli, tested: Path) -> None:
    first = cli("test", "flow.yaml", *APP, "--update")
    second = cli("test", "flow.yaml", *APP)

    assert first.code == 1
    assert "flow.yaml: recorded wrong, new" in first.err
    assert second.lines[0] == "flow.yaml: 3/3 passed"
    assert "# a comment that stays" in tested.read_text()


def test_flows_without_cases_are_skipped(cli, project: Path) -> None:
    outcome = cli("test", "flow.yaml", *APP)

    assert outcome.code == 0
    assert outcome.lines[0] == "flow.yaml: Skipped (no test cases)"


def test_a_flow_that_cannot_be_read_is_an_error_of_its_own(cli, project: Path) -> None:
    Path("torn.yaml").write_text("schema: https://stepflow.org/schemas/v1/flow.json\nsteps: [\n")

    outcome = cli("test", ".", *APP)

    assert outcome.code == 1
    assert "torn.yaml: error" in outcome.out
    assert "Files errored: 1" in outcome.out


def test_nothing_to_test_is_no_failure_and_a_missing_path_is_one(cli, project: Path) -> None:
    nothing, missing = cli("test"), cli("test", "nowhere")

    assert (nothing.code, nothing.out) == (0, "No workflow files found\n")
    assert (missing.code, missing.err) == (1, "error: Missing file: nowhere\n")
