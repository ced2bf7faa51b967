"""Overrides: a run's own changes to the steps of its flow, as merge patches."""

from collections.abc import Mapping

import msgspec

from stepflow.errors import FlowInvalidError, InputInvalidError, Problem
from stepflow.flow.expression import kind
from stepflow.flow.identity import flow_to_json, recover_integers
from stepflow.flow.model import Flow, Path
from stepflow.flow.path import PathError, format_path, parse_path
from stepflow.flow.read import flow_from_json
from stepflow.plan.checks import check, path_text
from stepflow.plan.suggest import did_you_mean
from stepflow.records import Json

_STEP_KEYS = frozenset({"id", "component", "onError", "input", "timeout", "mustExecute", "metadata"})
_ENTRY_KEYS = frozenset({"value", "$type"})


def apply_overrides(flow: Flow, overrides: Json) -> Flow:
    """The flow with its steps patched; the same flow where there is nothing to patch.

    `overrides` is `{"steps": {id: {"value": patch}}}`, or without the `steps` around it where that can be told
    apart; null and `{}` change nothing. A patch is an RFC 7396 merge patch of the step as the flow would be written.

    Raises:
        InputInvalidError: with every problem: unknown steps, patches that are not objects, and whatever makes the
            patched flow unusable.
    """
    problems: list[Problem] = []
    try:
        return _applied(flow, overrides, problems)
    except RecursionError:
        raise InputInvalidError([Problem(message="overrides are nested too deeply", path="$.overrides")]) from None


def _applied(flow: Flow, overrides: Json, problems: list[Problem]) -> Flow:
    patches = _patches(flow, recover_integers(overrides), problems)
    if not patches and not problems:
        return flow
    document = flow_to_json(flow)
    steps = document.get("steps", [])
    assert isinstance(steps, list)
    places: dict[int, Path] = {}
    for index, step in enumerate(flow.steps):
        if step.id in patches:
            places[index], patch = patches[step.id]
            steps[index] = _patched(steps[index], patch, places[index], problems)
    if problems:
        raise InputInvalidError(problems)
    return _checked(flow, document, places)


def merge_patch(target: Json, patch: Json) -> Json:
    """RFC 7396: null removes, objects merge, everything else replaces. Neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def _patches(flow: Flow, overrides: Json, problems: list[Problem]) -> dict[str, tuple[Path, Json]]:
    """The patch of each step by its id, with the place in the overrides it comes from."""
    if overrides is None:
        return {}
    if not isinstance(overrides, dict):
        problems.append(Problem(message=f"overrides are an object, not {kind(overrides)}", path="$.overrides"))
        return {}
    at: Path = ("overrides",)
    entries: Json = overrides
    wrapped = _is_wrapped(flow, overrides)
    if wrapped:
        entries, at = overrides["steps"], ("overrides", "steps")
    if entries is None:
        return {}
    if not isinstance(entries, dict):
        problems.append(Problem(message=f"steps are an object, not {kind(entries)}", path=format_path(at)))
        return {}
    found: dict[str, tuple[Path, Json]] = {}
    ids = [step.id for step in flow.steps]
    for id, entry in entries.items():
        if id not in ids:
            problems.append(_unknown_step(id, ids, (*at, id)))
        elif (patch := _patch(entry, (*at, id), problems, bare=not wrapped)) is not None:
            found[id] = patch
    return found


def _is_wrapped(flow: Flow, overrides: Mapping[str, Json]) -> bool:
    """Whether `steps` is the wrapper. It may also be a step's id: then what stands in it decides."""
    if "steps" not in overrides:
        return False
    inside, ids = overrides["steps"], {step.id for step in flow.steps}
    looks_like_entry = isinstance(inside, dict) and "value" in inside and inside.keys() <= _ENTRY_KEYS
    return not ("steps" in ids and looks_like_entry and "value" not in ids)


def _unknown_step(id: str, ids: list[str], at: Path) -> Problem:
    near = did_you_mean(id, ids)
    remedy = f'did you mean "{near}"?' if near is not None else None
    return Problem(
        message=f'overrides name step "{id}", which the flow does not have', path=format_path(at), remedy=remedy
    )


def _patch(entry: Json, at: Path, problems: list[Problem], *, bare: bool) -> tuple[Path, Json] | None:
    where = format_path(at)
    if not isinstance(entry, dict):
        problems.append(Problem(message=f"an override is an object, not {kind(entry)}", path=where))
        return None
    type = entry.get("$type", "merge_patch")
    if type == "json_patch":
        remedy = "write the change as a merge patch"
        problems.append(Problem(message="json_patch is not supported", path=f"{where}.$type", remedy=remedy))
        return None
    if type != "merge_patch":
        message = f"{msgspec.json.encode(type).decode()} is not a kind of override"
        problems.append(Problem(message=message, path=f"{where}.$type", remedy='leave it out, or write "merge_patch"'))
        return None
    if "value" in entry:
        return (*at, "value"), entry["value"]
    if bare and "$type" not in entry and entry.keys() <= _STEP_KEYS:
        return at, entry
    problems.append(Problem(message="an override has no value", path=where, remedy='write {"value": {…}}'))
    return None


def _patched(step: Json, patch: Json, at: Path, problems: list[Problem]) -> Json:
    if isinstance(patch, dict):
        return merge_patch(step, patch)
    message = f"a step's patch is an object, not {kind(patch)}"
    problems.append(Problem(message=message, path=format_path(at)))
    return step


def _checked(flow: Flow, document: dict[str, Json], places: Mapping[int, Path]) -> Flow:
    try:
        read = flow_from_json(document)
    except FlowInvalidError as error:
        raise InputInvalidError([_moved(problem, places) for problem in error.problems]) from None
    patched = msgspec.structs.replace(flow, steps=read.steps)
    fatal = [found for found in check(patched) if found.level == "fatal"]
    if not fatal:
        return patched
    problems = (
        Problem(message=found.message, path=format_path(found.place), code=found.code, level=found.level)
        for found in fatal
    )
    raise InputInvalidError([_moved(problem, places) for problem in problems])


def _moved(problem: Problem, places: Mapping[int, Path]) -> Problem:
    """The problem with the place in the overrides that it comes from, where it lies in a patched step."""
    try:
        path = parse_path(problem.path)
    except PathError:
        return problem
    match path:
        case ("steps", int() as index, *rest) if index in places:
            moved = (*places[index], *rest)
            return msgspec.structs.replace(problem, path=path_text(moved), line=0, column=0, source=None)
        case _:
            return msgspec.structs.replace(problem, message=f"{problem.message}, once the overrides are applied")
