"""From a store to a run's history: the journal is read page by page, and only figures are kept."""

from stepflow.history.records import History
from stepflow.protocols import Backend
from stepflow.records import RunId


async def read_history(backend: Backend, run_id: RunId) -> History:
    """What a run did, as its record, its flow and every event that is still kept tell it.

    Needs no engine, and room for the items that are under way, whatever their number in all.

    Raises:
        RunNotFoundError: no run has this id.
        StoreError: the store could not be read.
    """
    raise NotImplementedError
