from collections.abc import Mapping, Sequence

import pytest

from stepflow.records import ComponentInfo, ErrorCode, Json
from stepflow.routing.router import Resolution, Resolved, Router, Unknown, Unroutable
from stepflow.routing.table import mount, parse_routes

Lists = dict[str, Sequence[ComponentInfo] | None]


def _infos(*ids: str) -> list[ComponentInfo]:
    return [ComponentInfo(id=id) for id in ids]


def _router(routes: dict[str, Json], lists: Lists) -> Router:
    """Lists by plugin, or by `plugin:queue`."""

    def listed(plugin: str, params: Mapping[str, Json]) -> Sequence[ComponentInfo] | None:
        queue = params.get("queueName")
        return lists.get(f"{plugin}:{queue}") if queue is not None else lists.get(plugin)

    return Router(parse_routes(routes, {name.partition(":")[0]: None for name in lists}), listed)


def _target(answer: Resolution) -> tuple[str, str]:
    assert isinstance(answer, Resolved), answer
    return answer.plugin, answer.target


def _refused(answer: Resolution) -> tuple[ErrorCode, str]:
    assert isinstance(answer, Unroutable), answer
    return answer.code, answer.message


@pytest.mark.parametrize("key", ["/ml/{*component}", "/ml", "/ml/{component}", "/ml/{x}"])
def test_every_form_strips_its_head_and_hands_on_the_rest(key: str) -> None:
    router = _router({key: [{"plugin": "a"}]}, {"a": _infos("/embed")})

    assert _target(router.resolve("/ml/embed", {})) == ("a", "/embed")


def test_a_queue_without_a_worker_is_named_by_the_pattern_and_never_falls_through() -> None:
    router = _router(
        {
            "/ml/{*component}": [{"plugin": "w", "params": {"queueName": "gpu"}}, {"plugin": "b"}],
            "/{*component}": [{"plugin": "b"}],
        },
        {"w:gpu": None, "b": _infos("/embed", "/ml/embed")},
    )

    answer = router.resolve("/ml/embed", {})

    assert answer == Resolved(plugin="w", target="/embed", params={"queueName": "gpu"})


def test_a_component_that_a_connected_worker_lacks_is_not_found_at_once() -> None:
    router = _router(
        {"/ml/{*component}": [{"plugin": "w", "params": {"queueName": "gpu"}}], "/{*component}": [{"plugin": "b"}]},
        {"w:gpu": _infos("embed", "tokenize"), "b": _infos("/ml/embad")},
    )

    code, message = _refused(router.resolve("/ml/embad", {}))

    assert code == ErrorCode.COMPONENT_NOT_FOUND
    assert message == (
        'plugin "w" (queue "gpu") has no component "/ml/embad"; did you mean "/ml/embed"? (it has: /ml/embed, '
        "/ml/tokenize)"
    )


def test_only_some_of_very_many_components_are_named() -> None:
    router = _router({"/": [{"plugin": "a"}]}, {"a": _infos(*(f"c{number}" for number in range(2_000)))})

    _, message = _refused(router.resolve("/zzz", {}))

    assert message.endswith("/c8, /c9 and 1,990 more)")


def test_a_path_without_a_route_names_the_routes_there_are() -> None:
    router = _router({"/ml": [{"plugin": "a"}], "/x/{y}": [{"plugin": "a"}]}, {"a": _infos("f")})

    code, message = _refused(router.resolve("/nope", {}))

    assert code == ErrorCode.ORCHESTRATOR_ERROR
    assert message == 'no route matches "/nope"; the routes are: "/ml", "/x/{y}"'


def test_a_route_none_of_whose_rules_applies_is_no_route() -> None:
    router = _router({"/m": [{"plugin": "a", "conditions": [{"path": "x", "value": 1}]}]}, {"a": _infos("f")})

    code, message = _refused(router.resolve("/m/f", {"x": 2}))

    assert code == ErrorCode.ORCHESTRATOR_ERROR
    assert message == 'no rule of route "/m" applies to this input of "/m/f"'


def test_a_prefix_rule_whose_list_is_not_known_is_waited_for() -> None:
    lists: Lists = {"w:gpu": None, "b": _infos("embed")}
    router = _router({"/ml": [{"plugin": "w", "queueName": "gpu"}, {"plugin": "b"}]}, lists)

    assert router.resolve("/ml/embed", {}) == Unknown(plugin="w", params={"queueName": "gpu"})

    lists["w:gpu"] = _infos("other")

    assert _target(router.resolve("/ml/embed", {})) == ("b", "embed")


def test_a_prefix_rule_whose_condition_does_not_hold_is_not_waited_for() -> None:
    router = _router(
        {"/ml": [{"plugin": "w", "conditions": [{"path": "$.n", "value": 1}]}, {"plugin": "b"}]},
        {"w": None, "b": _infos("embed")},
    )

    assert _target(router.resolve("/ml/embed", {"n": 2})) == ("b", "embed")


def test_a_pattern_rule_that_chooses_by_id_waits_for_the_list() -> None:
    lists: Lists = {"w": None, "b": _infos("drop")}
    router = _router({"/{*c}": [{"plugin": "w", "componentDeny": ["drop"]}, {"plugin": "b"}]}, lists)

    assert router.resolve("/d", {}) == Unknown(plugin="w")

    lists["w"] = [ComponentInfo(id="drop", path="/d")]

    code, message = _refused(router.resolve("/d", {}))
    assert code == ErrorCode.COMPONENT_NOT_FOUND
    assert '"b" has no component "/d"' in message


def test_a_component_that_every_rule_denies_is_not_found() -> None:
    router = _router({"/p": [{"plugin": "a", "componentDeny": ["f"]}]}, {"a": _infos("f")})

    assert _refused(router.resolve("/p/f", {})) == (
        ErrorCode.COMPONENT_NOT_FOUND,
        'route "/p" does not let the component "f" through',
    )


def test_conditions_choose_among_the_rules_of_a_pattern() -> None:
    router = _router(
        {
            "/ml/{*component}": [
                {"plugin": "w", "conditions": [{"path": "$.size", "value": "large"}], "params": {"queueName": "big"}},
                {"plugin": "w", "params": {"queueName": "small"}},
            ]
        },
        {"w:big": None, "w:small": None},
    )

    big = router.resolve("/ml/f", {"size": "large"})
    small = router.resolve("/ml/f", {})

    assert big == Resolved(plugin="w", target="/f", params={"queueName": "big"}, input_dependent=True)
    assert small == Resolved(plugin="w", target="/f", params={"queueName": "small"}, input_dependent=True)


def test_a_named_tenant_is_handed_to_the_component_beside_its_own_parameters() -> None:
    router = _router(
        {"/t/{tenant}/{*component}": [{"plugin": "a"}]}, {"a": [ComponentInfo(id="u", path="/users/{id}")]}
    )

    answer = router.resolve("/t/acme/users/7", {})

    assert answer == Resolved(plugin="a", target="u", path_params={"tenant": "acme", "id": "7"})


def test_an_override_replaces_what_is_handed_on() -> None:
    router = _router(
        {"/gpt": [{"plugin": "b", "component": "openai"}], "/v/{n}/{*rest}": [{"plugin": "b", "component": "/{rest}"}]},
        {"b": _infos("/openai", "/eval")},
    )

    assert _target(router.resolve("/gpt", {})) == ("b", "/openai")
    assert router.resolve("/v/2/eval", {}) == Resolved(
        plugin="b", target="/eval", path_params={"n": "2", "rest": "eval"}
    )


def test_a_literal_path_hands_on_itself() -> None:
    router = _router({"/a/b/c": [{"plugin": "a"}]}, {"a": _infos("/a/b/c")})

    assert _target(router.resolve("/a/b/c", {})) == ("a", "/a/b/c")
    assert _refused(router.resolve("/a/b", {}))[0] == ErrorCode.ORCHESTRATOR_ERROR


def test_lists_are_kept_per_queue() -> None:
    router = _router(
        {"/x": [{"plugin": "w", "queueName": "x"}], "/y": [{"plugin": "w", "queueName": "y"}]},
        {"w:x": _infos("f"), "w:y": _infos("g")},
    )

    assert _target(router.resolve("/x/f", {})) == ("w", "f")
    assert _refused(router.resolve("/y/f", {}))[0] == ErrorCode.COMPONENT_NOT_FOUND


def test_a_changed_list_changes_the_version_and_the_answer() -> None:
    lists: Lists = {"a": _infos("f")}
    router = _router({"/": [{"plugin": "a"}]}, lists)
    assert _refused(router.resolve("/g", {}))[0] == ErrorCode.COMPONENT_NOT_FOUND
    before = router.version

    lists["a"] = _infos("f", "g")

    assert router.version != before
    assert _target(router.resolve("/g", {})) == ("a", "g")


def test_a_list_that_says_the_same_again_changes_nothing() -> None:
    lists: Lists = {"a": _infos("f")}
    router = _router({"/": [{"plugin": "a"}]}, lists)
    answer = router.resolve("/f", {})
    before = router.version

    lists["a"] = [ComponentInfo(id="f", description="now with words")]

    assert router.version == before
    assert router.resolve("/f", {}) is answer


def test_a_known_path_is_not_searched_again() -> None:
    router = _router({"/{*component}": [{"plugin": "a"}]}, {"a": _infos("f")})

    assert router.resolve("/f", {"x": 1}) is router.resolve("/f", {"x": 2})


def test_of_two_components_at_one_path_the_second_is_reported() -> None:
    router = _router({"/": [{"plugin": "a"}]}, {"a": [*_infos("f", "g"), ComponentInfo(id="x", path="/f")]})

    router.resolve("/g", {})

    (refusal,) = router.refusals
    assert (refusal.plugin, refusal.component.id) == ("a", "x")
    assert refusal.reason == '/f: "/f" and "/f" match the same paths'


def test_mounted_registries_answer_below_their_prefix_and_the_root_for_the_rest() -> None:
    lists = {"root": _infos("f", "/a/b/g"), "ml": _infos("f"), "deep": _infos("f")}
    router = Router(mount({"/": "root", "/ml": "ml", "/a/b": "deep"}), lambda plugin, params: lists[plugin])

    assert _target(router.resolve("/f", {})) == ("root", "f")
    assert _target(router.resolve("/ml/f", {})) == ("ml", "f")
    assert _target(router.resolve("/a/b/f", {})) == ("deep", "f")
    assert _target(router.resolve("/a/b/g", {})) == ("root", "/a/b/g")
