"""One rule of a route: who answers, for which components and inputs, and with which params."""

import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches

import msgspec

from stepflow.errors import Problem
from stepflow.flow.model import Path
from stepflow.flow.path import PathError, PathNotFound, parse_path, resolve
from stepflow.records import Json

QUEUE_PARAMS = ("queueName", "stream")
"""The params that choose a queue, and so whose components a rule reaches."""

_KEYS = ("plugin", "conditions", "componentAllow", "componentDeny", "component", "params")
_NAMES = re.compile(r"\{\{|\}\}|\{\*?([^{}*]+)\}")


class Condition(msgspec.Struct, frozen=True):
    """Holds when the input has this value at the path; a path that is not there does not."""

    path: Path
    value: Json

    def holds(self, input: Json) -> bool:
        try:
            return equal(resolve(input, self.path), self.value)
        except PathNotFound:
            return False


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    plugin: str
    conditions: tuple[Condition, ...] = ()  # all must hold
    allow: frozenset[str] | None = None  # ids; None: every one
    deny: frozenset[str] = frozenset()
    component: str | None = None  # instead of the path below the route; may use what the key captured
    params: Mapping[str, Json] = {}

    @property
    def is_choosy(self) -> bool:
        """Whether the id of a component decides if the rule applies."""
        return self.allow is not None or bool(self.deny)

    def admits(self, component_id: str) -> bool:
        return component_id not in self.deny and (self.allow is None or component_id in self.allow)

    def hands_on(self, below: str, captured: Mapping[str, str]) -> str:
        if self.component is None:
            return below
        path = _NAMES.sub(lambda found: captured[found[1]] if found[1] else found[0][0], self.component)
        return path if path.startswith("/") else f"/{path}"


def equal(left: Json, right: Json) -> bool:
    """Deep equality as JSON sees it: 7 and 7.0 are one number, true and 1 are not one value."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(value, right[name]) for name, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right


def read_rules(
    value: Json, plugins: Collection[str], captured: Sequence[str], key: str, at: str, problems: list[Problem]
) -> tuple[Rule, ...]:
    """The rules of one route; what is wrong with them is added to `problems`."""
    if not isinstance(value, list | tuple):
        problems.append(Problem(message=f'route "{key}" has to be a list of rules', path=at))
        return ()
    readers = (
        _RuleReader(rule, f'route "{key}", rule {number + 1}', f"{at}[{number}]", problems)
        for number, rule in enumerate(value)
    )
    rules = (reader.read(plugins, captured) for reader in readers)
    return tuple(rule for rule in rules if rule is not None)


class _RuleReader:
    def __init__(self, value: Json, name: str, at: str, problems: list[Problem]) -> None:
        self._value = value
        self._name = name
        self._at = at
        self._problems = problems

    def read(self, plugins: Collection[str], captured: Sequence[str]) -> Rule | None:
        value = self._value
        if not isinstance(value, Mapping):
            self._problem("has to be a map with the key plugin")
            return None
        allow = self._ids("componentAllow")
        return Rule(
            plugin=self._plugin(plugins),
            conditions=self._conditions(),
            allow=None if allow is None else frozenset(allow),
            deny=frozenset(self._ids("componentDeny") or ()),
            component=self._component(captured),
            params=self._params(),
        )

    def _problem(self, message: str, below: str = "", *, remedy: str | None = None, level: str = "error") -> None:
        self._problems.append(
            Problem(message=f"{self._name}: {message}", path=self._at + below, remedy=remedy, level=level)
        )

    def _get(self, key: str) -> Json:
        assert isinstance(self._value, Mapping)
        return self._value.get(key)

    def _plugin(self, plugins: Collection[str]) -> str:
        plugin = self._get("plugin")
        if not isinstance(plugin, str):
            self._problem("plugin is missing" if plugin is None else "plugin has to be a name", ".plugin")
            return ""
        if plugin not in plugins:
            near = get_close_matches(plugin, list(plugins), 1)
            there = ", ".join(plugins) or "none"
            self._problem(
                f'plugin "{plugin}" is not declared; declared: {there}',
                ".plugin",
                remedy=f'did you mean "{near[0]}"?' if near else None,
            )
        return plugin

    def _conditions(self) -> tuple[Condition, ...]:
        value = self._get("conditions")
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            self._problem("conditions has to be a list of {path, value}", ".conditions")
            return ()
        read = (self._condition(condition, f".conditions[{number}]") for number, condition in enumerate(value))
        return tuple(condition for condition in read if condition is not None)

    def _condition(self, value: Json, below: str) -> Condition | None:
        if not isinstance(value, Mapping) or not {"path", "value"} <= value.keys():
            self._problem("a condition has to be a map with the keys path and value", below)
            return None
        for key in sorted(value.keys() - {"path", "value"}):
            self._problem(f'a condition has no key "{key}"', below, level="warning")
        path = value["path"]
        if not isinstance(path, str):
            self._problem("the path of a condition has to be text such as $.model", f"{below}.path")
            return None
        try:
            return Condition(parse_path(path), value["value"])
        except PathError as error:
            self._problem(f"the path of a condition cannot be read: {error}", f"{below}.path")
            return None

    def _ids(self, key: str) -> Sequence[str] | None:
        value = self._get(key)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or not all(isinstance(id, str) for id in value):
            self._problem(f"{key} has to be a list of component ids", f".{key}")
            return None
        return [str(id) for id in value]

    def _component(self, captured: Sequence[str]) -> str | None:
        value = self._get("component")
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            self._problem("component has to be a path such as /embed", ".component")
            return None
        if set("{}") & set(_NAMES.sub("", value)):
            self._problem("component has a brace that is not closed; a brace is written twice", ".component")
            return None
        for name in _NAMES.findall(value):
            if name and name not in captured:
                there = ", ".join(f"{{{name}}}" for name in captured) or "none"
                self._problem(f"component uses {{{name}}}, and the route captures {there}", ".component")
                return None
        return value

    def _params(self) -> Mapping[str, Json]:
        assert isinstance(self._value, Mapping)
        flat = {key: value for key, value in self._value.items() if key not in _KEYS}
        for key in flat:
            near = get_close_matches(str(key), _KEYS, 1, 0.75)
            if near:
                self._problem(
                    f'"{key}" is taken as a param', f".{key}", remedy=f'did you mean "{near[0]}"?', level="warning"
                )
        nested = self._get("params")
        if nested is not None and not isinstance(nested, Mapping):
            self._problem("params has to be a map", ".params")
            nested = None
        params = {**flat, **(nested or {})}
        for key in QUEUE_PARAMS:
            if key in params and (not isinstance(params[key], str) or not params[key]):
                self._problem(f"{key} has to be the name of a queue", f".{key}")
        return params
