"""The test cases that flows carry."""

import textwrap
from pathlib import Path

import pytest

import stepflow
from stepflow.errors import ConfigError, FlowInvalidError
from stepflow.testing.flowtests import FileReport, case_names, discover, run_file, update_file

CASES = """\
# adds one field
steps:
  - {id: a, component: /builtin/noop, input: {total: {$input: n}, more: 1}}
output: {$step: a}
test:
  cases:
    - name: right
      input: {n: 1}   # one
      output: {outcome: success, result: {total: 1}}
    - name: wrong
      input: {n: 2}
      output: {outcome: success, result: {total: 3}}
    - name: fails
      input: {}
      output: {outcome: failed, error: {code: EXPRESSION_FAILURE, message: the input has nothing at $.n}}
    - name: new
      input: {n: 4}
"""

NOOP_AT = """\
plugins: {{builtin: {{type: builtin}}}}
routes: {{{prefix}: [{{plugin: builtin}}]}}
"""


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        stem, _, suffix = name.rpartition("_")
        path = folder / f"{stem.replace('__', '/')}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return folder / "flow.yaml"


def statuses(report: FileReport) -> dict[str, str]:
    assert report.error is None, report.error
    return {case.name: case.status for case in report.cases}


def test_every_case_is_compared_with_what_it_expects(tmp_path: Path) -> None:
    flow = write(tmp_path, flow_yaml=CASES)

    report = run_file(flow)

    assert statuses(report) == {"right": "passed", "wrong": "failed", "fails": "passed", "new": "unexpected-new"}
    assert not report.ok
    assert report.count("passed") == 2
    assert "-  total: 3\n+  total: 2\n" in report.cases[1].diff
    assert report.cases[3].actual == {"outcome": "success", "result": {"more": 1, "total": 4}}


def test_cases_are_selected_by_name(tmp_path: Path) -> None:
    flow = write(tmp_path, flow_yaml=CASES)

    report = run_file(flow, case_names=["new", "right"])

    assert statuses(report) == {"right": "passed", "new": "unexpected-new"}
    assert report.flow is not None
    assert case_names(report.flow) == ["right", "wrong", "fails", "new"]


def test_recording_changes_only_the_outputs_that_differ(tmp_path: Path) -> None:
    flow = write(tmp_path, flow_yaml=CASES)

    recorded = update_file(run_file(flow))

    assert recorded == ("wrong", "new")
    output = "      output:\n        outcome: success\n        result:\n          more: 1\n          total: "
    assert flow.read_text() == (
        CASES.replace("      output: {outcome: success, result: {total: 3}}\n", f"{output}2\n").replace(
            "      input: {n: 4}\n", f"      input: {{n: 4}}\n{output}4\n"
        )
    )
    assert run_file(flow).ok
    assert update_file(run_file(flow)) == ()


def test_an_input_that_the_flow_does_not_accept_fails_its_own_case(tmp_path: Path) -> None:
    schema = "schemas: {properties: {input: {type: object, required: [n]}}}\n"
    flow = write(tmp_path, flow_yaml=schema + CASES)

    report = run_file(flow)

    assert statuses(report) == {"right": "passed", "wrong": "failed", "fails": "failed", "new": "unexpected-new"}
    actual = report.cases[2].actual
    assert isinstance(actual, dict)
    assert actual["error"]["code"] == "INVALID_INPUT"


def test_registries_are_mounted_beside_the_configuration(tmp_path: Path) -> None:
    app = stepflow.Components()

    @app.component("/double")
    async def double(input: int) -> int:
        return 2 * input

    text = """\
        steps: [{id: a, component: /double, input: {$input: $}}]
        output: {$step: a}
        test: {cases: [{name: one, input: 4, output: {outcome: success, result: 8}}]}
    """
    flow = write(tmp_path, flow_yaml=text)

    assert run_file(flow, components=app).ok


def flow_at(prefix: str, test: str = "") -> str:
    return (
        f"steps: [{{id: a, component: {prefix}/noop, input: 1}}]\n"
        "output: {$step: a}\n"
        f"test: {{{test}cases: [{{name: one, input: 1, output: {{outcome: success, result: 1}}}}]}}\n"
    )


def test_the_configuration_given_stands_above_all_others(tmp_path: Path) -> None:
    flow = write(
        tmp_path,
        flow_yaml=flow_at("/given", "configFile: named.yml, "),
        named_yml=NOOP_AT.format(prefix="/named"),
        given_yml=NOOP_AT.format(prefix="/given"),
    )

    assert run_file(flow, config=tmp_path / "given.yml").ok
    assert not run_file(flow).ok


def test_a_default_configuration_stands_below_what_the_flow_says(tmp_path: Path) -> None:
    write(tmp_path, default_yml=NOOP_AT.format(prefix="/default"), stepflow_config_yml=NOOP_AT.format(prefix="/found"))
    inline = "config: {plugins: {b: {type: builtin}}, routes: {/own: [{plugin: b}]}}, "
    own = write(tmp_path, flow_yaml=flow_at("/own", inline))

    assert run_file(own, default_config=tmp_path / "default.yml").ok
    plain = write(tmp_path, flow_yaml=flow_at("/default"))
    assert run_file(plain, default_config=tmp_path / "default.yml").ok


def test_the_file_that_the_flow_names_is_beside_the_flow(tmp_path: Path) -> None:
    flow = write(
        tmp_path,
        flow_yaml=flow_at("/named", "configFile: sub/named.yml, "),
        sub__named_yml=NOOP_AT.format(prefix="/named"),
    )

    assert run_file(flow).ok


@pytest.mark.parametrize("key", ["config", "stepflow_config"])
def test_a_flow_holds_its_configuration_itself(tmp_path: Path, key: str) -> None:
    inline = "{plugins: {b: {type: builtin}}, routes: {/inline: [{plugin: b}]}}"
    flow = write(tmp_path, flow_yaml=flow_at("/inline", f"{key}: {inline}, "))

    assert run_file(flow).ok


def test_both_a_file_and_an_inline_configuration_are_refused(tmp_path: Path) -> None:
    flow = write(tmp_path, flow_yaml=flow_at("/x", "config: {plugins: {}, routes: {}}, configFile: x.yml, "))

    report = run_file(flow)

    assert isinstance(report.error, ConfigError)
    assert "keep one" in str(report.error)
    assert not report.ok


@pytest.mark.parametrize(
    ("files", "prefix"),
    [
        (["stepflow-config.test.yml", "stepflow-config.test.yaml", "stepflow-config.yml"], "/a"),
        (["stepflow-config.test.yaml", "stepflow_config.test.yml"], "/a"),
        (["stepflow_config.test.yml", "stepflow_config.test.yaml"], "/a"),
        (["stepflow_config.test.yaml", "stepflow_config.yaml"], "/a"),
        (["stepflow-config.yaml"], "/a"),
        ([], "/builtin"),
    ],
)
def test_a_configuration_is_found_beside_the_flow(tmp_path: Path, files: list[str], prefix: str) -> None:
    for name, at in zip(files, "abc", strict=False):
        (tmp_path / name).write_text(NOOP_AT.format(prefix=f"/{at}"))
    flow = write(tmp_path, flow_yaml=flow_at(prefix))

    assert run_file(flow).ok


def test_a_broken_flow_is_reported_and_not_raised(tmp_path: Path) -> None:
    flow = write(tmp_path, flow_yaml="steps: [\n")

    report = run_file(flow)

    assert isinstance(report.error, FlowInvalidError)
    assert report.cases == ()


def test_a_flow_without_cases_has_nothing_to_report(tmp_path: Path) -> None:
    flow = write(tmp_path, flow_yaml="output: 1\n")

    assert run_file(flow).ok
    assert run_file(flow).cases == ()


def test_flows_are_found_in_folders_and_other_files_passed_over(tmp_path: Path) -> None:
    schema = "schema: https://stepflow.org/schemas/v1/flow.json\n"
    write(
        tmp_path,
        b__flow_yaml=CASES,
        a_yml=CASES,
        c__deep__flow_yaml=CASES,
        compose_yml="services: {}\n",
        pipeline_yml="steps: [{script: make}]\n",
        text_yml="- [broken\n",
        typo_yml="steps:\n  - {id: a, component: /x\n",
        broken_yml=schema + "steps: [\n",
        wants_yml=schema + "output: 1\n",
        notes_md="steps\n",
    )
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfesteps")

    found = discover([tmp_path, tmp_path / "a.yml"])

    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "a.yml",
        "b/flow.yaml",
        "broken.yml",
        "c/deep/flow.yaml",
        "typo.yml",
        "wants.yml",
    ]


def test_a_file_that_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, notes_yml="- 1\n")

    assert discover([tmp_path / "notes.yml"]) == [tmp_path / "notes.yml"]


def test_a_path_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Missing file: .*nope\.yaml"):
        discover([tmp_path / "nope.yaml"])
