"""Where workers pull tasks from."""

from collections.abc import AsyncIterator, Sequence
from itertools import count
from typing import Any

import anyio

from stepflow.engine import Engine
from stepflow.protocols import Chance
from stepflow.records import ComponentInfo, Failed, RunId
from stepflow_grpc.messages import new
from stepflow_grpc.plugin import Hub
from stepflow_grpc.queues.records import Discovery, QueuedTask, QueueNotFoundError, Withdrawn
from stepflow_grpc.queues.stream import Stream
from stepflow_grpc.refusals import CallError, Code, invalid, not_found, run_id_of
from stepflow_grpc.services.widths import Widths, unfit
from stepflow_grpc.wire import UnfitError, assignment, components_of, discovery

DISCOVERY = "discovery-"
"""How the ids of questions begin."""


class Discoveries:
    """Questions which components a worker has, and what comes of the answers.

    Args:
        site: what tells the questions of this server from those of others, to whom an answer may come.
    """

    def __init__(self, hub: Hub, site: str = "here") -> None:
        self._hub = hub
        self._site = site
        self._numbers = count(1)
        self._asked: dict[str, tuple[str, str]] = {}
        self._connected: dict[str, dict[str, int]] = {}  # by queue: workers and how many streams they have open

    def ask(self, queue: str, worker_id: str) -> Discovery:
        question = Discovery(f"{DISCOVERY}{self._site}-{next(self._numbers)}")
        self._asked[question.id] = (queue, worker_id)
        self.joined(queue, worker_id)
        return question

    def joined(self, queue: str, worker_id: str) -> None:
        """A stream of a worker is open."""
        workers = self._connected.setdefault(queue, {})
        workers[worker_id] = workers.get(worker_id, 0) + 1

    def gone(self, question: Discovery, queue: str, worker_id: str) -> None:
        """The stream on which this was asked is closed."""
        self._asked.pop(question.id, None)
        self.left(queue, worker_id)

    def left(self, queue: str, worker_id: str) -> None:
        """A stream of a worker is closed."""
        workers = self._connected[queue]
        workers[worker_id] -= 1
        if not workers[worker_id]:
            del workers[worker_id]

    def is_asked(self, id: str) -> bool:
        """Whether the answer to this question is still waited for."""
        return id in self._asked

    def answered(self, id: str, result: Any) -> bool:
        """Learn what a worker lists. False: nobody asked, or no longer."""
        asked = self._asked.pop(id, None)
        if asked is None:
            return False
        self.learn(*asked, components_of(result))
        return True

    def learn(self, queue: str, worker_id: str, components: Sequence[ComponentInfo]) -> None:
        """A connected worker says what it has."""
        present = [*self._connected[queue], *self._hub.queues.left_lately(queue)]
        self._hub.catalogue.learn(queue, worker_id, components, present)


class TasksService:
    """Gives workers their tasks."""

    def __init__(self, engine: Engine, hub: Hub, discoveries: Discoveries, chance: Chance) -> None:
        self._engine = engine
        self._hub = hub
        self._discoveries = discoveries
        self._chance = chance
        self._streams: dict[Stream, None] = {}
        self._is_closing = False
        self._widths = Widths()
        self.url = ""  # where workers call back, as host:port; known once the port is

    def close(self) -> None:
        """End every stream, and begin none: workers connect to another server, or again."""
        self._is_closing = True
        for stream in list(self._streams):
            stream.disconnect()

    async def PullTasks(self, request: Any) -> AsyncIterator[Any]:
        queue = request.queue_name
        if not queue:
            raise invalid("queue_name must not be empty")
        if self._is_closing:
            raise _closing()
        worker_id = request.worker_id or f"unnamed-{self._id()}"
        known_as = request.worker_id or f"unnamed of queue {queue}"
        try:
            stream = self._hub.queues.connect(queue, request.worker_id)  # of one without a name they learn it later
        except QueueNotFoundError:
            raise not_found("queue", queue) from None
        question = self._discoveries.ask(queue, worker_id)
        stream.tell(question)
        self._streams[stream] = None
        try:
            while True:
                pulled = await stream.next()
                if isinstance(pulled, Discovery):
                    yield discovery(pulled.id, url=self.url)
                elif isinstance(pulled, QueuedTask):
                    message, refusal = self._checked(pulled, worker_id, known_as)
                    if refusal is None:
                        yield message
                    else:
                        stream.refuse(pulled.id, refusal)
                else:
                    assert isinstance(pulled, Withdrawn)  # such workers can't be told
        except anyio.EndOfStream:
            raise _closing() from None
        finally:
            del self._streams[stream]
            self._widths.broke(known_as, map(self._assignment, stream.unclaimed()))
            stream.disconnect()
            self._discoveries.gone(question, queue, worker_id)

    def _checked(self, queued: QueuedTask, worker_id: str, known_as: str) -> tuple[Any, Failed | None]:
        """A task as a message, and why it can't go to this worker."""
        lacking = self._hub.catalogue.lacks(queued.queue, worker_id, queued.task.target)
        if lacking is not None:
            return None, lacking
        try:
            message = self._assignment(queued)
        except UnfitError as error:
            return None, unfit(queued.task, error)
        return message, self._widths.refusal(known_as, message)

    def _assignment(self, queued: QueuedTask) -> Any:
        task = queued.task
        trace_id = task.root_run_id.replace("-", "")
        return assignment(task, url=self.url, trace_id=trace_id, span_id=self._id()[-16:], task_id=queued.id)

    def _id(self) -> str:
        return self._chance.run_id(0.0).replace("-", "")

    async def GetOrchestratorForRun(self, request: Any) -> Any:
        run_id: RunId = run_id_of(request.run_id)
        record = await self._engine.backend.runs.get(run_id)
        if record is None or record.status.is_terminal:
            raise not_found("run lease", run_id)
        owned = await self._engine.backend.owners.ownership(record.id)
        if owned is None or owned.engine is None:
            raise CallError(Code.UNAVAILABLE, f"run {run_id} is being taken over; ask again")
        url = self.url if owned.owner == self._engine.owner else owned.engine.url
        if url is None:
            raise CallError(Code.UNAVAILABLE, f"run {run_id} is driven by engine {owned.engine.name}, which has no URL")
        return new("GetOrchestratorForRunResponse", orchestrator_service_url=url)


def _closing() -> CallError:
    return CallError(Code.UNAVAILABLE, "the server is closing; connect again")
