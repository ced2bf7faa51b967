"""What a crash loop may find: nothing lost, and nothing done twice but where a crash explains it. Pure."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import jobs
import msgspec
from ledger import Accepted, Began, Done, Ended, Line

Step: TypeAlias = tuple[str, int, str]
"""Run, item, step."""

SLACK_S = 0.005
"""The journal counts in milliseconds, the ledger in fractions of them."""


class Life(msgspec.Struct):
    """One process of a worker: from its start to the kill, if it was killed."""

    engine: str
    slot: int
    began: float
    died: float | None = None


class Stored(msgspec.Struct):
    """What the store holds of a job in the end: its runs, and of the one that counts whether it is complete."""

    runs: list[str]
    status: str
    outputs: list[object]


class Journals(msgspec.Struct):
    """What the journals say, in seconds since the epoch."""

    succeeded: dict[Step, float] = {}
    begun_after_success: list[Step] = []
    claims: dict[str, list[tuple[float, int]]] = {}  # by run: when, and the slot that took it over


class Found(msgspec.Struct):
    lost: list[str]
    duplicated: list[str]
    recover_s: dict[str, float]  # by engine that was killed amid a step: until all that this stopped ran again


def judge(
    lines: Sequence[Line],
    lives: Sequence[Life],
    stored: Mapping[int, Stored],
    journals: Journals,
    outages: Sequence[tuple[float, float]] = (),
    under_way: Collection[Began] = (),
) -> Found:
    """What is wrong. Calls that were `under_way` when their process was stopped are nobody's fault."""
    kept = [line for line in lines if line not in under_way] if under_way else lines
    return Found(
        lost=lost(lines, stored),
        duplicated=duplicated(kept, lives, journals, outages),
        recover_s=recovered(lines, lives, journals, outages),
    )


def lost(lines: Sequence[Line], stored: Mapping[int, Stored]) -> list[str]:
    """What was accepted and is not there, or not right; a line for each."""
    found = [f"job {line.job}: somebody read other results than the right ones" for line in lines if _is_wrong(line)]
    accepted = {line.job: line.run for line in lines if isinstance(line, Accepted)}
    for job, run in accepted.items():
        there = stored.get(job, Stored([], "missing", []))
        if run not in there.runs:
            found.append(f"job {job}: run {run} was accepted and is not stored")
        if len(there.runs) > 1:
            found.append(f"job {job}: one key has {len(there.runs)} runs: {', '.join(there.runs)}")
        right = jobs.outputs_of(job)
        if there.status != "completed" or len(there.outputs) != len(right):
            found.append(f"job {job}: {there.status} with {len(there.outputs)} of {len(right)} results")
        wrong = [item for item, pair in enumerate(zip(there.outputs, right, strict=False)) if pair[0] != pair[1]]
        found += [f"job {job}: item {item} is {there.outputs[item]!r}, not {right[item]!r}" for item in wrong]
    return found


def _is_wrong(line: Line) -> bool:
    return isinstance(line, Done) and not line.right


def duplicated(
    lines: Sequence[Line], lives: Sequence[Life], journals: Journals, outages: Sequence[tuple[float, float]]
) -> list[str]:
    """Executions that nothing explains: neither a retry, nor the death of who did it before; a line for each."""
    died = {life.engine: life.died for life in lives}
    failed = {_execution(line) for line in lines if isinstance(line, Ended) and line.failed}
    found = [f"{_named(step)}: started after its success was recorded" for step in journals.begun_after_success]
    for step, calls in _calls(lines).items():
        success = journals.succeeded.get(step)
        found += [
            f"{_named(step)}: called by {call.engine} (attempt {call.attempt}) after its success was recorded"
            for call in calls
            if success is not None and call.at > success + SLACK_S
        ]
        for before, after in zip(calls, calls[1:], strict=False):
            death = died.get(before.engine)
            is_explained = (
                _execution(before) in failed
                or (death is not None and death <= after.at)
                or any(begin <= after.at and end >= before.at for begin, end in outages)
            )
            if not is_explained:
                by = f"{before.engine} (attempt {before.attempt}) and {after.engine} (attempt {after.attempt})"
                found.append(f"{_named(step)}: called by {by}, {after.at - before.at:.3f} s apart")
    return found


def recovered(
    lines: Sequence[Line], lives: Sequence[Life], journals: Journals, outages: Sequence[tuple[float, float]]
) -> dict[str, float]:
    """Of each kill that stopped a step: the seconds until the last of those steps ran again.

    Where the process that took the run over was killed too, or was to take it over because there is only one, or where
    the database was down, they count from there.
    """
    ended = {_execution(line) for line in lines if isinstance(line, Ended)}
    died = {life.engine: life.died for life in lives if life.died is not None}
    is_alone = len({life.slot for life in lives}) == 1
    waits: dict[str, list[float]] = defaultdict(list)
    for step, calls in _calls(lines).items():
        for before, after in zip(calls, calls[1:], strict=False):
            death = died.get(before.engine)
            if death is None or _execution(before) in ended:
                continue
            later = [end for _, end in outages if death < end <= after.at]
            later += _deaths_of_claimers(journals.claims.get(step[0], ()), lives, death, after.at)
            if is_alone:
                later += [at for at in died.values() if death < at <= after.at]
            waits[before.engine].append(after.at - max([death, *later]))
    return {engine: max(each) for engine, each in waits.items()}


def _deaths_of_claimers(
    claims: Sequence[tuple[float, int]], lives: Sequence[Life], since: float, until: float
) -> list[float]:
    deaths = []
    for at, slot in claims:
        mine = sorted((life for life in lives if life.slot == slot), key=lambda life: life.began)
        place = bisect_right([life.began for life in mine], at)
        claimer = mine[place - 1] if place else None
        if claimer is not None and claimer.died is not None and since < claimer.died <= until:
            deaths.append(claimer.died)
    return deaths


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _calls(lines: Sequence[Line]) -> dict[Step, list[Began]]:
    calls: dict[Step, list[Began]] = defaultdict(list)
    for line in lines:
        if isinstance(line, Began):
            calls[line.run, line.item, line.step].append(line)
    for each in calls.values():
        each.sort(key=lambda call: call.at)
    return calls


def _execution(line: Began | Ended) -> tuple[str, str, int, str, int]:
    return (line.engine, line.run, line.item, line.step, line.attempt)


def _named(step: Step) -> str:
    return f"run {step[0]}, item {step[1]}, step {step[2]}"
