import pytest

from stepflow_grpc.pools.restarts import Death, reason_of, restart_delay


def test_a_worker_that_had_lived_is_started_at_once() -> None:
    assert restart_delay(0, 0.5) == 0.0


def test_each_further_early_death_doubles_the_wait_up_to_half_a_minute() -> None:
    longest = [restart_delay(deaths, 1.0) for deaths in range(1, 9)]

    assert longest == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert restart_delay(10_000, 1.0) == 30.0


def test_what_is_drawn_takes_away_half_of_it_at_most() -> None:
    assert [restart_delay(3, draw) for draw in (0.0, 0.5)] == [1.0, 1.5]


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-99, "killed by signal 99")]
)
def test_how_a_process_ended_is_said_in_words(code: int, words: str) -> None:
    assert reason_of(code) == words


def test_a_death_says_how_long_the_worker_lived_unless_it_never_did() -> None:
    assert str(Death("exit code 1", 0.0, 2.34)) == "died after 2.3 s: exit code 1"
    assert str(Death("nosuch: No such file", 0.0, 0.0, is_start=True)) == "can't be started: nosuch: No such file"
