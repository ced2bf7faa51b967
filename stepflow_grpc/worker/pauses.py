"""How long to wait before trying again."""

from stepflow.protocols import Chance

FIRST_S = 0.1
LONGEST_S = 2.0
"""Less than a server waits for workers that had tasks of it before it gives those to others."""


class Pauses:
    """Each is drawn from the upper half of a span that doubles up to its limit, so that many workers spread out."""

    def __init__(self, chance: Chance, *, longest_s: float = LONGEST_S) -> None:
        self._chance = chance
        self._longest_s = longest_s
        self._span_s = FIRST_S

    def next(self) -> float:
        """In seconds."""
        span_s = self._span_s
        self._span_s = min(self._longest_s, span_s * 2)
        return span_s * (0.5 + self._chance.random() / 2)

    def reset(self) -> None:
        self._span_s = FIRST_S
