"""How many slots a worker finds, played with numbers alone."""

from collections.abc import Callable

import pytest

from stepflow_grpc.worker.tuning import FIRST, MOST, Sample, Tuning

LOOKS = 300


def play(world: Callable[[int], Sample], tuning: Tuning | None = None, looks: int = LOOKS) -> list[int]:
    """The slots after each look, in a world that says what so many slots amount to."""
    tuning = tuning or Tuning()
    return [tuning.look(world(tuning.slots)) for _ in range(looks)]


def gains_up_to(knee: int, tasks_a_slot: int = 10) -> Callable[[int], Sample]:
    """Two seconds of a world in which more than so many tasks at a time are of no use."""
    return lambda slots: Sample(seconds=2.0, ended=min(slots, knee) * tasks_a_slot)


@pytest.mark.parametrize("knee", [6, 16, 40])
def test_slots_grow_as_long_as_more_of_them_get_more_done(knee: int) -> None:
    slots = play(gains_up_to(knee))

    settled = slots[100:]
    assert min(settled) >= knee * 2 / 3
    assert max(settled) <= knee * 1.5 * 1.5  # a trial among them


def test_a_trial_that_was_in_vain_is_taken_back_and_not_soon_repeated() -> None:
    slots = play(gains_up_to(FIRST))

    assert slots[:8] == [6, 4, 4, 4, 4, 4, 4, 6]
    assert max(slots) == 6


def test_slots_that_are_not_all_taken_are_enough() -> None:
    assert set(play(lambda slots: Sample(seconds=2.0, ended=50, is_full=False))) == {FIRST}


def test_nothing_grows_beyond_the_most() -> None:
    assert max(play(gains_up_to(10_000))) == MOST


def test_long_tasks_are_given_the_time_to_end() -> None:
    """A minute each: one ends every ten seconds with six slots."""
    slots = play(lambda slots: Sample(seconds=60 / slots, ended=1), looks=12)

    assert slots == [4] * 7 + [6] * 5


def test_answers_that_fail_are_worth_nothing() -> None:
    """Beyond eight at a time, whoever is asked refuses the rest."""

    def refusing(slots: int) -> Sample:
        return Sample(seconds=2.0, ended=slots * 10, failed=max(0, slots - 8) * 10)

    settled = play(refusing)[100:]

    assert max(settled) <= 13
    assert settled.count(9) > len(settled) / 2


@pytest.mark.parametrize("strain", [{"late_s": 0.4}, {"memory": 0.95}], ids=["late", "memory"])
def test_strain_takes_slots_away_down_to_one(strain: dict[str, float]) -> None:
    slots = play(lambda slots: Sample(seconds=2.0, ended=slots * 10, **strain), Tuning(first=16), looks=12)

    assert slots[:4] == [12, 9, 6, 4]
    assert slots[-1] == 1


def test_after_strain_slots_come_back_where_they_are_of_use() -> None:
    tuning = Tuning(first=16)
    strained = play(lambda slots: Sample(seconds=2.0, ended=slots * 10, memory=0.95), tuning, looks=12)

    recovered = play(gains_up_to(16), tuning)

    assert strained[-1] == 1
    assert recovered[-1] >= 11


def test_the_same_samples_give_the_same_slots() -> None:
    assert play(gains_up_to(23)) == play(gains_up_to(23))
