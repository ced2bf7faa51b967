"""Content in PostgreSQL, by its id."""

from stepflow.errors import StoreError
from stepflow.protocols import Clock
from stepflow.records import Blob, BlobId, BlobType
from stepflow.records import blob_id as content_id
from stepflow_postgres.connection import Database
from stepflow_postgres.escape import escaped, plain

TOUCH_AFTER_S = 3_600.0
"""A use of a blob is noted when the last note is older than this."""


class PostgresBlobs:
    """Blobs beside the runs. Nothing counts who refers to one, so each notes when it was last used."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def put(self, content: bytes, type: BlobType = BlobType.DATA, *, filename: str | None = None) -> BlobId:
        id, now = content_id(content), self._clock.now()
        found = await self._database.ask("touched_blob", {"id": id})
        if not found or found[0][0] < now - TOUCH_AFTER_S:
            name = None if filename is None else escaped(filename)
            given = {"id": id, "type": type.value, "filename": name, "content": bytes(content), "now": now}
            await self._database.write("put_blob", given)
        return id

    async def get(self, blob_id: BlobId) -> Blob | None:
        found = await self._database.ask("get_blob", {"id": escaped(blob_id)})
        if not found:
            return None
        content, type, filename, touched_at = found[0]
        if content_id(content) != blob_id:
            raise StoreError(f"{self._database.shown}: the blob {blob_id} is damaged; restore the database from a copy")
        now = self._clock.now()
        if touched_at < now - TOUCH_AFTER_S:
            await self._database.write("touch_blob", {"id": blob_id, "now": now})
        return Blob(blob_id, content, BlobType(type), None if filename is None else plain(filename))
