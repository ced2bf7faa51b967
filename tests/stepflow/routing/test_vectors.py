"""The reference's routing vectors, and where we differ from it on purpose."""

import json
from pathlib import Path
from typing import Any

import pytest

from stepflow.errors import ConfigError
from stepflow.records import ComponentInfo, ErrorCode
from stepflow.routing.router import Resolved, Router, Unroutable
from stepflow.routing.table import parse_routes

DOCUMENT = json.loads((Path(__file__).parents[2] / "data" / "routing.json").read_text(encoding="utf-8"))
BUILTINS = ("create_messages", "eval", "get_blob", "iterate", "load_file", "map", "noop", "openai", "put_blob", "sleep")

CODES = {
    "no_matching_prefix": ErrorCode.ORCHESTRATOR_ERROR,
    "no_matching_component": ErrorCode.COMPONENT_NOT_FOUND,
}

OURS: dict[str, dict[str, Any]] = {
    # A condition whose path is missing does not hold, so the next rule is asked.
    "condition path missing in input is a hard error, no fall-through": {"plugin": "b", "component_id": "chat"},
    "index out of range is a missing path": {"plugin": "b", "component_id": "chat"},
    # Patterns, nested params and `component:` are read as the production page writes them.
    "a nested params object is one param called params and does not override the queue": {
        "plugin": "a",
        "component_id": "f",
        "params": {"queueName": "alt"},
    },
    "component override key is not supported; it is only a param": {"error": "no_matching_component"},
    "single-segment pattern key is taken literally and never matches": {"plugin": "a", "component_id": "f"},
    "...except for the literal text": {"error": "no_matching_component"},
    "multi-segment prefix is rejected": {"accepted": True},
    "pattern-style prefix is rejected": {"accepted": True},
    # A key that could never match is refused when the table is read.
    "prefix without leading slash is accepted but never matches": {"startup_error": "invalid_prefix"},
    # Of two components at the same path only the second is refused.
    "two patterns that differ only in the parameter name conflict: the whole registration is refused": {
        "plugin": "a",
        "component_id": "h",
    },
    "{x} and {*rest} at the same position conflict, registration refused": {
        "plugin": "a",
        "component_id": "n",
        "path_params": {"x": "1"},
    },
    "same path twice conflicts, registration refused": {"plugin": "a", "component_id": "a"},
}


def _cases() -> list[Any]:
    return [
        pytest.param(group, case, id=f"{group['group']}: {case['name']}")
        for group in DOCUMENT["groups"]
        for case in group["cases"]
    ]


def _registrations(group: dict[str, Any]) -> dict[str, list[ComponentInfo]]:
    listed = {
        plugin: [ComponentInfo(id=entry["id"], path=entry["path"]) for entry in entries]
        for plugin, entries in group["components"].items()
        if entries != "builtin"
    }
    builtins = [*group.get("builtin_plugins", []), *(p for p, e in group["components"].items() if e == "builtin")]
    listed |= {plugin: [ComponentInfo(id=f"/{name}", path=f"/{name}") for name in BUILTINS] for plugin in builtins}
    if group["group"] == "mcp":  # our plugin offers a tool at the documented path too
        listed["m"].append(ComponentInfo(id="/hello"))
    return listed


def _expected(case: dict[str, Any]) -> dict[str, Any]:
    better = case.get("better", {})
    return OURS.get(case["name"]) or (better if "plugin" in better else case["expect"])


def test_every_difference_of_ours_is_about_a_vector() -> None:
    names = {case["name"] for group in DOCUMENT["groups"] for case in group["cases"]}

    assert OURS.keys() <= names
    assert len(_cases()) == 83


@pytest.mark.parametrize(("group", "case"), _cases())
def test_a_vector_resolves_as_expected(group: dict[str, Any], case: dict[str, Any]) -> None:
    listed = _registrations(group)
    routes = case.get("routes", group["routes"])
    expected = _expected(case)

    if "startup_error" in expected:
        with pytest.raises(ConfigError):
            parse_routes(routes, listed)
        return
    table = parse_routes(routes, listed)
    assert table.warnings == ()
    if "accepted" in expected:
        return
    answer = Router(table, lambda plugin, params: listed[plugin]).resolve(case["lookup"], case["input"])

    if "error" in expected:
        assert isinstance(answer, Unroutable)
        assert answer.code == CODES[expected["error"]]
        return
    assert isinstance(answer, Resolved)
    assert (answer.plugin, answer.target) == (expected["plugin"], expected["component_id"])
    assert answer.path_params == expected.get("path_params", {})
    assert answer.params == expected.get("params", {})
