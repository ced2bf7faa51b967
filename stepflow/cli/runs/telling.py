"""`stepflow runs events`."""

import sys
from collections.abc import Iterator

import anyio
import click
import msgspec

from stepflow.cli.failure import say, tell
from stepflow.cli.options import examples
from stepflow.cli.place import Place, short_id
from stepflow.cli.runs.options import json_option, place_options, run_argument
from stepflow.cli.runs.place import asked_place, find_run, opened
from stepflow.cli.runs.rows import json_line
from stepflow.cli.runs.words import event_line
from stepflow.errors import RunNotFoundError
from stepflow.execution.events import Event, decode_events, event_to_json
from stepflow.execution.references import shown
from stepflow.history.kept import read_flow_blob
from stepflow.protocols import Backend, ended_topic
from stepflow.records import Entries, RunId, RunRecord

_PATIENCE_S = 0.2
_ROWS = 64


@click.command("events", epilog=examples("stepflow runs events last --follow --store runs.db"))
@run_argument
@click.option("--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--item", type=click.IntRange(min=0), metavar="N", help="Only those of one item.")
@json_option("a JSON object a line")
@place_options
def command(
    run: str, follow: bool, item: int | None, as_json: bool, store: str | None, config: str | None, url: str | None
) -> None:
    """Print the events of a run, the oldest first: what happened, as it was stored.

    RUN is an id, the beginning of one, or `last`. With --follow, new ones come as they are stored.
    """
    anyio.run(_tell, run, asked_place(store, config, url), _Asked(follow, item, as_json))


class _Asked(msgspec.Struct, frozen=True):
    is_followed: bool
    item: int | None
    is_json: bool


async def _tell(text: str, place: Place, asked: _Asked) -> None:
    async with opened(place) as backend:
        run_id = await find_run(backend, text, place)
        record = await _record(backend, run_id)
        flow = await read_flow_blob(backend.blobs, record.flow_id)
        teller = _Teller(asked, [] if flow is None else [step.id for step in flow.steps], record.is_sealed)
        with backend.signals.listen(ended_topic(run_id)) as news:
            while True:
                is_over = record.status.is_terminal or not asked.is_followed
                await teller.tell(backend, run_id)
                if is_over:
                    break
                await news.wait(_PATIENCE_S)
                record = await _record(backend, run_id)
        short = await short_id(backend, run_id)
    if not asked.is_json:
        say(f"next: {place.line(f'stepflow runs show {short}')}")


async def _record(backend: Backend, run_id: RunId) -> RunRecord:
    record = await backend.runs.get(run_id)
    if record is None:
        raise RunNotFoundError(run_id)
    return record


class _Teller:
    """Prints what was not printed before."""

    def __init__(self, asked: _Asked, steps: list[str], is_sealed: bool) -> None:
        self._asked = asked
        self._steps = steps
        self._is_sealed = is_sealed
        self._position = 0

    async def tell(self, backend: Backend, run_id: RunId) -> None:
        while rows := await backend.journal.history(run_id, after=self._position, limit=_ROWS, item=self._asked.item):
            for row in rows:
                for position, event in self._new(row):
                    self._tell_one(position, event)
                self._position = row.first + row.count - 1
        sys.stdout.flush()

    def _new(self, row: Entries) -> Iterator[tuple[int, Event]]:
        for position, event in enumerate(decode_events(row.payload), row.first):
            if position > self._position:
                yield position, event

    def _tell_one(self, position: int, event: Event) -> None:
        if self._asked.item is not None and getattr(event, "item", self._asked.item) != self._asked.item:
            return
        if self._asked.is_json:
            told = {"position": position, **event_to_json(event)}
            tell(json_line(shown(told) if self._is_sealed else told))
        else:
            tell(event_line(event, self._steps))
