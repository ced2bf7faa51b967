"""Times and amounts as people read them."""

import pytest

from stepflow.history.words import ago, amount, clock_time, date_time, duration, listed, plural


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 ms"),
        (0, "0 ms"),
        (0.0404, "40 ms"),
        (0.9996, "1.0 s"),
        (4.21, "4.2 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3_599.6, "1 h"),
        (7_500, "2 h 5 min"),
        (86_400 * 3 + 3_600 * 4, "3 d 4 h"),
    ],
)
def test_a_duration_is_told_in_the_two_units_that_matter(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_time_is_told_in_utc_wherever_it_is_read() -> None:
    assert clock_time(1_700_000_000) == "22:13:20 UTC"
    assert date_time(1_700_000_000) == "2023-11-14 22:13:20 UTC"


def test_a_time_is_told_as_past_or_to_come() -> None:
    assert (ago(40), ago(-4)) == ("40 s ago", "in 4.0 s")


def test_numbers_that_are_not_named_are_counted() -> None:
    assert listed((3, 1_700), 2) == "3, 1,700"
    assert listed((), 4_014) == "4,014 items"
    assert listed((3, 17), 4_014) == "3, 17 and 4,012 more"


def test_amounts_get_shorter_as_they_grow() -> None:
    assert [amount(number) for number in (9_870, 412_345, 1_140_000)] == ["9,870", "412 k", "1.1 M"]


def test_nouns_follow_their_number() -> None:
    assert [plural(1, "item"), plural(2, "item"), plural(2, "class")] == ["1 item", "2 items", "2 classes"]
