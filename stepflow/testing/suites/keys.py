"""What a store must do with the keys of runs: of those who begin one with the same key, one is first."""

from collections.abc import Sequence

import anyio
import pytest

from stepflow.protocols import Backend
from stepflow.records import Committed, KeyTaken, Verdict
from stepflow.testing.suites.shared import SharedSuite
from stepflow.testing.suites.writes import Ids, begin, end, enter, entries, record, write


class KeysSuite:
    """Give a `store` fixture: an open, empty `Backend` that `engine-1` has entered."""

    async def test_a_key_finds_the_newest_run_that_has_it(self, store: Backend, ids: Ids) -> None:
        older = await begin(store, record(ids.draw(), key="monday"))
        newer = await begin(store, record(ids.draw(), key="monday"), supersedes=older)
        await begin(store, record(ids.draw(), key="tuesday"))

        found = await store.runs.find_key("monday")

        assert found is not None
        assert found.id == newer
        assert await store.runs.find_key("friday") is None

    @pytest.mark.parametrize("has_ended", [False, True])
    async def test_a_key_that_another_run_has_is_refused(self, store: Backend, ids: Ids, has_ended: bool) -> None:
        first = await begin(store, record(ids.draw(), key="monday"))
        if has_ended:
            await end(store, first)
        second = record(ids.draw(), key="monday")

        verdicts = await store.journal.commit([write(second.id, 1, ["begun"], new=second)])

        assert list(verdicts) == [KeyTaken(first)]
        assert await store.runs.get(second.id) is None
        assert await entries(store, second.id) == []
        assert await store.owners.ownership(second.id) is None

    async def test_a_key_is_taken_over_only_from_the_run_that_has_it(self, store: Backend, ids: Ids) -> None:
        first = await begin(store, record(ids.draw(), key="monday"))
        second = await begin(store, record(ids.draw(), key="monday"), supersedes=first)
        third, fourth = [record(ids.draw(), key="monday") for _ in range(2)]

        verdicts = await store.journal.commit(
            [
                write(third.id, 1, ["begun"], new=third, supersedes=first),
                write(fourth.id, 1, ["begun"], new=fourth, supersedes=second),
            ]
        )

        assert list(verdicts) == [KeyTaken(second), Committed()]
        assert await store.runs.get(third.id) is None

    async def test_a_refused_key_does_not_touch_the_other_runs(self, store: Backend, ids: Ids) -> None:
        first = await begin(store, record(ids.draw(), key="monday"))
        second, third = record(ids.draw(), key="monday"), record(ids.draw(), key="tuesday")

        verdicts = await store.journal.commit(
            [
                write(first, 2, ["more"]),
                write(second.id, 1, ["begun"], new=second),
                write(third.id, 1, ["begun"], new=third),
            ]
        )

        assert list(verdicts) == [Committed(), KeyTaken(first), Committed()]
        assert await entries(store, first) == [(1, "begun"), (2, "more")]
        assert await entries(store, third.id) == [(1, "begun")]

    async def test_what_follows_a_refused_first_write_is_refused_too(self, store: Backend, ids: Ids) -> None:
        await begin(store, record(ids.draw(), key="monday"))
        second = record(ids.draw(), key="monday")

        verdicts = await store.journal.commit(
            [write(second.id, 1, ["begun"], new=second), write(second.id, 2, ["more"])]
        )

        assert Committed() not in list(verdicts)
        assert await store.runs.get(second.id) is None
        assert await entries(store, second.id) == []

    async def test_the_first_of_one_commit_has_the_key(self, store: Backend, ids: Ids) -> None:
        runs = [record(ids.draw(), key="monday") for _ in range(3)]

        verdicts = await store.journal.commit([write(run.id, 1, ["begun"], new=run) for run in runs])

        assert list(verdicts) == [Committed(), KeyTaken(runs[0].id), KeyTaken(runs[0].id)]

    async def test_a_first_write_whose_answer_was_lost_may_be_repeated(self, store: Backend, ids: Ids) -> None:
        first = await begin(store, record(ids.draw(), key="monday"))
        second = record(ids.draw(), key="monday")
        opening = write(second.id, 1, ["begun"], new=second, supersedes=first)

        verdicts = [list(await store.journal.commit([opening])) for _ in range(2)]

        assert verdicts == [[Committed()], [Committed()]]
        assert await entries(store, second.id) == [(1, "begun")]

    async def test_runs_without_a_key_do_not_meet(self, store: Backend, ids: Ids) -> None:
        runs = [await begin(store, record(ids.draw())) for _ in range(2)]

        assert [run.id for run in await store.runs.list()] == runs[::-1]

    async def test_of_those_who_begin_at_once_one_has_the_key(self, store: Backend, ids: Ids) -> None:
        answers = await _begin_at_once([store], ids)

        await _check_one_began(store, answers)


class SharedKeysSuite(SharedSuite):
    """The same where several engines share the store."""

    async def test_of_engines_that_begin_at_once_one_has_the_key(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        await enter(other, "engine-2")

        answers = await _begin_at_once([store, other], ids)

        await _check_one_began(store, answers)


async def _begin_at_once(backends: Sequence[Backend], ids: Ids) -> dict[str, Verdict]:
    """The verdicts on twelve runs with one key, begun at the same moment, by run."""
    answers: dict[str, Verdict] = {}

    async def start(backend: Backend) -> None:
        run = record(ids.draw(), key="monday")
        (answers[run.id],) = await backend.journal.commit([write(run.id, 1, ["begun"], new=run)])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as starters:
            for number in range(12):
                starters.start_soon(start, backends[number % len(backends)])
    return answers


async def _check_one_began(store: Backend, answers: dict[str, Verdict]) -> None:
    (winner,) = [run for run, verdict in answers.items() if verdict == Committed()]
    assert len(answers) == 12
    assert all(verdict == KeyTaken(winner) for run, verdict in answers.items() if run != winner)
    assert [run.id for run in await store.runs.list()] == [winner]
