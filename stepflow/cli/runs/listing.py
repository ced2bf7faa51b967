"""`stepflow runs list`."""

from collections.abc import AsyncIterator

import anyio
import click

from stepflow.cli.failure import say, tell
from stepflow.cli.options import examples
from stepflow.cli.place import Place, short_id
from stepflow.cli.runs.options import json_option, place_options
from stepflow.cli.runs.place import asked_place, opened
from stepflow.cli.runs.rows import HEADS, as_json, json_line, now_s, owner_of, row_of
from stepflow.cli.tables import tell_table
from stepflow.protocols import Backend
from stepflow.records import RunRecord, RunStatus

_PAGE = 100


@click.command("list", epilog=examples("stepflow runs list --store runs.db --status running"))
@click.option("--status", type=click.Choice([status.value for status in RunStatus]), help="Only runs in this state.")
@click.option("--flow", metavar="NAME", help="Only runs of flows that name themselves so.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option("--all", "all_runs", is_flag=True, help="All of them, whatever --limit says.")
@json_option("a JSON object a line")
@place_options
def command(
    status: str | None,
    flow: str | None,
    limit: int,
    all_runs: bool,
    as_json: bool,
    store: str | None,
    config: str | None,
    url: str | None,
) -> None:
    """List runs, the newest first.

    AGE is counted from the submission, TOOK up to the end or until now. OWNER is the engine that drives the run.
    """
    place = asked_place(store, config, url)
    listing = _Listing(place, None if status is None else RunStatus(status), flow, None if all_runs else limit)
    anyio.run(listing.tell_json if as_json else listing.tell_rows)


class _Listing:
    def __init__(self, place: Place, status: RunStatus | None, flow: str | None, limit: int | None) -> None:
        self._place = place
        self._status = status
        self._flow = flow
        self._limit = limit

    @property
    def _is_short(self) -> bool:
        """Whether there are so few that looking for the shortest beginning of each id is quick."""
        return self._limit is not None and self._limit <= _PAGE

    async def tell_json(self) -> None:
        async with opened(self._place) as backend:
            async for record in self._records(backend):
                tell(json_line(as_json(record, await owner_of(backend, record))))

    async def tell_rows(self) -> None:
        now, rows = now_s(), []
        async with opened(self._place) as backend:
            async for record in self._records(backend):
                short = await short_id(backend, record.id) if self._is_short else record.id
                rows.append(row_of(record, short, await owner_of(backend, record), now))
        if not rows:
            asked = self._status is not None or self._flow is not None
            say(f"no runs{' that match' if asked else ''} {self._place.where}")
            return
        tell_table(HEADS, rows, numbers=("ITEMS", "FAILED", "AGE", "TOOK"), texts=("OWNER",))
        say(f"next: {self._place.line(f'stepflow runs show {rows[0][0]}')}")

    async def _records(self, backend: Backend) -> AsyncIterator[RunRecord]:
        before, left = None, self._limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            page = await backend.runs.list(
                status=self._status, flow_name=self._flow, roots_only=True, limit=size, before=before
            )
            for record in page:
                yield record
            if len(page) < size:
                return
            before = page[-1].id
            left = None if left is None else left - len(page)
