"""The route table: which rules stand behind which path. Checked whole when it is read."""

import re
from collections.abc import Collection, Iterator, Mapping

import msgspec

from stepflow.errors import ConfigError, Problem
from stepflow.records import ComponentInfo, Json
from stepflow.routing.rule import Rule, read_rules
from stepflow.routing.trie import Part, PathTrie, PatternConflictError, PatternError, parse_pattern

COMPONENT = "component"
"""The parameter of a route key that is the path handed on, and the name of that path in a `component:` override."""

_ESCAPED = re.compile(r'([\\"\]])')  # in a quoted key of a path


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One key of the table.

    The prefix form (`/`, `/ml`) takes every path below it, and a path that its rules do not serve goes on to the
    next key. The pattern form (`/ml/{*component}`, `/a/b`) takes what it matches: the path alone selects the rule.
    """

    key: str
    rules: tuple[Rule, ...]
    prefix: bool
    head: str  # what a path loses before it is handed on
    parts: tuple[Part, ...] = ()  # of the pattern form

    def caller_path(self, rule: Rule, below: str) -> str | None:
        """How a flow writes the component that is at this path below the route; None if there is no one way."""
        parameters = [part for part in self.parts if part.parameter]
        if self.parts and not parameters:
            path = "".join(f"/{part.text}" for part in self.parts)
            return path if rule.hands_on(path, {}) == below else None
        if rule.component is not None:
            return None
        if self.prefix:
            return self.head + below
        if len(parameters) > 1 or not self.parts[-1].parameter:
            return None
        return self.head + below if parameters[0].rest or "/" not in below[1:] else None


class Candidate(msgspec.Struct, frozen=True):
    """A route that matches a path, and what it hands on."""

    route: Route
    below: str
    captured: Mapping[str, str] = {}


class RouteTable:
    """Routes by the paths they match."""

    def __init__(self, routes: Collection[Route] = (), warnings: Collection[Problem] = ()) -> None:
        """Raises PatternConflictError when two routes match the same paths."""
        self.routes = tuple(routes)
        self.warnings = tuple(warnings)
        self._keys: PathTrie[Route] = PathTrie(exclusive=False)
        for route in self.routes:
            _add(self._keys, route)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(route.key for route in self.routes)

    @property
    def rules(self) -> Iterator[Rule]:
        return (rule for route in self.routes for rule in route.rules)

    def candidates(self, path: str) -> tuple[Candidate, ...]:
        """The routes to try for a path, in order. Only the prefix form goes on to the next one."""
        found: list[Candidate] = []
        for match in self._keys.matches(path):
            found.append(_candidate(match.value, path, match.params))
            if not match.value.prefix:
                break
        return tuple(found)

    def caller_paths(
        self, plugin: str, info: ComponentInfo, params: Mapping[str, Json] | None = None
    ) -> tuple[str, ...]:
        """The paths by which flows can name a component, whatever the conditions of the rules.

        Args:
            params: only of rules with these; None: of all.
        """
        below = mount_path(info)
        paths = (
            route.caller_path(rule, below)
            for route in self.routes
            for rule in route.rules
            if rule.plugin == plugin and rule.admits(info.id) and params in (None, rule.params)
        )
        return tuple(dict.fromkeys(path for path in paths if path is not None))


def mount_path(info: ComponentInfo) -> str:
    """Where a component stands below a route."""
    return info.path or (info.id if info.id.startswith("/") else f"/{info.id}")


def parse_routes(
    routes: Json | Mapping[str, Json],
    plugins: Collection[str],
    at: str = "$.routes",
    *,
    mounts: Mapping[str, str] | None = None,
) -> RouteTable:
    """The table of a configuration's `routes`, and beside them of registries mounted in process.

    Args:
        plugins: the names that rules may use.
        at: where the routes stand in their document, for the problems' paths.
        mounts: plugin by path prefix; prefixes may have several segments here.

    Raises:
        ConfigError: every problem there is; each names its rule.
    """
    problems: list[Problem] = []
    found: list[Route] = []
    if not isinstance(routes, Mapping):
        raise ConfigError([Problem(message="routes has to be a map from path to a list of rules", path=at)])
    for key, value in routes.items():
        route = _read_route(key, value, plugins, at, problems)
        found.extend([route] if route is not None else [])
    for prefix, plugin in (mounts or {}).items():
        found.append(_mounted(prefix, plugin, problems))
    problems.extend(_clashes(found, at))
    if any(problem.level == "error" for problem in problems):
        raise ConfigError(problems)
    return RouteTable(found, problems)


def mount(mounts: Mapping[str, str]) -> RouteTable:
    """The table of registries alone: `{"/": name, "/ml": other}`."""
    return parse_routes({}, tuple(mounts.values()), mounts=mounts)


def _read_route(key: object, value: Json, plugins: Collection[str], at: str, problems: list[Problem]) -> Route | None:
    escaped = _ESCAPED.sub(r"\\\1", str(key))
    place = f'{at}["{escaped}"]'
    try:
        parts = _key_parts(key)
    except PatternError as error:
        problems.append(
            Problem(
                message=f'"{key}" is no path for a route: {error}',
                path=place,
                remedy='write "/", "/name", or a pattern such as "/name/{*component}"',
            )
        )
        parts = (Part(COMPONENT, parameter=True, rest=True),)  # the rules are checked all the same
    parameters = [part.text for part in parts if part.parameter]
    is_prefix = len(parts) == 1 and not parameters
    rules = read_rules(value, plugins, [COMPONENT] if is_prefix else parameters, str(key), place, problems)
    head = _head(parts) if is_prefix or parameters else ""
    return Route(key=str(key), rules=rules, prefix=is_prefix, head=head, parts=() if is_prefix else parts)


def _key_parts(key: object) -> tuple[Part, ...]:
    if not isinstance(key, str):
        raise PatternError("it is not text")
    parts = parse_pattern(key)
    if key != "/" and any(not part.text for part in parts):
        raise PatternError("it ends with a slash" if key.endswith("/") else "one of its segments is empty")
    return parts


def _head(parts: tuple[Part, ...]) -> str:
    """The literal segments before the first parameter, as paths write them."""
    head = ""
    for part in parts:
        if part.parameter or not part.text:
            break
        head += f"/{part.text}"
    return head


def _mounted(prefix: str, plugin: str, problems: list[Problem]) -> Route:
    at = f"mount {prefix}"
    try:
        parts = _key_parts(prefix)
        if any(part.parameter for part in parts):
            raise PatternError("a registry is mounted at a plain path")
    except PatternError as error:
        problems.append(Problem(message=f'"{prefix}" is no path for a registry: {error}', path=at))
        parts = ()
    return Route(key=prefix, rules=(Rule(plugin=plugin),), prefix=True, head=_head(parts))


def _clashes(routes: Collection[Route], at: str) -> Iterator[Problem]:
    keys: PathTrie[Route] = PathTrie(exclusive=False)
    for route in routes:
        try:
            _add(keys, route)
        except PatternConflictError as error:
            names = f'"{error.other}" and "{error.pattern}"'
            if error.other == error.pattern:
                names = f'"{error.pattern}" of the configuration and "{error.pattern}" of a mounted registry'
            yield Problem(
                message=f"the routes {names} match the same paths", path=at, remedy="keep one, or mount elsewhere"
            )


def _add(keys: PathTrie[Route], route: Route) -> None:
    if not route.prefix:
        keys.add_parts(route.parts, route.key, route)
        return
    head = tuple(Part(text) for text in route.head[1:].split("/")) if route.head else ()
    keys.add_parts((*head, Part("", parameter=True, rest=True)), route.key, route)
    keys.add_parts((*head, Part("")), route.key, route)
    if head:
        keys.add_parts(head, route.key, route)


def _candidate(route: Route, path: str, captured: Mapping[str, str]) -> Candidate:
    if route.prefix:
        below = path[len(route.head) :] or "/"
        return Candidate(route, below, {COMPONENT: below[1:]})
    if COMPONENT in captured:
        return Candidate(route, f"/{captured[COMPONENT]}", captured)
    return Candidate(route, path[len(route.head) :], captured)
