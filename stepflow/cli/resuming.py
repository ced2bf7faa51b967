"""The run of a command line: a new one, or the one that the store keeps under the line's key."""

import hashlib
import os
from typing import Any

import msgspec

from stepflow.cli.failure import say
from stepflow.cli.job import Job, Submitted
from stepflow.cli.progress import Tally
from stepflow.engine import Engine
from stepflow.errors import InputInvalidError, Problem
from stepflow.execution.handle import Run
from stepflow.execution.live import Resumed
from stepflow.execution.sealing import named_secrets
from stepflow.flow.identity import compact_json, flow_id
from stepflow.flow.model import Flow
from stepflow.protocols import Backend, ended_topic
from stepflow.records import Json, RunRecord, RunStatus

_LOOK_EVERY_S = 0.5
_AGAIN = "type the same line again"
_WORDS = {"new=True": "--new", 'secrets="plain"': "--secrets plain"}


async def submit(engine: Engine, tally: Tally, was_cut: bool, *, job: Job) -> Submitted:
    """Start the job's run, or go on with the one that has its key. Only a derived key starts anew after its end.

    Args:
        was_cut: an earlier command ended before its results were whole: perhaps after the end of its run.

    Raises:
        InputInvalidError: another run has the key that was given.
    """
    key = key_of(job) if engine.backend.is_durable else job.key
    known = None if key is None or job.is_new else await engine.backend.runs.find_key(key)
    options = {**job.options, "key": key, "keep_results": False}
    if known is None or (job.key is None and _is_done_with(known, was_cut)):
        run = await _submit(engine, job, {**options, "new": job.is_new or known is not None})
        return _submitted(job, run, key)
    tally.follow(known.id)
    driver = await driver_of(engine.backend, known)
    if driver is not None and job.is_detached:
        say(f"run {_short(known)} goes on at {driver}, and is left to it (--new starts over)")
        return _submitted(job, await engine.get_run(known.id), key, is_left=True)
    if driver is not None:
        say(f"run {_short(known)} goes on at {driver}: waiting for its results (--new starts over)")
        known = await _waited_for(engine.backend, known, tally)
    if known.error is not None:
        say(f"run {_short(known)} is {known.status.value}: {' '.join(known.error.message.split())}")
    if known.status is RunStatus.PAUSED:
        say(f"run {_short(known)} is paused: it goes on after `stepflow runs resume {known.id}`")
    total = job.count()
    run = await _submit(engine, job, options)
    return _submitted(job, run, key, before=await _tell(run, known, total, tally))


def key_of(job: Job) -> str | None:
    """The key that was given, else the one of the line; None where its inputs cannot be told again."""
    if job.key is not None:
        return job.key
    return derived_key(job.flow, job.options["variables"], job.options["overrides"], job.digest())


def _submitted(job: Job, run: Run, key: str | None, *, before: int = 0, is_left: bool = False) -> Submitted:
    again = "type the same line without --new to go on" if job.is_new else f"{_AGAIN} to go on, or --new to start over"
    return Submitted(
        run=run,
        steps=[step.id for step in job.flow.steps],
        again=None if key is None else again,
        is_named=job.key is not None,
        before=before,
        is_left=is_left,
    )


async def driver_of(backend: Backend, record: RunRecord) -> str | None:
    """The engine that drives a run now, as people call it; None: nobody does, or it has ended."""
    if record.status.is_terminal:
        return None
    ownership = await backend.owners.ownership(record.id)
    engine = None if ownership is None else ownership.engine
    return None if engine is None else f"engine {engine.place or engine.name}"


async def _waited_for(backend: Backend, known: RunRecord, tally: Tally) -> RunRecord:
    """The run as it is when it has ended, or its engine is gone."""
    with backend.signals.listen(ended_topic(known.id)) as news:
        while await driver_of(backend, known) is not None:
            await news.wait(_LOOK_EVERY_S)
            known = await backend.runs.get(known.id) or known
            tally.before = known.succeeded + known.failed
    return known


def _is_done_with(known: RunRecord, was_cut: bool) -> bool:
    return known.status.is_terminal and not (was_cut and known.status is RunStatus.COMPLETED)


async def _submit(engine: Engine, job: Job, options: dict[str, Any]) -> Run:
    """As the engine does it; what it advises is said in the command line's words."""
    try:
        return await engine.submit(job.flow, job.inputs, **options)
    except InputInvalidError as error:
        raise InputInvalidError([_in_our_words(problem) for problem in error.problems]) from error


def _in_our_words(problem: Problem) -> Problem:
    remedy = problem.remedy
    for theirs, ours in _WORDS.items():
        remedy = remedy and remedy.replace(theirs, ours)
    return msgspec.structs.replace(problem, remedy=remedy)


async def _tell(run: Run, known: RunRecord, total: int | None, tally: Tally) -> int:
    """Say where the run stood, and give how many of its items had ended."""
    resumed = run.resumed
    if resumed is None:
        record = await run.record()
        say(f"run {_short(known)} is {record.status.value}: its results again, and nothing is run (--new starts over)")
        return record.succeeded + record.failed
    tally.before = resumed.ended
    say(resuming_line(known, resumed, total))
    return resumed.ended


def resuming_line(record: RunRecord, resumed: Resumed, total: int | None) -> str:
    of_all = "" if total is None else f" of {total:,}"
    again = "was in flight and runs" if resumed.in_flight == 1 else "were in flight and run"
    done = f"{resumed.ended:,}{of_all} done, {resumed.in_flight:,} {again} again"
    return f"resuming {_short(record)}: {done} (--new starts over)"


def _short(record: RunRecord) -> str:
    return str(record.id)[:8]


def derived_key(flow: Flow, variables: dict[str, Json], overrides: Json, digest: str | None) -> str | None:
    """What two lines that mean the same run have in common; None where the inputs cannot be told again.

    A secret of the environment counts by its name, so that the line stays the same when its value is changed.
    """
    if digest is None:
        return None
    lasting = {**variables, **named_secrets(flow, variables, os.environ)}
    meant = compact_json([flow_id(flow), dict(sorted(lasting.items())), overrides, digest])
    return f"line:{hashlib.sha256(meant.encode()).hexdigest()}"
