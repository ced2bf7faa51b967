"""How busy a run was in equal parts of its time, in room that does not grow with the run."""

from array import array
from collections.abc import Iterable

from stepflow.history.records import Busy

PARTS = 400
"""At most; at least half as many once the run is longer than that many milliseconds."""


class Bins:
    """Counts into parts that double in width whenever the run outgrows them."""

    def __init__(self, steps: int) -> None:
        self.width = 1  # milliseconds
        self._edges: list[array[float]] = []  # by step: parts that attempts covered partly
        self._inner: list[array[int]] = []  # by step: changes of how many attempts cover a part
        self._ended = array("q", bytes(8 * PARTS))
        self._failed = array("q", bytes(8 * PARTS))
        self._until = 0
        for _ in range(steps):
            self.add_step()

    def add_step(self) -> None:
        self._edges.append(array("d", bytes(8 * PARTS)))
        self._inner.append(array("q", bytes(8 * (PARTS + 1))))

    def add(self, step: int, start: int, end: int) -> None:
        """An attempt was under way."""
        start = max(0, start)
        if end <= start:
            return
        self._reach(end)
        edges, width = self._edges[step], self.width
        first, last = start // width, (end - 1) // width
        if first == last:
            edges[first] += end - start
            return
        edges[first] += (first + 1) * width - start
        edges[last] += end - last * width
        inner = self._inner[step]
        inner[first + 1] += 1
        inner[last] -= 1

    def end_item(self, at: int, *, failed: bool) -> None:
        at = max(0, at)
        self._reach(at + 1)
        self._ended[at // self.width] += 1
        if failed:
            self._failed[at // self.width] += 1

    def summary(self, until: int, under_way: Iterable[tuple[int, int]]) -> Busy:
        """The parts up to this time, with attempts that are under way still: their step, and when they began."""
        for step, start in under_way:
            self.add(step, start, until)
        self._reach(max(1, until))
        count = -(-self._until // self.width)
        busy = tuple(tuple(self._covered(step)[:count]) for step in range(len(self._edges)))
        return Busy(self.width, busy, tuple(self._ended[:count]), tuple(self._failed[:count]))

    def _reach(self, end: int) -> None:
        while end > PARTS * self.width:
            self._fold()
        self._until = max(self._until, end)

    def _fold(self) -> None:
        for step in range(len(self._edges)):
            covered = self._covered(step)
            self._edges[step] = array("d", _paired(covered))
            self._inner[step] = array("q", bytes(8 * (PARTS + 1)))
        self._ended = array("q", map(int, _paired(self._ended)))
        self._failed = array("q", map(int, _paired(self._failed)))
        self.width *= 2

    def _covered(self, step: int) -> list[float]:
        """By part, the milliseconds that attempts of a step were under way."""
        depth, found = 0, []
        for edge, change in zip(self._edges[step], self._inner[step], strict=False):
            depth += change
            found.append(edge + depth * self.width)
        return found


def _paired(values: "list[float] | array[int]") -> list[float]:
    halves = [values[place] + values[place + 1] for place in range(0, PARTS, 2)]
    return halves + [0] * (PARTS // 2)
