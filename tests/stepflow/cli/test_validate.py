"""`stepflow validate`: findings with their places."""

import json
from pathlib import Path

APP = ("--app", "components:app")


def misspelled(project: Path) -> Path:
    bad = project / "bad.yaml"
    bad.write_text((project / "flow.yaml").read_text().replace("$step: count", "$step: cuont"))
    return bad


def test_a_sound_flow_is_said_to_be_one(cli, project: Path) -> None:
    outcome = cli("validate", "flow.yaml")

    assert (outcome.code, outcome.out, outcome.err) == (0, "1 flow checked: nothing is wrong\n", "")


def test_a_misspelled_reference_is_shown_where_it_stands(cli, project: Path) -> None:
    misspelled(project)

    outcome = cli("validate", "bad.yaml")

    assert outcome.code == 1
    assert outcome.lines[:3] == [
        'bad.yaml:14:22: error 3003: step "cuont" is not defined; did you mean "count"?',
        "          words: {$step: cuont, path: words}",
        "                         ^",
    ]
    assert outcome.lines[-1] == "1 flow checked: 1 error, 1 warning"


def test_programs_get_one_json_object(cli, project: Path) -> None:
    misspelled(project)

    outcome = cli("validate", "--json", "--flow", "bad.yaml")

    report = json.loads(outcome.out)
    assert (report["fatal"], report["errors"], report["warnings"]) == (1, 0, 1)
    assert report["diagnostics"][0]["line"] == 14
    assert outcome.code == 1


def test_several_files_are_checked_together(cli, project: Path) -> None:
    misspelled(project)
    (project / "torn.yaml").write_text("steps: [\n")

    outcome = cli("validate", "flow.yaml", "bad.yaml", "torn.yaml", "absent.yaml")

    assert outcome.code == 1
    assert "torn.yaml:" in outcome.out
    assert "absent.yaml: error: there is no such file" in outcome.out
    assert outcome.lines[-1] == "4 flows checked: 3 errors, 1 warning"


def test_warnings_alone_are_no_failure(cli, project: Path) -> None:
    Path("nameless.yaml").write_text("output: 1\nouput: 2\n")

    outcome = cli("validate", "nameless.yaml")

    assert outcome.code == 0
    assert "did you mean `output`?" in outcome.out
    assert "warning 1001: the flow has no name" in outcome.out


def test_experimental_findings_are_shown_on_demand(cli, project: Path) -> None:
    assert "1003" not in cli("validate", "flow.yaml").out
    assert "warning 1003" in cli("validate", "--all", "flow.yaml").out


def test_the_configuration_is_checked_too(cli, project: Path) -> None:
    Path("config.yml").write_text(
        "plugins: {builtin: {type: builtin}, far: {type: grpc, queueName: q}}\n"
        "routes: {/x: [{plugin: bultin}], /far: [{plugin: far}]}\n"
    )

    outcome = cli("validate", "flow.yaml", "--config", "config.yml")

    assert outcome.code == 1
    assert "config.yml:2:" in outcome.out
    assert (
        'error 2200: route "/x" names plugin "bultin", which is not configured; did you mean "builtin"?' in outcome.out
    )
    assert outcome.out.count('bultin"') == 1


def test_a_plugin_that_is_not_installed_is_a_warning_with_the_extra(cli, project: Path) -> None:
    Path("config.yml").write_text("plugins: {far: {type: mcp, command: x}}\nroutes: {/: [{plugin: far}]}\n")

    outcome = cli("validate", "flow.yaml", "--config", "config.yml")

    assert outcome.code == 0
    assert "config.yml:1:" in outcome.out
    assert "pip install 'stepflow-engine[mcp]'" in outcome.out


def test_a_component_that_nobody_answers_for_is_a_warning(cli, project: Path) -> None:
    Path("flow.yaml").write_text(Path("flow.yaml").read_text().replace("component: /count", "component: /cuont"))

    blind = cli("validate", "flow.yaml")
    knowing = cli("validate", "flow.yaml", *APP)

    assert "nothing is wrong" in blind.out
    assert knowing.code == 0
    assert 'flow.yaml:9:16: warning: step "count": ' in knowing.out
    assert "/count" in knowing.lines[0]


def test_a_registry_of_the_configuration_that_is_not_there_is_told_of_once(cli, project: Path) -> None:
    Path("config.yml").write_text('plugins: {m: {type: python, app: "nowhere:app"}}\nroutes: {/: [{plugin: m}]}\n')

    outcome = cli("validate", "flow.yaml", "flow.yaml", "--config", "config.yml")

    assert outcome.code == 0
    assert outcome.out.count("nowhere:app") == 1


TYPED = """\
import stepflow
from typing import TypedDict


class Count(TypedDict):
    words: int


class Wanted(TypedDict):
    words: str


app = stepflow.Components()


@app.component("/count")
def count(input: dict) -> Count:
    return {"words": 1}


@app.component("/greet")
def greet(input: Wanted) -> str:
    return ""
"""


def test_types_are_checked_where_that_is_asked_for(cli, project: Path) -> None:
    Path("components.py").write_text(TYPED)

    plain = cli("validate", "flow.yaml", *APP)
    checked = cli("validate", "flow.yaml", *APP, "--type-check")

    assert plain.code == 0
    assert checked.code == 1
    assert "flow.yaml:14:" in checked.out
    assert "error 2100" in checked.out


def test_strict_makes_an_error_of_what_cannot_be_told(cli, project: Path) -> None:
    gradual = cli("validate", "flow.yaml", *APP, "--type-check")
    strict = cli("validate", "flow.yaml", *APP, "--type-check", "--strict")

    assert gradual.code == 0
    assert strict.code in (0, 1)
    assert cli("validate", "flow.yaml", "--strict").code == 2


def test_no_file_is_a_usage_error(cli, project: Path) -> None:
    assert cli("validate").code == 2
