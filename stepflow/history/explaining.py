"""Why a run stands still, asked of a store."""

from stepflow.history.explanation import Explanation
from stepflow.protocols import Backend
from stepflow.records import RunId


async def explain(
    backend: Backend,
    run_id: RunId,
    *,
    now: float,
    default_concurrency: int | None = None,
    lease_ttl_s: float = 6.0,
) -> Explanation:
    """Where a run stands and what keeps it from going on, the most important first.

    Reads what recovery would read, not the whole journal.

    Args:
        now: seconds since the epoch, by the clock that the run's engine writes with.
        default_concurrency: slots of a run that was submitted without a number of its own. None: not known.
        lease_ttl_s: of the engines that share the store.

    Raises:
        RunNotFoundError: no run has this id.
        StoreError: the store could not be read.
    """
    raise NotImplementedError
