"""Runs that workers submitted on behalf of others without saying for which step: they are cancelled with them."""

import asyncio
import logging

from stepflow.engine import Engine
from stepflow.errors import StepflowError
from stepflow.records import RunId, RunStatus

logger = logging.getLogger("stepflow.server")


class Followers:
    """Such a run is a root of its own: it has slots of its own and may outlive the run it was submitted for, as with
    the reference server. A server that ends forgets who followed whom."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._followers: dict[RunId, dict[RunId, None]] = {}
        self._watches: dict[asyncio.Task[None], None] = {}

    def follow(self, run_id: RunId, root_id: RunId) -> None:
        """Cancel a run when that root is."""
        if root_id in self._followers:
            self._followers[root_id][run_id] = None
            return
        self._followers[root_id] = {run_id: None}
        watch = asyncio.create_task(self._watch(root_id))
        self._watches[watch] = None
        watch.add_done_callback(lambda done: self._watches.pop(done, None))

    async def close(self) -> None:
        watches = list(self._watches)
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, root_id: RunId) -> None:
        try:
            record = await (await self._engine.get_run(root_id)).wait()
            followers = list(self._followers[root_id]) if record.status is RunStatus.CANCELLED else []
            for run_id in followers:
                await self._engine.cancel(run_id)
        except StepflowError as error:
            logger.warning("runs that were submitted for run %s are not looked after any more: %s", root_id, error)
        finally:
            del self._followers[root_id]
