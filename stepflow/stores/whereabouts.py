"""Where the blobs of a group's runs are kept, noted beside the runs: all engines of the group must agree on it, since
they take over each other's runs. `stepflow run`, whose runs are a group of their own, may keep them elsewhere.

A store of blobs finds content by an id that is the content's own, and the first name that a content was given stays. So
one fixed content, under a name that was drawn, says which store of blobs this is, wherever it is mounted; and notes
that are numbered, each written once, say by that name which one belongs to the runs: the last of them counts.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

from stepflow.errors import StoreError
from stepflow.protocols import Blobs, BlobStore
from stepflow.records import DEFAULT_GROUP, BlobType, EngineRecord, blob_id

logger = logging.getLogger("stepflow.engine")

BESIDE = "beside the runs"
MARK = b"The name of this content says which store of blobs it is in."


class Whereabouts:
    """What is noted beside the runs, and the store of blobs that this engine has. None: they are beside the runs."""

    def __init__(self, beside: Blobs, store: BlobStore | None) -> None:
        self._beside = beside
        self._store = store
        self._group = DEFAULT_GROUP

    async def agree(self, group: str, drawn: str, others: Callable[[], Awaitable[Sequence[EngineRecord]]]) -> None:
        """Make sure that the other engines have their blobs where this one has its own, and note where that is.

        Args:
            group: whose runs these are.
            drawn: what no store of blobs is called yet.
            others: the other engines of the group that are alive.

        Raises:
            StoreError: others are alive and have noted another place: each would miss what the other puts.
        """
        self._group = group
        here = await self._name(drawn)
        number, noted = await self._last()
        if noted == here:
            return
        engines = await others()
        if engines and number:
            raise _apart(here, noted, engines)
        if noted != BESIDE:  # what is there is found in any case
            logger.warning(
                "the blobs of these runs are %s now and were %s before: steps of unfinished runs that need one from "
                "there fail, unless its files are brought along",
                here,
                noted,
            )
        await self._beside.put(self._note(number + 1), BlobType.BINARY, filename=here)
        _, noted = await self._last()
        if noted != here:  # somebody else was faster
            raise _apart(here, noted, await others())
        if engines:  # perhaps they have begun at this moment too
            logger.warning("blobs are kept %s: give the other engines (%s) the same", here, _names(engines))

    async def keep(self) -> None:
        """Have what is noted not deleted as something that nobody has used for long."""
        await self._last()
        if self._store is not None:
            await self._store.blobs.get(blob_id(MARK))

    async def _name(self, drawn: str) -> str:
        if self._store is None:
            return BESIDE
        blobs, is_shown = self._store.blobs, type(self._store).__str__ is not object.__str__
        where = self._store if is_shown else type(self._store).__name__
        if await blobs.get(blob_id(MARK)) is None:
            await blobs.put(MARK, BlobType.BINARY, filename=f"in {where} ({drawn} of {socket.gethostname()})")
        mark = await blobs.get(blob_id(MARK))
        if mark is None or mark.filename is None:
            raise StoreError("the store of blobs does not give back what was put into it, with its name")
        return mark.filename

    async def _last(self) -> tuple[int, str]:
        number, place = 0, BESIDE
        while (note := await self._beside.get(blob_id(self._note(number + 1)))) is not None:
            number, place = number + 1, note.filename or BESIDE
        return number, place

    def _note(self, number: int) -> bytes:
        text = (
            f"The name of this content says where the blobs of the runs of group {self._group!r} are (note {number})."
        )
        return text.encode()


def _apart(here: str, noted: str, engines: Sequence[EngineRecord]) -> StoreError:
    return StoreError(
        f"this engine keeps blobs {here}, and the other engines of its group ({_names(engines)}) have them {noted}: "
        "each would miss what the other puts; give all of them the same blobs, or close the others first"
    )


def _names(engines: Sequence[EngineRecord]) -> str:
    return ", ".join(f"{engine.name} at {engine.place}" for engine in engines)
