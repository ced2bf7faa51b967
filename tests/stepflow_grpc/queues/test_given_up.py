"""What is remembered of an attempt that was given up, until the next one begins."""

from stepflow.records import ErrorCode, Failed, Succeeded
from stepflow_grpc.queues.given_up import KEPT_S, MOST_KEPT, GivenUp

FAILED = Failed(ErrorCode.COMPONENT_FAILED, "no")


def test_the_next_attempt_hears_once_who_had_the_last_one_and_what_came_of_it() -> None:
    given_up = GivenUp()
    given_up.add("t", "w", 0.0)

    kept = given_up.keep("t", Succeeded(1))

    assert kept
    assert given_up.take("t") == ("w", Succeeded(1))
    assert given_up.take("t") == (None, None)


def test_of_several_answers_the_first_success_counts() -> None:
    given_up = GivenUp()
    given_up.add("t", "w", 0.0)

    kept = [given_up.keep("t", outcome) for outcome in (FAILED, Succeeded(1), FAILED, Succeeded(2))]

    assert kept == [False, True, False, True]
    assert given_up.take("t") == ("w", Succeeded(1))


def test_nothing_is_kept_for_what_was_not_given_up() -> None:
    given_up = GivenUp()
    given_up.add("t", None, 0.0)

    assert not given_up.keep("other", Succeeded(1))
    assert given_up.take("other") == (None, None)
    assert given_up.take("t") == (None, None)


def test_it_was_with_the_worker_that_had_it_and_with_no_other() -> None:
    given_up = GivenUp()
    given_up.add("t", "w", 0.0)
    given_up.add("unclaimed", None, 0.0)

    assert given_up.was_with("t", "w")
    assert not given_up.was_with("t", "other")
    assert not given_up.was_with("unclaimed", "w")
    assert not given_up.was_with("unknown", "w")


def test_what_no_attempt_follows_is_forgotten_after_a_while() -> None:
    given_up = GivenUp()
    given_up.add("old", "w", 0.0)
    given_up.add("younger", "w", 1.0)

    given_up.add("new", "w", KEPT_S)

    assert not given_up.was_with("old", "w")
    assert given_up.was_with("younger", "w")


def test_of_very_many_the_oldest_are_forgotten() -> None:
    given_up = GivenUp()

    for number in range(MOST_KEPT + 1):
        given_up.add(str(number), "w", 0.0)

    assert not given_up.was_with("0", "w")
    assert given_up.was_with("1", "w")
    assert given_up.was_with(str(MOST_KEPT), "w")
