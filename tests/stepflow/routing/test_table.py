import re

import pytest

from stepflow.errors import ConfigError, Problem
from stepflow.flow.path import parse_path
from stepflow.records import ComponentInfo, Json
from stepflow.routing.table import mount, parse_routes

SEED: dict[str, Json] = {
    "/ml/{*component}": [{"plugin": "workers", "params": {"queueName": "gpu"}}],
    "/data/{*component}": [{"plugin": "workers", "params": {"queueName": "memory"}}],
    "/python/{*component}": [{"plugin": "workers", "params": {"queueName": "cpu"}}],
    "/{*component}": [{"plugin": "builtin"}],
}


def _problems(routes: Json, plugins: tuple[str, ...] = ("a",)) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as raised:
        parse_routes(routes, plugins)
    return raised.value.problems


def test_the_routes_of_the_production_page_are_read_without_a_warning() -> None:
    table = parse_routes(SEED, ["builtin", "workers"])

    assert table.warnings == ()
    assert table.keys == tuple(SEED)
    assert [rule.params for rule in table.rules] == [
        {"queueName": "gpu"},
        {"queueName": "memory"},
        {"queueName": "cpu"},
        {},
    ]


@pytest.mark.parametrize("key", ["", "a", "/a/", "//", "/a//b", "/{x", "/{*x}/y", "a/b", "/x/{y}/"])
def test_a_key_that_cannot_match_is_refused_by_name(key: str) -> None:
    (problem,) = _problems({key: [{"plugin": "a"}]})

    assert f'"{key}" is no path for a route' in problem.message
    assert parse_path(problem.path) == ("routes", key)


def test_every_problem_of_every_rule_is_told_at_once() -> None:
    problems = _problems(
        {
            "/a": [{"plugin": "b"}, {}, 7],
            "bad": [{"plugin": "a", "conditions": [{"path": "$["}, {"path": "$[", "value": 1}]}],
            "/c": {"plugin": "a"},
            "/d": [{"plugin": "a", "componentAllow": "x", "componentDeny": [1], "queueName": 3, "params": []}],
            "/e": [{"plugin": "a", "component": "{x}"}, {"plugin": "a", "component": "{x"}, {"plugin": 1}],
        }
    )

    assert [re.sub(r"^\$\.routes", "", problem.path) for problem in problems] == [
        '["/a"][0].plugin',
        '["/a"][1].plugin',
        '["/a"][2]',
        '["bad"]',
        '["bad"][0].conditions[0]',
        '["bad"][0].conditions[1].path',
        '["/c"]',
        '["/d"][0].componentAllow',
        '["/d"][0].componentDeny',
        '["/d"][0].params',
        '["/d"][0].queueName',
        '["/e"][0].component',
        '["/e"][1].component',
        '["/e"][2].plugin',
    ]
    assert all("rule" in problem.message or "route" in problem.message for problem in problems)


def test_an_undeclared_plugin_is_named_with_those_there_are() -> None:
    (problem,) = _problems({"/a": [{"plugin": "workes"}]}, ("builtin", "workers"))

    assert problem.message == 'route "/a", rule 1: plugin "workes" is not declared; declared: builtin, workers'
    assert problem.remedy == 'did you mean "workers"?'


def test_a_misspelled_rule_key_is_a_param_with_a_warning() -> None:
    table = parse_routes({"/a": [{"plugin": "a", "componentAlow": ["x"], "priority": 5}]}, ["a"])

    (warning,) = table.warnings
    assert warning.level == "warning"
    assert warning.remedy == 'did you mean "componentAllow"?'
    assert next(table.rules).params == {"componentAlow": ["x"], "priority": 5}


def test_nested_params_win_over_flat_ones() -> None:
    table = parse_routes({"/a": [{"plugin": "a", "queueName": "x", "n": 1, "params": {"queueName": "y"}}]}, ["a"])

    assert next(table.rules).params == {"queueName": "y", "n": 1}


@pytest.mark.parametrize(
    ("first", "second"),
    [("/ml", "/ml/{*component}"), ("/", "/{*rest}"), ("/x/{a}", "/x/{b}")],
)
def test_two_keys_for_the_same_paths_are_refused_naming_both(first: str, second: str) -> None:
    (problem,) = _problems({first: [{"plugin": "a"}], second: [{"plugin": "a"}]})

    assert problem.message == f'the routes "{first}" and "{second}" match the same paths'


def test_a_mount_that_meets_a_key_of_the_configuration_is_refused_naming_both() -> None:
    with pytest.raises(ConfigError) as raised:
        parse_routes({"/ml": [{"plugin": "a"}], "/{*c}": [{"plugin": "a"}]}, ["a"], mounts={"/ml": "app", "/": "app"})

    first, second = raised.value.problems
    assert first.message == (
        'the routes "/ml" of the configuration and "/ml" of a mounted registry match the same paths'
    )
    assert second.message == 'the routes "/{*c}" and "/" match the same paths'


@pytest.mark.parametrize("prefix", ["ml", "", "/ml/", "/{*x}"])
def test_a_registry_is_mounted_at_a_plain_path_only(prefix: str) -> None:
    with pytest.raises(ConfigError, match="no path for a registry"):
        mount({prefix: "app"})


def test_a_registry_may_be_mounted_below_several_segments() -> None:
    table = mount({"/": "root", "/a/b": "deep"})

    deep, root = table.candidates("/a/b/embed")

    assert (deep.route.key, deep.below) == ("/a/b", "/embed")
    assert (root.route.key, root.below) == ("/", "/a/b/embed")


@pytest.mark.parametrize("routes", [None, 7, [], "text"])
def test_routes_that_are_no_map_are_refused(routes: Json) -> None:
    (problem,) = _problems(routes)

    assert problem.path == "$.routes"


@pytest.mark.parametrize(
    ("key", "rule", "path"),
    [
        ("/ml", {}, "/ml/embed"),
        ("/", {}, "/embed"),
        ("/ml/{*component}", {}, "/ml/embed"),
        ("/ml/{x}", {}, "/ml/embed"),
        ("/a/b/{*component}", {}, "/a/b/embed"),
        ("/a/b", {"component": "embed"}, "/a/b"),
        ("/a/b", {}, None),
        ("/t/{tenant}/{*component}", {}, None),
        ("/ml", {"component": "embed"}, None),
        ("/ml", {"componentDeny": ["embed"]}, None),
    ],
)
def test_a_component_is_listed_by_the_path_that_flows_write(key: str, rule: dict[str, Json], path: str | None) -> None:
    table = parse_routes({key: [{"plugin": "a", **rule}]}, ["a"])

    assert table.caller_paths("a", ComponentInfo(id="embed")) == (() if path is None else (path,))
