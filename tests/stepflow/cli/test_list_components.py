"""`stepflow list-components`."""

import json
from pathlib import Path

APP = ("--app", "components:app")


def test_components_are_listed_with_the_paths_that_lead_to_them(cli, project: Path) -> None:
    outcome = cli("list-components", *APP)

    assert outcome.lines[:3] == ["Available Components:", "====================", ""]
    assert "Component: count (plugin: components at /)" in outcome.out
    assert "  Description: How many words a text has.\n  Available Routes:\n    /count\n" in outcome.out
    assert "    /builtin/sleep\n" in outcome.out


def test_programs_get_json_with_schemas(cli, project: Path) -> None:
    listed = json.loads(cli("list-components", *APP, "--format", "json").out)["components"]

    count = next(each for each in listed if each["component"] == "count")
    assert (count["path"], count["routes"]) == ("/count", ["/count"])
    assert "input_schema" in count


def test_schemas_can_be_asked_for_and_left_out(cli, project: Path) -> None:
    pretty = cli("list-components", *APP, "--schemas", "true").out
    bare = json.loads(cli("list-components", *APP, "--format", "json", "--schemas", "false").out)

    assert "Input Schema:" in pretty
    assert "input_schema" not in bare["components"][0]


def test_yaml_says_the_same(cli, project: Path) -> None:
    assert cli("list-components", *APP, "--format", "yaml").out.startswith("components:\n")


def test_no_route_is_no_component(cli, project: Path) -> None:
    Path("config.yml").write_text("plugins: {builtin: {type: builtin}}\nroutes: {}\n")

    assert cli("list-components", "--config", "config.yml").out == "No components found.\n"
    assert "sleep" in cli("list-components", "--config", "config.yml", "--hide-unreachable", "false").out


def test_a_plugin_that_cannot_be_had_is_told_of_on_stderr(cli, project: Path) -> None:
    Path("config.yml").write_text(
        'plugins: {builtin: {type: builtin}, mine: {type: python, app: "nowhere:app"}}\n'
        "routes: {/builtin: [{plugin: builtin}], /: [{plugin: mine}]}\n"
    )

    outcome = cli("list-components", "--config", "config.yml")

    assert outcome.code == 0
    assert "/builtin/sleep" in outcome.out
    assert 'warning: plugin "mine": ' in outcome.err
