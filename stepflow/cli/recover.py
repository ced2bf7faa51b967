"""`stepflow recover`: goes on with runs that nobody drives."""

from collections.abc import Sequence

import anyio
import anyio.abc
import click

from stepflow.cli.failure import COULD_NOT_RUN, ITEM_FAILED, say
from stepflow.cli.impatience import INTERRUPTED
from stepflow.cli.interrupts import heed_interrupts
from stepflow.cli.logs import muted
from stepflow.cli.opening import storing_engine
from stepflow.cli.options import examples, filled, stored_engine_options
from stepflow.cli.place import Place
from stepflow.cli.progress import Totals, bar, is_wanted
from stepflow.cli.resuming import driver_of
from stepflow.cli.runs.options import store_option
from stepflow.cli.runs.place import find_run, named_place, refuse_missing
from stepflow.engine import Engine
from stepflow.errors import RunNotFoundError
from stepflow.execution.events import StepWaiting
from stepflow.history.words import plural
from stepflow.protocols import Backend
from stepflow.records import DEFAULT_GROUP, JOURNAL_FORMAT, RunId, RunRecord, RunStatus

_PAGE = 1_000
_NOT_HERE = "no live engine serves"


@click.command("recover", epilog=examples("stepflow recover --app components:app --store runs.db"))
@click.argument("runs", metavar="[RUN]...", nargs=-1, callback=filled)
@stored_engine_options
@click.option(
    "--group",
    default=DEFAULT_GROUP,
    callback=filled,
    show_default=True,
    metavar="NAME",
    help="Runs of engines of this group, where no RUN is named.",
)
@click.option("--all-groups", is_flag=True, help="Of any group: also those that `stepflow run` left unfinished.")
@store_option
@click.pass_context
def command(
    ctx: click.Context,
    runs: tuple[str, ...],
    apps: tuple[str, ...],
    config: str | None,
    group: str,
    all_groups: bool,
    store: str | None,
) -> None:
    """Take over runs that nobody drives, and go on with them until they have ended.

    RUN is an id, the beginning of one, or `last`; without any, all unfinished runs of the group. Steps that were under
    way run again. Paused runs stay paused. Exit code 3 when an item failed.
    """
    place = named_place(store, config)
    refuse_missing(place)
    recovering = _Recovering(place, runs, None if all_groups else group)
    engine, _ = storing_engine(config, None, apps, place.location, observers=[recovering.totals])
    ctx.exit(anyio.run(recovering.run, engine))


class _Recovering:
    def __init__(self, place: Place, texts: Sequence[str], group: str | None) -> None:
        self._place = place
        self._texts = texts
        self._group = group
        self._reasons: set[str] = set()
        self._is_interrupted = False
        self._others = 0  # unfinished runs of other groups that could be taken over, where there are none of this one
        self._work: anyio.CancelScope | None = None  # set once the engine is open
        self.totals = Totals(on_wait=self._say_wait)

    async def run(self, engine: Engine) -> int:
        records: list[RunRecord] = []
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heed_interrupts, lambda: self._heed(tasks))
            try:
                with bar(self.totals, shown=is_wanted(results_on_stdout=False)):
                    records = await self._recover(engine)
            except Exception as error:  # noqa: BLE001  # raised below, without the task group around it
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return self._close(records)

    async def _heed(self, tasks: anyio.abc.TaskGroup) -> None:
        self._is_interrupted = True
        say("interrupted: stopping; what was done is stored; interrupt once more to stop at once")
        (self._work or tasks.cancel_scope).cancel()

    async def _recover(self, engine: Engine) -> list[RunRecord]:
        async with engine:
            with anyio.CancelScope() as self._work, muted("stepflow.run"):  # what runs wait for is said here
                chosen = await self._chosen(engine.backend)
                for record in chosen:
                    self.totals.follow(record)
                    await engine.recover(record.id)
                return [await (await engine.get_run(record.id)).wait() for record in chosen]
        return []

    async def _chosen(self, backend: Backend) -> list[RunRecord]:
        """Oldest first; what can't be gone on with is said."""
        if self._texts:
            run_ids = [await find_run(backend, text, self._place) for text in self._texts]
            found = [await _record(backend, run_id) for run_id in dict.fromkeys(run_ids)]
        else:
            unfinished = await _unfinished(backend)
            found = [record for record in unfinished if self._group in (None, record.group)]
            if not found:
                self._others = len([each for each in unfinished if await self._why_not(backend, each) is None])
        kept = []
        for record in sorted(found, key=lambda record: record.id):
            why = await self._why_not(backend, record)
            if why is None:
                kept.append(record)
            elif self._texts or not await driver_of(backend, record):
                say(f"left alone: run {record.id[:13]} {why}")
        return kept

    async def _why_not(self, backend: Backend, record: RunRecord) -> str | None:
        if record.status.is_terminal:
            return f"has ended ({record.status.value})"
        if record.parent is not None:
            return f"is part of run {record.root_id}, and goes on with it"
        if record.journal_format > JOURNAL_FORMAT:
            return "was begun by a newer version: pip install --upgrade stepflow-engine"
        driver = await driver_of(backend, record)
        if driver is not None:
            return f"goes on at {driver}"
        if record.status is RunStatus.PAUSED:
            return f"is paused; {self._place.line(f'stepflow runs resume {record.id[:13]}')}"
        if record.total is None:
            again = "type the line that began it again" if record.key is not None else "cancel it"
            return f"waits for inputs that only who began it can send: {again}"
        return None

    def _say_wait(self, run_id: RunId, event: StepWaiting) -> None:
        if event.reason not in self._reasons:
            self._reasons.add(event.reason)
            remedy = "; name its registry with --app" if _NOT_HERE in event.reason else ""
            say(f"run {run_id[:13]} waits: {event.reason}{remedy}")

    def _close(self, records: Sequence[RunRecord]) -> int:
        if self._is_interrupted:
            say(f"next: type the same line again to go on, or {self._place.line('stepflow runs list')}")
            return INTERRUPTED
        failed = sum(record.failed for record in records)
        if self._texts and not records:
            return COULD_NOT_RUN
        said = f"{plural(len(records), 'run')} recovered"
        say(f"{said}: {sum(record.succeeded for record in records):,} items succeeded, {failed:,} failed")
        if self._others:
            which = "1 unfinished run is" if self._others == 1 else f"{self._others:,} unfinished runs are"
            say(f"{which} of another group than {self._group!r}, and left alone: --all-groups takes over any")
        say(f"next: {self._place.line('stepflow runs list')}")
        return 0 if all(record.status is RunStatus.COMPLETED for record in records) and not failed else ITEM_FAILED


async def _record(backend: Backend, run_id: RunId) -> RunRecord:
    record = await backend.runs.get(run_id)
    if record is None:
        raise RunNotFoundError(run_id)
    return record


async def _unfinished(backend: Backend) -> list[RunRecord]:
    found: list[RunRecord] = []
    for status in (RunStatus.RUNNING, RunStatus.PAUSED):
        before: RunId | None = None
        while page := await backend.runs.list(status=status, roots_only=True, limit=_PAGE, before=before):
            found += page
            before = page[-1].id
    return found
