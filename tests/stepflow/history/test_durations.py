"""Quantiles of many durations."""

import random

import pytest

from stepflow.history.durations import ERROR, Durations, Sketch


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_a_quantile_is_true_within_one_per_cent(share: float) -> None:
    drawn = random.Random(7)
    values = sorted(int(drawn.lognormvariate(6, 2)) for _ in range(20_000))
    sketch = Sketch()

    for value in values:
        sketch.add(value)

    exact = values[max(0, -(-int(share * 20_000) // 1) - 1)]
    assert sketch.quantile(share) == pytest.approx(exact, rel=2 * ERROR, abs=1)


def test_short_durations_are_told_exactly() -> None:
    sketch = Sketch()

    for value in (3, 1, 2):
        sketch.add(value)

    assert sketch.summary() == Durations(count=3, total_ms=6, p50_ms=2.0, p99_ms=3.0, max_ms=3)


def test_no_quantile_is_longer_than_the_longest() -> None:
    sketch = Sketch()

    sketch.add(1_000)

    assert sketch.quantile(0.99) <= 1_000


def test_a_duration_below_zero_counts_as_none() -> None:
    sketch = Sketch()

    sketch.add(-5)

    assert sketch.summary() == Durations(count=1)


def test_nothing_is_told_of_no_durations() -> None:
    assert Sketch().summary() == Durations()


def test_room_grows_with_the_range_and_not_with_the_number() -> None:
    sketch = Sketch()

    for value in range(100_000):
        sketch.add(value)

    assert len(sketch._buckets) < 500
