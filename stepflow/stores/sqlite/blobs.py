"""Content in a SQLite file, by its id."""

from stepflow.protocols import Clock
from stepflow.records import Blob, BlobId, BlobType
from stepflow.records import blob_id as content_id
from stepflow.stores.sqlite.faults import damaged
from stepflow.stores.sqlite.file import SqliteFile
from stepflow.stores.sqlite.statements import statement

TOUCH_AFTER_S = 3_600.0
"""A use of a blob is noted when the last note is older than this."""

_TYPES = frozenset(BlobType)


class SqliteBlobs:
    """Blobs beside the runs. Nothing counts who refers to one, so each notes when it was last used."""

    def __init__(self, file: SqliteFile, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    async def put(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        id, now = content_id(content), self._clock.now()
        found = await self._file.ask(lambda conn: conn.execute(statement("touched_blob"), (id,)).fetchone())
        if found is None or found[0] < now - TOUCH_AFTER_S:
            row = (id, type, filename, bytes(content), now)
            await self._file.write(lambda conn: conn.execute(statement("put_blob"), row))
        return id

    async def get(self, blob_id: BlobId) -> Blob | None:
        found = await self._file.ask(lambda conn: conn.execute(statement("get_blob"), (blob_id,)).fetchone())
        if found is None:
            return None
        content, type, filename, touched_at = found
        if not isinstance(content, bytes) or content_id(content) != blob_id or type not in _TYPES:
            raise damaged(self._file.path, f"the blob {blob_id} is not what was written")
        now = self._clock.now()
        if (touched_at or 0.0) < now - TOUCH_AFTER_S and not self._file.is_reader:
            await self._file.write(lambda conn: conn.execute(statement("touch_blob"), (now, blob_id)))
        return Blob(blob_id, content, BlobType(type), filename)
