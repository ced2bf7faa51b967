"""Tasks that any engine's workers may do."""

import anyio
import msgspec

from stepflow.protocols import Clock, Exchange
from stepflow.records import Offer, Outcome
from stepflow_grpc.queues.answer import unpack_answer
from stepflow_grpc.queues.catalogue import Catalogue
from stepflow_grpc.queues.credit import HERE, UNTAKEN, OwnCredit
from stepflow_grpc.queues.entry import Entry
from stepflow_grpc.queues.records import QueuedTask, Waiting
from stepflow_grpc.queues.task_queues import TaskQueues


class Sharing:
    """Offers the tasks of this engine to its own workers and, where none is free, to those of others."""

    def __init__(self, queues: TaskQueues, exchange: Exchange, clock: Clock, catalogue: Catalogue) -> None:
        self._queues = queues
        self._catalogue = catalogue
        self._exchange = exchange
        self._clock = clock

    async def offer(self, queued: QueuedTask, waiting: Waiting) -> Outcome:
        """Have a task done by a worker of this engine or of another.

        Where no engine seems to have a worker, one task of the queue stays on offer and the others wait for its luck.
        """
        entry = self._queues.enter(queued)
        queue = entry.queue
        outcome: Outcome | None = None
        try:
            if queued.task.was_cut_off:
                await self._queues.settle(entry)
            while outcome is None:
                if entry.is_over or entry.is_claimed or self._queues.absence.is_served_somewhere(queue):
                    outcome = await self._exchanged(entry)
                else:
                    async with waiting(queued.task, queue.unserved):
                        outcome = await self._unserved(entry)
            return outcome
        finally:
            self._queues.leave(entry)

    async def _exchanged(self, entry: Entry) -> Outcome | None:
        """None: nobody took it."""
        queued = entry.queued
        offer = Offer(
            task_id=queued.id,
            attempt=queued.task.attempt,
            run_id=queued.task.run_id,
            queue=queued.queue,
            body=msgspec.json.encode(queued.task),
        )
        is_for_others = self._catalogue.is_only_elsewhere(queued.queue, queued.task.target)
        credit = OwnCredit(self._queues, entry, self._clock, is_for_others=is_for_others)
        body = UNTAKEN
        with anyio.CancelScope() as entry.scope:
            body = await self._exchange.perform(offer, credit, credit.work)
        entry.scope = None
        if body == UNTAKEN:
            return entry.outcome
        if body == HERE:
            return credit.outcome
        self._queues.absence.note_served_elsewhere(entry.queue)
        outcome, ran_s = unpack_answer(body)
        if queued.note_queued is not None and ran_s is not None:
            queued.note_queued(queued.task, max(0.0, self._queues.age_s(entry) - ran_s))
        return outcome

    async def _unserved(self, entry: Entry) -> Outcome | None:
        """None: a worker of some engine serves the queue by now, or another reason is known why none does."""
        queue = entry.queue
        reason = queue.unserved
        try:
            while not (entry.is_over or entry.is_claimed or self._queues.absence.is_served_somewhere(queue)):
                if queue.unserved != reason:
                    return None
                if queue.prober is None:
                    queue.prober = entry
                if queue.prober is not entry:
                    await entry.changed()
                elif (outcome := await self._exchanged(entry)) is not None:
                    return outcome
            return None
        finally:
            if queue.prober is entry:
                queue.prober = None
                queue.ring()
