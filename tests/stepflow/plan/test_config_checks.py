"""The diagnostics of a configuration's plugins and routes."""

from typing import Any

from stepflow.plan.checks import Diagnostic
from stepflow.plan.config_checks import check_config


def shown(found: Diagnostic) -> tuple[int, str, str, dict[str, Any]]:
    return found.code, found.level, found.path, found.data


def test_a_config_without_anything_is_warned_about() -> None:
    assert [shown(each) for each in check_config({}, {})] == [
        (1200, "warning", "$.plugins", {}),
        (1201, "warning", "$.routes", {}),
    ]


def test_a_route_to_an_unknown_plugin_is_an_error() -> None:
    plugins = {"builtin": {"type": "builtin"}}
    routes: dict[str, Any] = {"/b": [{"plugin": "builtin"}, {"plugin": "biultin"}], "/v1.0": {"plugin": "gone"}}

    first, second = check_config(plugins, routes)

    assert shown(first) == (
        2200,
        "error",
        "$.routes./b[1].plugin",
        {"route_path": "/b", "rule_index": 1, "plugin": "biultin"},
    )
    assert first.message.endswith('did you mean "builtin"?')
    assert second.path == '$.routes["/v1.0"].plugin'


def test_a_plugin_that_no_route_names_is_warned_about() -> None:
    (found,) = check_config({"used": {}, "idle": {}}, {"/": [{"plugin": "used"}]})

    assert shown(found) == (1202, "warning", "$.plugins.idle", {"plugin": "idle"})
