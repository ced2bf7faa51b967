"""Queues that no worker serves: how long that is so, why, and whether another engine has one."""

import logging
from collections.abc import Callable

from stepflow_grpc.queues.queue import WARNED_AFTER_S, Queue, QueueDeadlines

TRUSTED_S = 12.0
"""How long a queue counts as served after another engine was seen to take a task of it."""

logger = logging.getLogger("stepflow.queues")


class Absence:
    """Warns of queues that somebody waits for."""

    def __init__(self, deadlines: QueueDeadlines) -> None:
        self._deadlines = deadlines
        self.warned_of: Callable[[str], None] = lambda queue: None  # told of a queue that has had no worker for long

    def note(self, queue: Queue) -> None:
        """Somebody waits for a worker of a queue, if it has none."""
        if not queue.is_served and queue.lacks_since is None:
            queue.lacks_since = self._deadlines.now()
            self._deadlines.set(queue, queue.lacks_since + WARNED_AFTER_S)

    def look(self, queue: Queue) -> None:
        """Warn, if it has been long."""
        if queue.lacks_since is None or queue.is_warned_of:
            return
        queue.lacks_since = max(queue.lacks_since, queue.served_elsewhere_until - TRUSTED_S)
        warned_at = queue.lacks_since + WARNED_AFTER_S
        if self._deadlines.now() < warned_at:
            self._deadlines.set(queue, warned_at)
            return
        queue.lacks_since = None
        if queue.is_served or not (queue.unclaimed or queue.is_wanted):
            return
        queue.is_warned_of = True
        waiting = f"{len(queue.unclaimed)} tasks wait in it" if queue.unclaimed else "steps wait for one"
        logger.warning("%s, and %s", queue.unserved, waiting)
        queue.ring()
        self.warned_of(queue.name)

    def is_served_somewhere(self, queue: Queue) -> bool:
        """Whether a worker of this engine serves a queue, or another engine took a task of it lately."""
        return queue.is_served or queue.served_elsewhere_until > self._deadlines.now()

    def note_served_elsewhere(self, queue: Queue) -> None:
        """Another engine has taken a task."""
        was_served = self.is_served_somewhere(queue)
        queue.served_elsewhere_until = self._deadlines.now() + TRUSTED_S
        queue.is_warned_of = False
        self.note(queue)
        if not was_served:
            queue.ring()
