"""How busy a run was over time."""

import random

import pytest

from stepflow.history.bins import PARTS, Bins


def test_a_span_covers_the_parts_that_it_reaches_into() -> None:
    bins = Bins(1)
    bins.add(0, 2, 5)

    busy = bins.summary(6, [])

    assert busy.width_ms == 1
    assert busy.busy_ms == ((0.0, 0.0, 1.0, 1.0, 1.0, 0.0),)


def test_parts_double_in_width_until_the_run_fits() -> None:
    bins = Bins(1)
    bins.add(0, 0, 10)

    bins.add(0, 0, 3 * PARTS)

    busy = bins.summary(3 * PARTS, [])
    assert busy.width_ms == 4
    assert len(busy.busy_ms[0]) == 3 * PARTS // 4
    assert busy.busy_ms[0][:4] == (8.0, 8.0, 6.0, 4.0)


def test_no_time_is_lost_however_often_the_parts_were_folded() -> None:
    bins, drawn = Bins(2), random.Random(3)
    spans = [(start := drawn.randrange(100_000), start + drawn.randrange(5_000)) for _ in range(500)]

    for number, (start, end) in enumerate(spans):
        bins.add(number % 2, start, end)

    busy = bins.summary(110_000, [])
    for step in range(2):
        assert sum(busy.busy_ms[step]) == pytest.approx(sum(end - start for start, end in spans[step::2]))


def test_ends_of_items_are_counted_where_they_happened() -> None:
    bins = Bins(0)

    bins.end_item(3, failed=False)
    bins.end_item(3, failed=True)

    busy = bins.summary(4, [])
    assert (busy.ended, busy.failed) == ((0, 0, 0, 2), (0, 0, 0, 1))


def test_what_is_under_way_still_counts_up_to_now() -> None:
    bins = Bins(1)

    busy = bins.summary(10, [(0, 4)])

    assert sum(busy.busy_ms[0]) == 6
