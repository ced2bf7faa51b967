"""Many durations in little room: exact for a few, and true within one per cent for any number.

Many are counted in buckets whose bounds grow by a constant factor, so memory grows with the logarithm of the largest
and not with their number. Source: C. Masson, J. Rim, H. Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
Relative-Error Guarantees", VLDB 2019.
"""

from collections import defaultdict
from math import ceil, log

import msgspec

ERROR = 0.01
_FACTOR = (1 + ERROR) / (1 - ERROR)
_PER_LOG = 1 / log(_FACTOR)
_EXACT = 100  # below it each millisecond has a bucket of its own
_FEW = 256  # so many are kept as they are


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """What many durations come to, in milliseconds. All zero where there is none."""

    count: int = 0
    total_ms: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: int = 0


class Sketch:
    """Counts durations of whole milliseconds."""

    __slots__ = ("_buckets", "_few", "count", "max_ms", "total_ms")

    def __init__(self) -> None:
        self._buckets: defaultdict[int, int] = defaultdict(int)
        self._few: list[int] = []
        self.count = 0
        self.total_ms = 0
        self.max_ms = 0

    def add(self, ms: int) -> None:
        """A duration below zero, which a clock that was set back may give, counts as zero."""
        value = max(0, ms)
        self._buckets[value if value < _EXACT else _EXACT + int(log(value / _EXACT) * _PER_LOG)] += 1
        self.count += 1
        if self.count <= _FEW:
            self._few.append(value)
        self.total_ms += value
        if value > self.max_ms:
            self.max_ms = value

    def quantile(self, share: float) -> float:
        """The duration that this share of all is no longer than; 0 where there is none."""
        rank = max(1, ceil(share * self.count))
        if 0 < self.count <= _FEW:
            return float(sorted(self._few)[rank - 1])
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return min(_middle(bucket), float(self.max_ms))
        return 0.0

    def summary(self) -> Durations:
        return Durations(
            count=self.count,
            total_ms=self.total_ms,
            p50_ms=self.quantile(0.5),
            p99_ms=self.quantile(0.99),
            max_ms=self.max_ms,
        )


def _middle(bucket: int) -> float:
    if bucket < _EXACT:
        return float(bucket)
    low = _EXACT * _FACTOR ** (bucket - _EXACT)
    return float(2 * low * _FACTOR / (1 + _FACTOR))
