"""Workers' answers, whichever engine they come to."""

import logging
from enum import Enum

from stepflow.engine import Engine
from stepflow.errors import EngineClosedError, SecretKeyError, StoreUnavailableError
from stepflow.records import Outcome, RunId, TaskId
from stepflow_grpc.queues.records import Taken
from stepflow_grpc.queues.task_queues import TaskQueues

logger = logging.getLogger("stepflow.server")


class Verdict(Enum):
    """What a worker does with its answer."""

    RECORDED = "recorded"  # forget it
    AGAIN = "again"  # say it again in a moment: it could not be kept now
    NOBODY = "nobody"  # forget it: the step has finished, or there is no such task


class Answers:
    """Takes the answer to a task of any run. First `now`, at once; where that is in vain, `later`."""

    def __init__(self, engine: Engine, queues: TaskQueues) -> None:
        self._engine = engine
        self._queues = queues

    def now(
        self, task_id: TaskId, outcome: Outcome, *, attempt: int | None = None, worker_id: str | None = None
    ) -> bool:
        """Give an answer to whoever waits for it here. False: nobody does."""
        return self._queues.complete(task_id, outcome, attempt=attempt, worker_id=worker_id) is not Taken.UNKNOWN

    async def later(self, run_id: RunId, task_id: TaskId, outcome: Outcome, *, attempt: int | None = None) -> Verdict:
        """Keep an answer that nobody here waits for: in its run, or where the engine finds it that drives the run."""
        if not run_id:
            return Verdict.NOBODY
        try:
            is_kept = await self._engine.answer(run_id, task_id, outcome, attempt=attempt)
        except (StoreUnavailableError, SecretKeyError, EngineClosedError) as error:
            logger.warning("the answer to task %s of run %s can't be kept now: %s", task_id, run_id, error)
            return Verdict.AGAIN
        return Verdict.RECORDED if is_kept else Verdict.NOBODY
