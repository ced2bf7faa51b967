"""From the component that a step names to the plugin that answers for it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeAlias

import msgspec

from stepflow.records import ComponentInfo, ErrorCode, Json
from stepflow.routing.rule import QUEUE_PARAMS, Rule
from stepflow.routing.table import COMPONENT, Candidate, Route, RouteTable, mount_path
from stepflow.routing.trie import PathTrie, PatternConflictError, PatternError

_log = logging.getLogger("stepflow.routing")
_MAX_KEPT = 10_000
_MAX_NAMES = 10
_MAX_COMPARED = 1_000

ListComponents: TypeAlias = Callable[[str, Mapping[str, Json]], Sequence[ComponentInfo] | None]
"""What a plugin offers through a route with these params; None while that is not known.

Called at every resolution, so it must be cheap; the same object stands for an unchanged list.
"""


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    plugin: str
    target: str  # the component's id; where the list is not known, the path that the route hands on
    path_params: Mapping[str, str] = {}
    params: Mapping[str, Json] = {}
    input_dependent: bool = False  # False: holds for every input until the router's version changes


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """The answer hangs on a component list that is not known yet: wait for that one, then resolve again."""

    plugin: str
    params: Mapping[str, Json] = {}


class Unroutable(msgspec.Struct, frozen=True, kw_only=True):
    code: ErrorCode
    message: str


Resolution: TypeAlias = Resolved | Unknown | Unroutable


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A component that no path can reach, and why."""

    plugin: str
    params: Mapping[str, Json]
    component: ComponentInfo
    reason: str


class _Source:
    """A component list and its trie, as last seen."""

    __slots__ = ("listed", "params", "plugin", "refused", "trie")

    def __init__(self, plugin: str, params: Mapping[str, Json]) -> None:
        self.plugin = plugin
        self.params = params
        self.listed: Sequence[ComponentInfo] | None = None
        self.trie: PathTrie[str] | None = None
        self.refused: tuple[Refusal, ...] = ()

    def take(self, listed: Sequence[ComponentInfo] | None) -> bool:
        """Whether what can be reached changed; schemas and descriptions do not count."""
        before, self.listed = self.listed, listed
        if listed is None or before is None:
            self._build(listed)
            return listed is not before
        if [(info.id, info.path) for info in listed] == [(info.id, info.path) for info in before]:
            return False
        self._build(listed)
        return True

    def _build(self, listed: Sequence[ComponentInfo] | None) -> None:
        self.refused = ()
        self.trie = None
        if listed is None:
            return
        self.trie = PathTrie()
        refused: list[Refusal] = []
        for info in listed:
            try:
                self.trie.add(mount_path(info), info.id)
            except (PatternError, PatternConflictError) as error:
                refused.append(
                    Refusal(
                        plugin=self.plugin, params=self.params, component=info, reason=f"{mount_path(info)}: {error}"
                    )
                )
                _log.warning('plugin "%s": component "%s" cannot be reached: %s', self.plugin, info.id, error)
        self.refused = tuple(refused)

    def __str__(self) -> str:
        queue = next((self.params[key] for key in QUEUE_PARAMS if key in self.params), None)
        return f'plugin "{self.plugin}"' + (f' (queue "{queue}")' if queue is not None else "")


class _Search:
    """What one resolution came across."""

    __slots__ = ("denied", "input_dependent", "lacking", "sources")

    def __init__(self) -> None:
        self.sources: list[_Source] = []
        self.input_dependent = False
        self.lacking: list[tuple[Candidate, Rule, _Source, str]] = []
        self.denied: list[str] = []


class _Kept(msgspec.Struct, frozen=True):
    answer: Resolution
    sources: tuple[_Source, ...]


class Router:
    """Resolves paths over one table. What it learnt is kept until a component list is another object."""

    def __init__(self, table: RouteTable, components: ListComponents) -> None:
        self.table = table
        self._components = components
        self._sources: dict[tuple[object, ...], _Source] = {}
        self._kept: dict[str, _Kept] = {}
        self._candidates: dict[str, tuple[Candidate, ...]] = {}
        self._version = 0

    @property
    def version(self) -> int:
        """Another number once a component list that was asked for has changed."""
        for source in self._sources.values():
            self._refresh(source)
        return self._version

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """The components of the lists seen so far that no path can reach."""
        return tuple(refusal for source in self._sources.values() for refusal in source.refused)

    def resolve(self, path: str, input: Json) -> Resolution:
        """Who answers for a path; an unknown list is never taken for an empty one.

        In prefix form a rule whose list is not known stops the search with `Unknown`. In pattern form the path
        selects the rule whether or not its list is known; only a rule that allows or denies ids has to wait.
        """
        kept = self._kept.get(path)
        if kept is not None:
            for source in kept.sources:
                if self._components(source.plugin, source.params) is not source.listed:
                    break
            else:
                return kept.answer
        search = _Search()
        answer = self._search(path, input, search)
        if not search.input_dependent:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            self._kept[path] = _Kept(answer, tuple(search.sources))
        return answer

    def _search(self, path: str, input: Json, search: _Search) -> Resolution:
        candidates = self._candidates_of(path)
        for candidate in candidates:
            for rule in candidate.route.rules:
                answer = self._try(rule, candidate, input, search)
                if answer is not None:
                    return answer
        return self._unroutable(path, candidates, search)

    def _candidates_of(self, path: str) -> tuple[Candidate, ...]:
        found = self._candidates.get(path)
        if found is None:
            if len(self._candidates) >= _MAX_KEPT:
                self._candidates.clear()
            found = self._candidates[path] = self.table.candidates(path)
        return found

    def _try(self, rule: Rule, candidate: Candidate, input: Json, search: _Search) -> Resolution | None:
        if rule.conditions:
            search.input_dependent = True
            if not all(condition.holds(input) for condition in rule.conditions):
                return None
        source = self._source(rule)
        search.sources.append(source)
        below = rule.hands_on(candidate.below, candidate.captured)
        if source.trie is None:
            if candidate.route.prefix or rule.is_choosy:
                return Unknown(plugin=rule.plugin, params=rule.params)
            return self._resolved(rule, candidate, below, {}, search)
        match = source.trie.match(below)
        if match is None:
            search.lacking.append((candidate, rule, source, below))
            return None if candidate.route.prefix else self._not_found(search)
        if not rule.admits(match.value):
            search.denied.append(match.value)
            return None
        return self._resolved(rule, candidate, match.value, match.params, search)

    @staticmethod
    def _resolved(
        rule: Rule, candidate: Candidate, target: str, params: Mapping[str, str], search: _Search
    ) -> Resolved:
        captured: Mapping[str, str] = {}
        if not candidate.route.prefix and (rule.component is not None or COMPONENT in candidate.captured):
            captured = {name: value for name, value in candidate.captured.items() if name != COMPONENT}
        return Resolved(
            plugin=rule.plugin,
            target=target,
            path_params={**captured, **params} if captured else params,
            params=rule.params,
            input_dependent=search.input_dependent,
        )

    def _source(self, rule: Rule) -> _Source:
        key = (rule.plugin, *(rule.params.get(name) for name in QUEUE_PARAMS))
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = _Source(rule.plugin, rule.params)
        self._refresh(source)
        return source

    def _refresh(self, source: _Source) -> None:
        listed = self._components(source.plugin, source.params)
        if listed is not source.listed and source.take(listed):
            self._version += 1
            self._kept.clear()

    def _unroutable(self, path: str, candidates: Sequence[Candidate], search: _Search) -> Unroutable:
        if not candidates:
            keys = _some([f'"{key}"' for key in self.table.keys])
            return Unroutable(
                code=ErrorCode.ORCHESTRATOR_ERROR,
                message=f'no route matches "{path}"; the routes are: {keys or "none"}',
            )
        if search.lacking:
            return self._not_found(search)
        if search.denied:
            return Unroutable(
                code=ErrorCode.COMPONENT_NOT_FOUND,
                message=f'route "{candidates[0].route.key}" does not let the component "{search.denied[0]}" through',
            )
        return Unroutable(
            code=ErrorCode.ORCHESTRATOR_ERROR,
            message=f'no rule of route "{candidates[0].route.key}" applies to this input of "{path}"',
        )

    @staticmethod
    def _not_found(search: _Search) -> Unroutable:
        parts: list[str] = []
        for candidate, rule, source, below in search.lacking:
            names, aliases = _names(candidate.route, rule, source), _names(candidate.route, rule, source, aliases=True)
            wanted = candidate.route.caller_path(rule, below) or below
            near = get_close_matches(wanted, (*names, *aliases)[:_MAX_COMPARED], 1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            parts.append(f'{source} has no component "{wanted}"{hint} (it has: {_some(names) or "none"})')
        return Unroutable(code=ErrorCode.COMPONENT_NOT_FOUND, message="; ".join(dict.fromkeys(parts)))


def _names(route: Route, rule: Rule, source: _Source, *, aliases: bool = False) -> list[str]:
    paths = [mount_path(info) for info in source.listed or () if info.is_alias is aliases]
    return [route.caller_path(rule, path) or path for path in paths]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
