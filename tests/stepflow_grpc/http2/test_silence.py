"""When a silent connection is asked, and when it is closed."""

from math import inf

import pytest

from stepflow_grpc.http2.silence import CLOSING_S, Patience, Silence, Verdict

PATIENCE = Patience(greeting_s=10, keepalive_s=20, keepalive_answer_s=5, idle_s=600)


@pytest.fixture
def silence() -> Silence:
    made = Silence(PATIENCE, 100.0)
    made.greeted_at = 100.0
    return made


def at_its_due(silence: Silence) -> tuple[float, Verdict]:
    due = silence.due_at()
    assert silence.verdict(due - 0.001) is Verdict.WAIT
    return due, silence.verdict(due)


def test_a_connection_that_never_greets_is_cut() -> None:
    assert at_its_due(Silence(PATIENCE, 100.0)) == (110.0, Verdict.CUT)


def test_a_silent_one_is_asked_and_cut_if_it_does_not_answer(silence: Silence) -> None:
    assert at_its_due(silence) == (120.0, Verdict.ASK)

    silence.asked_at = 120.0

    assert at_its_due(silence) == (125.0, Verdict.CUT)


def test_whoever_speaks_is_not_asked(silence: Silence) -> None:
    silence.heard_at = 119.0

    assert at_its_due(silence) == (139.0, Verdict.ASK)


def test_one_without_calls_is_left_after_a_while(silence: Silence) -> None:
    silence.heard_at = 690.0

    assert at_its_due(silence) == (700.0, Verdict.LEAVE)

    silence.idle_since = inf

    assert at_its_due(silence) == (710.0, Verdict.ASK)


def test_one_that_reads_nothing_is_cut_although_it_speaks(silence: Silence) -> None:
    silence.stuck_at = 100.0
    silence.heard_at = 124.0

    assert at_its_due(silence) == (125.0, Verdict.CUT)


def test_one_that_is_closed_may_read_the_last_words_for_a_while(silence: Silence) -> None:
    silence.heard_at = 700.0
    silence.closed_at = 700.0

    assert at_its_due(silence) == (700.0 + CLOSING_S, Verdict.CUT)
