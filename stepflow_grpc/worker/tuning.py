"""How many slots a worker gives itself, where it is told to find out."""

import msgspec

FIRST = 4
MOST = 100

LATE_S = 0.25
"""An event loop that comes so late has too much to do."""

SHORT_OF_MEMORY = 0.9
"""Of what the process may have, or of the machine's."""

_BETTER = 1.05  # what more slots have to be worth
_TASKS_A_SLOT = 2  # have to end before a number of slots is judged, so that long tasks count as well as short ones
_SHORTEST_S = 2.0
_RESTS = 5  # judgements without a trial after one that was in vain


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen since the last look."""

    seconds: float
    ended: int  # tasks
    failed: int = 0  # of them
    is_full: bool = True  # no slot is free
    late_s: float = 0.0  # by which the event loop came late
    memory: float | None = None  # the share that is in use; None: not known


class Tuning:
    """Tries half as many slots again while all are taken, and keeps them if more tasks succeed in the same time.

    A quarter goes at each look at which the event loop comes late or memory is short. Counts alone decide: the same
    samples give the same slots.
    """

    def __init__(self, *, first: int = FIRST, most: int = MOST) -> None:
        self.slots = first
        self._most = most
        self._before: tuple[int, float] | None = None  # during a trial: slots, and successes a second, without it
        self._rests = 0
        self._was_full = True
        self._start()

    def look(self, sample: Sample) -> int:
        """The number of slots from now on."""
        if sample.late_s > LATE_S or (sample.memory or 0.0) > SHORT_OF_MEMORY:
            self._set(max(1, self.slots * 3 // 4))
            self._before, self._rests = None, _RESTS
            return self.slots
        self._seconds += sample.seconds
        self._ended += sample.ended
        self._failed += sample.failed
        self._was_full = self._was_full and sample.is_full
        if self._seconds >= _SHORTEST_S and self._ended >= _TASKS_A_SLOT * self.slots:
            self._judge((self._ended - self._failed) / self._seconds)
        return self.slots

    def _judge(self, rate: float) -> None:
        was_full, before = self._was_full, self._before
        self._before = None
        self._start()
        if before is not None and was_full and rate < before[1] * _BETTER:
            self._set(before[0])
            self._rests = _RESTS
        elif self._rests:
            self._rests -= 1
        elif was_full and self.slots < self._most:
            self._before = self.slots, rate
            self._set(min(self._most, self.slots + max(1, self.slots // 2)))

    def _set(self, slots: int) -> None:
        self.slots = slots
        self._start()

    def _start(self) -> None:
        self._seconds = 0.0
        self._ended = self._failed = 0
        self._was_full = True
