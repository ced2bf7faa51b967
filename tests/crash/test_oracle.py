"""The judge of the crash loops finds what it is there to find."""

from pathlib import Path

import jobs
import pytest
from ledger import Accepted, Began, Done, Ended, Ledger, Line, read_ledger
from oracle import Journals, Life, Stored, judge, quantile

RUN = "run"
FIRST = Life("0.0", 0, 100.0, died=110.0)
SECOND = Life("0.1", 0, 110.5)
NOTHING = Journals()


def began(at: float, engine: str = "0.0", attempt: int = 1) -> Began:
    return Began(engine, RUN, 0, "a", attempt, 1, at)


def ended(at: float, engine: str = "0.0", *, failed: bool = False) -> Ended:
    return Ended(engine, RUN, 0, "a", 1, 1, at, failed)


def duplicated(
    lines: list[Line], journals: Journals = NOTHING, outages: tuple[tuple[float, float], ...] = ()
) -> list[str]:
    return judge(lines, [FIRST, SECOND], {}, journals, outages).duplicated


def test_a_step_that_the_killed_process_began_may_be_called_again() -> None:
    assert duplicated([began(109.0), began(111.0, "0.1", 2)]) == []


def test_a_step_may_not_be_called_again_while_its_process_lives() -> None:
    found = duplicated([began(108.0), began(109.0, "0.1", 2)])

    assert found == ["run run, item 0, step a: called by 0.0 (attempt 1) and 0.1 (attempt 2), 1.000 s apart"]


def test_a_step_may_be_called_again_after_the_failure_that_the_flow_retries() -> None:
    assert duplicated([began(101.0), ended(102.0, failed=True), began(102.1, attempt=2)]) == []


def test_a_step_may_be_called_again_where_the_database_was_away_in_between() -> None:
    assert duplicated([began(101.0), began(105.0, "0.1", 2)], outages=((102.0, 103.0),)) == []


def test_a_step_may_not_be_called_after_its_success_was_recorded_whoever_died() -> None:
    recorded = Journals(succeeded={(RUN, 0, "a"): 109.5})

    (found,) = duplicated([began(109.0), ended(109.4), began(111.0, "0.1", 2)], recorded)

    assert found == "run run, item 0, step a: called by 0.1 (attempt 2) after its success was recorded"


def test_a_call_that_was_under_way_when_its_process_was_stopped_is_no_second_one() -> None:
    recorded, late = Journals(succeeded={(RUN, 0, "a"): 104.0}), began(109.0)

    found = judge([began(103.0, "0.1"), late], [FIRST, SECOND], {}, recorded, under_way={late})

    assert found.duplicated == []


def test_a_journal_may_not_have_a_start_behind_a_success() -> None:
    (found,) = duplicated([], Journals(begun_after_success=[(RUN, 0, "a")]))

    assert found == "run run, item 0, step a: started after its success was recorded"


@pytest.mark.parametrize(
    ("stored", "what"),
    [
        (Stored([], "missing", []), "run run was accepted and is not stored"),
        (Stored([RUN], "running", jobs.outputs_of(0)), "running with 3 of 3 results"),
        (Stored([RUN], "completed", jobs.outputs_of(0)[:2]), "completed with 2 of 3 results"),
        (Stored([RUN], "completed", [3, 4, None]), "item 2 is None, not 5"),
        (Stored([RUN, "twin"], "completed", jobs.outputs_of(0)), "one key has 2 runs"),
    ],
)
def test_a_job_that_was_accepted_has_to_be_there_once_with_every_right_result(stored: Stored, what: str) -> None:
    found = judge([Accepted("0.0", 0, RUN, 101.0)], [FIRST], {0: stored}, Journals()).lost

    assert any(what in line for line in found)


def test_a_job_with_its_right_results_is_not_lost() -> None:
    lines = [Accepted("0.0", 0, RUN, 101.0), Done("0.0", 0, True, 102.0)]

    assert judge(lines, [FIRST], {0: Stored([RUN], "completed", jobs.outputs_of(0))}, Journals()).lost == []


def test_wrong_results_that_somebody_read_are_lost_ones() -> None:
    found = judge([Done("0.0", 0, False, 102.0)], [FIRST], {}, Journals()).lost

    assert found == ["job 0: somebody read other results than the right ones"]


def test_recovery_lasts_until_the_last_step_that_was_cut_off_runs_again() -> None:
    other = [Began("0.0", RUN, 1, "a", 1, 1, 109.9), Began("0.1", RUN, 1, "a", 2, 2, 114.0)]

    found = judge([began(109.0), began(113.0, "0.1", 2), *other], [FIRST, SECOND], {}, Journals())

    assert found.recover_s == {"0.0": 4.0}


def test_recovery_counts_from_the_death_of_the_one_that_was_recovering() -> None:
    claimer, last = Life("1.0", 1, 100.0, died=113.0), Life("2.0", 2, 100.0)
    claimed = Journals(claims={RUN: [(112.0, 1)]})

    found = judge([began(109.0), began(119.0, "2.0", 2)], [FIRST, claimer, last], {}, claimed)

    assert found.recover_s == {"0.0": 6.0}


def test_a_quantile_is_one_of_the_values() -> None:
    assert [quantile([3.0, 1.0, 2.0], share) for share in (0.5, 0.99)] == [2.0, 3.0]
    assert quantile([], 0.5) == 0.0


def test_a_line_that_a_kill_cut_short_harms_no_other(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger", "0.0")
    ledger.began(RUN, 0, "a", 1)
    with (tmp_path / "ledger").open("ab") as file:
        file.write(b'\n["began","0.0","ru')
    ledger.ended(RUN, 0, "a", 1)
    ledger.close()

    assert [type(line) for line in read_ledger(tmp_path / "ledger")] == [Began, Ended]
