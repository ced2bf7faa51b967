"""What a worker says of single tasks through `stepflow.v1`: it claims them, beats for them, and answers them."""

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from stepflow.protocols import Chance, Clock
from stepflow.records import ComponentInfo, ErrorCode, Failed, Json, Outcome, TaskId
from stepflow_grpc.messages import NUMBERS, new
from stepflow_grpc.queues.records import Taken
from stepflow_grpc.wire import complete, component_message
from stepflow_grpc.worker.calls import CallFailed, Calls, Code, is_passing, is_too_large
from stepflow_grpc.worker.link import Desk, Given
from stepflow_grpc.worker.pauses import Pauses

logger = logging.getLogger("stepflow.worker")

CLAIMED_WITHIN_S = 60.0
"""How long a claim is repeated while its run is on the way to another engine."""

KEPT_S = 3_600.0
"""How long an answer is repeated; a server that was away for longer has the task done again."""

_ALREADY_CLAIMED = NUMBERS["TASK_STATUS_ALREADY_CLAIMED"]


class Callbacks:
    """Unary calls about tasks, repeated until a server has said something that lasts. They outlive streams."""

    def __init__(
        self,
        calls: Calls,
        clock: Clock,
        chance: Chance,
        *,
        start: Callable[[Coroutine[Any, Any, None]], object],
        others: Callable[[], Sequence[str]],
    ) -> None:
        """
        Args:
            start: begins what goes on by itself, and must not fail.
            others: further orchestrators, which may know where a run has gone.
        """
        self._calls = calls
        self._clock = clock
        self._chance = chance
        self._start = start
        self._others = others
        self._saying: dict[TaskId, tuple[Given, Outcome]] = {}

    async def claim(self, given: Given, worker_id: str) -> bool:
        """Whether the task is this worker's to do."""
        pauses, until = Pauses(self._chance), self._clock.now() + CLAIMED_WITHIN_S
        while self._clock.now() < until:
            try:
                answer = await self._calls.call(given.url, *_HEARTBEAT, heartbeat(given, worker_id))
            except CallFailed as error:
                if not is_passing(error):
                    logger.info("task %s is not claimed: %s", given.id, error.details())
                    return False
                await self._clock.sleep(pauses.next())
                continue
            return not (answer.should_abort or answer.status == _ALREADY_CLAIMED)
        logger.warning("task %s is not claimed: %s did not answer for %d s", given.id, given.url, CLAIMED_WITHIN_S)
        return False

    def answer(self, given: Given, outcome: Outcome, desk: Desk) -> None:
        """Say it until it is acknowledged."""
        is_saying = given.id in self._saying
        self._saying[given.id] = given, outcome
        if not is_saying:
            self._start(self._say(given.id, desk))

    async def _say(self, task_id: TaskId, desk: Desk) -> None:
        pauses, until = Pauses(self._chance), self._clock.now() + KEPT_S
        url: str | None = None
        try:
            while self._clock.now() < until:
                given, outcome = self._saying[task_id]
                taken = await self._taken(url or given.url, given, outcome)
                if self._saying[task_id][0] is not given:  # the verdict is of the attempt before
                    url = None
                    continue
                match taken:
                    case Taken.ACCEPTED:
                        desk.acknowledged(task_id, given.task.attempt)
                        return
                    case Taken.UNKNOWN:
                        desk.unwanted(task_id)
                        return
                await self._clock.sleep(pauses.next())
                url = await self._calls.owner_of(given.task.run_id, asked=(given.url, *self._others()))
            logger.warning("the answer to task %s is forgotten: no server took it for %d s", task_id, KEPT_S)
            desk.acknowledged(task_id)
        finally:
            del self._saying[task_id]

    async def _taken(self, url: str, given: Given, outcome: Outcome) -> Taken | None:
        """What came of saying it once; None: say it again."""
        request = complete(given.id, given.task.run_id, outcome)
        try:
            await self._calls.call(url, *_COMPLETE, request)
        except CallFailed as error:
            if is_too_large(error):
                self._saying[given.id] = self._saying[given.id][0], _too_large(request.ByteSize())
            elif error.code() in _FINAL:
                logger.info("nobody takes the answer to task %s: %s", given.id, error.details())
                return Taken.UNKNOWN
            else:
                logger.info("the answer to task %s is said again: %s", given.id, error.details())
            return None
        return Taken.ACCEPTED

    def progress(self, given: Given, worker_id: str, value: Json) -> None:
        """Say once how far a task is: a share from 0 to 1 as such, anything else in words or as JSON text."""
        request = heartbeat(given, worker_id)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
            request.progress = value
        else:
            request.status_message = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        self._start(self._tell(given, request))

    async def _tell(self, given: Given, request: Any) -> None:
        try:
            await self._calls.call(given.url, *_HEARTBEAT, request, timeout_s=5.0)
        except CallFailed as error:
            logger.debug("the progress of task %s is not heard: %s", given.id, error.details())

    def introduce(self, task_id: str, url: str, components: Sequence[ComponentInfo]) -> None:
        """Answer the question which components there are. It is asked again, so that no answer has to arrive."""
        self._start(self._introduce(task_id, url, components))

    async def _introduce(self, task_id: str, url: str, components: Sequence[ComponentInfo]) -> None:
        request: Any = new("CompleteTaskRequest", task_id=task_id)
        request.list_components.components.extend(component_message(info) for info in components)
        try:
            await self._calls.call(url, *_COMPLETE, request, timeout_s=5.0, waits=True)
        except CallFailed as error:
            if error.code() is not Code.NOT_FOUND:
                logger.warning("%s did not take the list of components: %s", url, error.details())


_FINAL = frozenset({Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.UNIMPLEMENTED})
"""How a server says that it will never take an answer."""

_HEARTBEAT = ("OrchestratorService", "TaskHeartbeat")
_COMPLETE = ("OrchestratorService", "CompleteTask")


def heartbeat(given: Given, worker_id: str) -> Any:
    run_id = given.task.run_id or None
    return new("TaskHeartbeatRequest", task_id=given.id, worker_id=worker_id, run_id=run_id)


def _too_large(size: int) -> Outcome:
    text = (
        f"the answer takes {size:,} bytes, which is more than the server takes in a message: put large parts into "
        "blobs (ctx.put_blob) and give their ids, or set STEPFLOW_BLOB_THRESHOLD_BYTES"
    )
    return Failed(ErrorCode.WORKER_ERROR, text, may_retry=False)
