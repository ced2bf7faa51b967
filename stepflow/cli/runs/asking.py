"""`stepflow runs cancel`, `pause` and `resume`: asked of the engine that has the run, else done here."""

import time
from collections.abc import Callable
from uuid import uuid4

import anyio
import click
import msgspec

from stepflow.cli.failure import COULD_NOT_RUN, CommandError, say
from stepflow.cli.logs import muted
from stepflow.cli.opening import idle_engine
from stepflow.cli.options import examples
from stepflow.cli.place import Place, short_id
from stepflow.cli.runs.options import place_options, runs_argument
from stepflow.cli.runs.place import asked_place, find_run, opened
from stepflow.cli.runs.rows import owner_text
from stepflow.errors import RunNotFoundError, StoreInUseError
from stepflow.history.explaining import explain
from stepflow.history.explanation import Blocker, BlockerKind
from stepflow.protocols import Backend, ended_topic
from stepflow.records import EngineRecord, Message, MessageKind, Ownership, RunId, RunRecord, RunStatus

PATIENCE_S = 10.0
"""How long an engine may take to do what it is asked."""

LOOKED_AGAIN_S = 3.0
"""How long an engine may take to look again whether it has what a run waits for, and to begin."""

_LOOK_EVERY_S = 0.1
_TRIES = 3  # engines may come and go between the look and the deed


class _Deed(msgspec.Struct, frozen=True):
    kind: MessageKind
    done: str
    is_done: Callable[[RunStatus], bool]
    wants: str  # what is said of a run that has ended


_CANCEL = _Deed(MessageKind.CANCEL, "cancelled", lambda status: status.is_terminal, "stays as it is")
_PAUSE = _Deed(MessageKind.PAUSE, "paused", lambda status: status is RunStatus.PAUSED, "cannot be paused")
_RESUME = _Deed(MessageKind.RESUME, "resumed", lambda status: status is RunStatus.RUNNING, "cannot go on")


@click.command("cancel", epilog=examples("stepflow runs cancel 01933f2c --store runs.db"))
@runs_argument
@place_options
@click.pass_context
def cancel(ctx: click.Context, runs: tuple[str, ...], store: str | None, config: str | None, url: str | None) -> None:
    """End runs that go on, with their sub-runs; one that has ended stays as it is.

    RUN is an id, the beginning of one, or `last`. The engine that has the run is asked; where none has it, the run is
    cancelled here.
    """
    ctx.exit(anyio.run(_do_all, _CANCEL, runs, asked_place(store, config, url)))


@click.command("pause", epilog=examples("stepflow runs pause last --store runs.db"))
@runs_argument
@place_options
@click.pass_context
def pause(ctx: click.Context, runs: tuple[str, ...], store: str | None, config: str | None, url: str | None) -> None:
    """Let no more steps of runs begin; those under way go on to their end, and count.

    RUN is an id, the beginning of one, or `last`.
    """
    ctx.exit(anyio.run(_do_all, _PAUSE, runs, asked_place(store, config, url)))


@click.command("resume", epilog=examples("stepflow runs resume last --store runs.db"))
@runs_argument
@place_options
@click.pass_context
def resume(ctx: click.Context, runs: tuple[str, ...], store: str | None, config: str | None, url: str | None) -> None:
    """Let paused runs go on, and have engines look again for the secrets that their runs wait for.

    RUN is an id, the beginning of one, or `last`. Where no engine has the run, this only takes the pause away.
    """
    ctx.exit(anyio.run(_do_all, _RESUME, runs, asked_place(store, config, url)))


async def _do_all(deed: _Deed, texts: tuple[str, ...], place: Place) -> int:
    async with opened(place) as backend:
        run_ids = [await find_run(backend, text, place) for text in texts]
        codes = [await _do(deed, backend, run_id, place) for run_id in dict.fromkeys(run_ids)]
    return max(codes)


async def _do(deed: _Deed, backend: Backend, run_id: RunId, place: Place) -> int:
    short = await short_id(backend, run_id)
    for _ in range(_TRIES):
        record, ownership = await _known(backend, run_id)
        if record.status.is_terminal:
            say(f"run {short} has ended ({record.status.value}): it {deed.wants}")
            return 0 if deed.kind is MessageKind.CANCEL else COULD_NOT_RUN
        if deed.kind is MessageKind.RESUME and ownership is not None and await _missing(backend, run_id) is not None:
            return await _looked_for_again(backend, run_id, short)
        if deed.is_done(record.status):
            say(f"run {short} is {record.status.value} already")
            return 0
        if await _is_done(deed, backend, run_id, ownership, place):
            return await _told(deed, backend, run_id, short, place)
    say(f"run {short} has not been {deed.done}; see: {place.line(f'stepflow runs explain {short}')}")
    return COULD_NOT_RUN


async def _missing(backend: Backend, run_id: RunId) -> Blocker | None:
    """What keeps a whole run from beginning where it is, such as a secret that can't be had there."""
    told = await explain(backend, run_id, now=time.time())
    waiting = (blocker for blocker in told.blockers if blocker.kind is BlockerKind.WAITING)
    return next((blocker for blocker in waiting if blocker.run_id == run_id and blocker.step is None), None)


async def _looked_for_again(backend: Backend, run_id: RunId, short: str) -> int:
    """Have the engine of a run look again for what the run waits for."""
    await backend.inbox.send(Message(id=str(uuid4()), run_id=run_id, kind=MessageKind.RESUME))
    until = time.monotonic() + LOOKED_AGAIN_S
    with backend.signals.listen(ended_topic(run_id)) as news:
        while (missing := await _missing(backend, run_id)) is not None and time.monotonic() < until:
            await news.wait(_LOOK_EVERY_S)
    if missing is None:
        say(f"run {short} goes on")
        return 0
    say(f"run {short} still waits: {missing.text(time.time())}")
    return COULD_NOT_RUN


async def _is_done(deed: _Deed, backend: Backend, run_id: RunId, ownership: Ownership | None, place: Place) -> bool:
    """False: an engine has come, or gone, before it could be done.

    Raises:
        CommandError: the run's engine does not answer.
    """
    engine = None if ownership is None else ownership.engine
    if place.is_server or engine is not None:
        message = Message(id=str(uuid4()), run_id=run_id, kind=deed.kind)
        return await backend.inbox.send(message) and await _is_seen_done(deed, backend, run_id, engine, place)
    try:
        await _do_here(deed, run_id, place)
    except StoreInUseError:
        return False
    return True


async def _known(backend: Backend, run_id: RunId) -> tuple[RunRecord, Ownership | None]:
    record = await backend.runs.get(run_id)
    if record is None:
        raise RunNotFoundError(run_id)
    return record, await backend.owners.ownership(run_id)


async def _do_here(deed: _Deed, run_id: RunId, place: Place) -> None:
    with muted("stepflow.run"):  # what the run would wait for here
        async with idle_engine(place.location) as engine:
            match deed.kind:
                case MessageKind.CANCEL:
                    await engine.cancel(run_id)
                case MessageKind.PAUSE:
                    await engine.pause(run_id)
                case MessageKind.RESUME:
                    await engine.resume(run_id)


async def _is_seen_done(deed: _Deed, backend: Backend, run_id: RunId, asked: EngineRecord | None, place: Place) -> bool:
    until = time.monotonic() + PATIENCE_S
    with backend.signals.listen(ended_topic(run_id)) as news:
        while time.monotonic() < until:
            record, ownership = await _known(backend, run_id)
            if deed.is_done(record.status) or record.status.is_terminal:
                return True
            if not place.is_server and (ownership is None or ownership.engine is None):
                return False
            await news.wait(_LOOK_EVERY_S)
    who = f"the server at {place.name}" if asked is None else owner_text(record, asked)
    raise CommandError(f"{who} was asked and has not answered for {PATIENCE_S:.0f} s; it will do it when it goes on")


async def _told(deed: _Deed, backend: Backend, run_id: RunId, short: str, place: Place) -> int:
    record, ownership = await _known(backend, run_id)
    if deed.kind is not MessageKind.CANCEL and record.status.is_terminal:
        say(f"run {short} has ended meanwhile ({record.status.value})")
        return COULD_NOT_RUN if deed.kind is MessageKind.PAUSE else 0
    if deed.kind is MessageKind.CANCEL and record.status is not RunStatus.CANCELLED:
        say(f"run {short} has ended before it could be cancelled ({record.status.value})")
        return 0
    say(f"run {short} is {deed.done}: {record.succeeded + record.failed:,} of its items have ended")
    is_driven = ownership is not None and ownership.engine is not None
    say(f"next: {place.line(_next(deed, short, is_driven=is_driven))}")
    return 0


def _next(deed: _Deed, short: str, *, is_driven: bool) -> str:
    match deed.kind:
        case MessageKind.CANCEL:
            return f"stepflow runs retry {short}"
        case MessageKind.PAUSE:
            return f"stepflow runs resume {short}"
        case _:
            return f"stepflow runs show {short}" if is_driven else f"stepflow recover {short}"
