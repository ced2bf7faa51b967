"""Submitting under a key that was used before: the same run goes on, or its results are given again."""

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from itertools import islice

import anyio.lowlevel

from stepflow.errors import InputInvalidError, Problem
from stepflow.execution.events import ItemsAdmitted, RunStarted, decode_events
from stepflow.execution.references import Opening
from stepflow.execution.submission import Prepared
from stepflow.protocols import Clock, Store
from stepflow.records import Json, RunId

CHUNK = 256
"""Inputs that are taken from an iterable at once."""

BLOCKING_S = 0.01
"""How long an iterable that is slow is read at a time: nothing else happens meanwhile on the event loop."""


class Source:
    """Inputs that are taken as they are wanted, from an iterable of either kind."""

    def __init__(self, inputs: Iterable[Json] | AsyncIterable[Json], clock: Clock) -> None:
        self._clock = clock
        self._failure: Exception | None = None
        self._asynchronous = aiter(inputs) if isinstance(inputs, AsyncIterable) else None
        self._plain = iter(()) if isinstance(inputs, AsyncIterable) else iter(inputs)

    async def take(self, most: int = CHUNK) -> Sequence[Json]:
        """Some of the next inputs, at least one; empty: there are no more."""
        if self._asynchronous is not None:
            async for input in self._asynchronous:
                return [input]
            return []
        await anyio.lowlevel.checkpoint()
        return self._some(most)

    def _some(self, most: int) -> list[Json]:
        """Some of the next inputs. What the iterable raises comes out once all that it gave before is taken."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        chunk: list[Json] = []
        try:
            for input in self._at_once(most):
                chunk.append(input)  # noqa: PERF402  # what came before an error is not lost
        except Exception as error:
            if not chunk:
                raise
            self._failure = error
        return chunk

    def _at_once(self, most: int) -> Iterator[Json]:
        begun = self._clock.now()
        for input in islice(self._plain, most):
            yield input
            if self._clock.now() - begun > BLOCKING_S:
                return

    async def __aiter__(self) -> AsyncGenerator[Json, None]:
        while chunk := await self.take():
            for input in chunk:
                yield input

    async def aclose(self) -> None:
        close = getattr(self._asynchronous, "aclose", None)
        if close is not None:
            await close()


async def journal_start(journal: Store, run_id: RunId, opening: Opening | None) -> RunStarted:
    """How a run was started. Raises: SecretKeyError, where its secrets can't be had here."""
    (row,) = await journal.read(run_id, limit=1)
    started = decode_events(row.payload)[0]
    assert isinstance(started, RunStarted)
    return started if opening is None else opening.opened(started)


def refuse_other_run(key: str, started: RunStarted, prepared: Prepared) -> None:
    """Raises: InputInvalidError, naming what differs from the run that has the key."""
    differing = [
        name
        for name, before, now in (
            ("flow", started.flow_id, prepared.plan.flow_id),
            ("variables", started.variables, prepared.given),
            ("overrides", started.overrides or None, prepared.overrides),
        )
        if before != now
    ]
    if differing:
        raise InputInvalidError([_other(key, started.run_id, f"its {' and '.join(differing)} differ")])


async def refuse_other_inputs(
    key: str,
    journal: Store,
    run_id: RunId,
    source: Source,
    admitted: int,
    *,
    is_closed: bool,
    opening: Opening | None = None,
) -> None:
    """Take as many inputs from the source as the run has, and hold them against what its journal keeps.

    Raises:
        InputInvalidError: an input differs, or there are fewer, or more than a run has that is `is_closed`.
    """
    stored = _Stored(journal, run_id, opening)
    count = 0
    while count < admitted:
        chunk = await source.take(min(CHUNK, admitted - count))
        if not chunk:
            raise InputInvalidError([_other(key, run_id, f"it has {admitted} inputs, not {count}")])
        for offset, input in enumerate(chunk):
            kept = await stored.at(count + offset)
            if kept is not None and kept[0] != input:
                raise InputInvalidError([_other(key, run_id, f"its input {count + offset} differs")])
        count += len(chunk)
    if is_closed and await source.take(1):
        raise InputInvalidError([_other(key, run_id, f"it has {admitted} inputs, and here are more")])


def _other(key: str, run_id: RunId, why: str) -> Problem:
    return Problem(
        message=f"the key {key!r} belongs to run {run_id}, and {why}",
        remedy="take another key, or start over with new=True",
    )


async def stored_inputs(journal: Store, run_id: RunId) -> AsyncGenerator[ItemsAdmitted, None]:
    """The inputs that a journal keeps, oldest first."""
    position = 0
    while rows := await journal.read(run_id, after=position, limit=16):
        for row in rows:
            position = row.first + row.count - 1
            for event in decode_events(row.payload):
                if isinstance(event, ItemsAdmitted):
                    yield event


class _Stored:
    """The inputs that a journal keeps, read forward a page at a time."""

    def __init__(self, journal: Store, run_id: RunId, opening: Opening | None) -> None:
        self._journal = journal
        self._run_id = run_id
        self._opening = opening
        self._position = 0
        self._chunks: deque[ItemsAdmitted] = deque()
        self._is_done = False

    async def at(self, index: int) -> tuple[Json] | None:
        """The input of an item, boxed; None where it is no longer kept. Asked for in rising order."""
        while True:
            while self._chunks and index >= self._chunks[0].first + len(self._chunks[0].inputs):
                self._chunks.popleft()
            if self._chunks or self._is_done:
                break
            await self._read_on()
        if not self._chunks or index < self._chunks[0].first:
            return None
        return (self._chunks[0].inputs[index - self._chunks[0].first],)

    async def _read_on(self) -> None:
        rows = await self._journal.read(self._run_id, after=self._position, limit=16)
        self._is_done = not rows
        for row in rows:
            self._position = row.first + row.count - 1
            for event in decode_events(row.payload):
                if isinstance(event, ItemsAdmitted):
                    self._chunks.append(event if self._opening is None else self._opening.opened(event))
