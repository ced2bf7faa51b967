"""What every `Runs` must do: the rows of runs and the results of their items."""

import pytest

from stepflow.protocols import Backend
from stepflow.records import (
    ErrorCode,
    Failed,
    ItemResult,
    ParentLink,
    RunChange,
    RunId,
    RunRecord,
    RunStatus,
    Succeeded,
)
from stepflow.testing.suites.writes import Ids, begin, end, record, result, write


class RunsSuite:
    """Give a `store` fixture: an open, empty `Backend`."""

    async def test_a_run_is_found_as_it_was_begun(self, store: Backend, ids: Ids) -> None:
        new = record(ids.draw(), key="monday", flow_name="greet")

        await begin(store, new)

        assert await store.runs.get(new.id) == new

    async def test_a_run_that_nobody_began_is_none(self, store: Backend, ids: Ids) -> None:
        assert await store.runs.get(ids.draw()) is None

    async def test_a_change_leaves_what_it_does_not_name(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw(), flow_name="greet"))
        why = Failed(ErrorCode.CANCELLED, "stopped", data={"by": "operator"})

        await store.journal.commit([write(run, 2, ["a"], change=RunChange(succeeded=2, failed=1))])
        await store.journal.commit(
            [write(run, 3, ["b"], change=RunChange(status=RunStatus.CANCELLED, ended_at=12.5, error=why))]
        )

        stored = await store.runs.get(run)
        assert stored is not None
        assert (stored.flow_name, stored.total, stored.succeeded, stored.failed) == ("greet", 3, 2, 1)
        assert (stored.status, stored.ended_at, stored.error) == (RunStatus.CANCELLED, 12.5, why)

    async def test_runs_are_listed_newest_first(self, store: Backend, ids: Ids) -> None:
        runs = [await begin(store, record(ids.draw())) for _ in range(5)]

        listed = await store.runs.list()

        assert [run.id for run in listed] == runs[::-1]

    async def test_pages_stay_put_while_new_runs_begin(self, store: Backend, ids: Ids) -> None:
        runs = [await begin(store, record(ids.draw())) for _ in range(5)]
        first = await store.runs.list(limit=2)
        await begin(store, record(ids.draw()))

        second = await store.runs.list(limit=2, before=first[-1].id)
        third = await store.runs.list(limit=2, before=second[-1].id)

        assert [[run.id for run in page] for page in (first, second, third)] == [
            [runs[4], runs[3]],
            [runs[2], runs[1]],
            [runs[0]],
        ]
        assert await store.runs.list(limit=2, before=third[-1].id) == type(third)()

    async def test_a_list_is_narrowed_by_what_is_asked(self, store: Backend, ids: Ids) -> None:
        done = await begin(store, record(ids.draw(), flow_name="greet"))
        await end(store, done)
        root = await begin(store, record(ids.draw(), flow_name="count"))
        link = ParentLink(run_id=root, item=0, step=1, key="k")
        child = await begin(store, record(ids.draw(), root_id=root, parent=link, flow_name="greet"))

        async def asked(**what: object) -> list[RunId]:
            return [run.id for run in await store.runs.list(**what)]  # type: ignore[arg-type]

        assert await asked(status=RunStatus.COMPLETED) == [done]
        assert await asked(flow_name="greet") == [child, done]
        assert await asked(root_id=root) == [child, root]
        assert await asked(parent_id=root) == [child]
        assert await asked(roots_only=True) == [root, done]
        assert await asked(roots_only=True, flow_name="greet", status=RunStatus.COMPLETED) == [done]

    async def test_an_id_may_be_shortened_to_what_is_unique(self, store: Backend, ids: Ids) -> None:
        runs = [await begin(store, record(ids.draw())) for _ in range(3)]

        whole = await store.runs.find(runs[1])
        shared = await store.runs.find(runs[0][:6])

        assert list(whole) == [runs[1]]
        assert len(shared) == 2
        assert set(shared) <= set(runs)
        assert list(await store.runs.find("zz")) == []

    async def test_last_is_the_newest_root_run(self, store: Backend, ids: Ids) -> None:
        nothing = list(await store.runs.find("last"))
        root = await begin(store, record(ids.draw()))
        link = ParentLink(run_id=root, item=0, step=0, key="k")
        child = await begin(store, record(ids.draw(), root_id=root, parent=link))

        assert nothing == []
        assert list(await store.runs.find("last")) == [root]
        assert list(await store.runs.find(child)) == []

    @pytest.mark.parametrize("prefix", ["%", "_", "*", "?", "["])
    async def test_an_id_is_no_pattern(self, store: Backend, ids: Ids, prefix: str) -> None:
        await begin(store, record(ids.draw()))

        assert list(await store.runs.find(prefix)) == []

    async def test_a_sub_run_is_found_by_its_link(self, store: Backend, ids: Ids) -> None:
        root = await begin(store, record(ids.draw()))
        link = ParentLink(run_id=root, item=2, step=1, key="first")
        child = await begin(store, record(ids.draw(), root_id=root, parent=link))

        found = await store.runs.find_child(link)
        other = await store.runs.find_child(ParentLink(run_id=root, item=2, step=1, key="second"))

        assert found is not None
        assert (found.id, found.parent) == (child, link)
        assert other is None

    async def test_everything_that_is_said_of_a_run_comes_back(self, store: Backend, ids: Ids) -> None:
        root = await begin(store, record(ids.draw()))
        link = ParentLink(run_id=root, item=7, step=2, key="k")
        new = RunRecord(
            id=ids.draw(),
            root_id=root,
            flow_id="a" * 64,
            flow_name="greet",
            parent=link,
            created_at=1_767_225_600.123456,
            total=None,
            group="blue",
            journal_format=3,
            retry_of=ids.draw(),
            is_sealed=True,
        )

        await begin(store, new)

        assert await store.runs.get(new.id) == new
        assert await store.runs.find_child(link) == new
        assert list(await store.runs.list(limit=1)) == [new]

    async def test_text_may_hold_any_character(self, store: Backend, ids: Ids) -> None:
        text = "nul \0, ünïcödé 🦆 \u2028 ' \" % \\"
        root = await begin(store, record(ids.draw(), key=text, flow_name=text))
        link = ParentLink(run_id=root, item=0, step=0, key=text)
        inner = await begin(store, record(ids.draw(), root_id=root, parent=link))
        why = Failed(ErrorCode.ORCHESTRATOR_ERROR, text, data={text: [text]})
        await store.journal.commit([write(root, 2, ["a"], change=RunChange(error=why))])

        stored = await store.runs.get(root)
        by_key, by_link = await store.runs.find_key(text), await store.runs.find_child(link)
        by_name = await store.runs.list(flow_name=text)

        assert stored is not None
        assert (stored.key, stored.flow_name, stored.error) == (text, text, why)
        assert by_key == stored
        assert by_link is not None
        assert (by_link.id, by_link.parent) == (inner, link)
        assert list(by_name) == [stored]
        assert await store.runs.find_key("nul ") is None

    async def test_results_come_in_item_order_and_in_the_order_they_ended(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.journal.commit([write(run, 2, ["a"], results=[result(2, "c"), result(0, "a")])])
        await store.journal.commit([write(run, 3, ["b"], results=[result(1, "b")])])

        by_item = list(await store.runs.results(run))
        by_end = list(await store.runs.completed(run))

        assert by_item == [result(0, "a"), result(1, "b"), result(2, "c")]
        assert by_end == [(1, result(2, "c")), (2, result(0, "a")), (3, result(1, "b"))]

    async def test_results_are_read_on_from_where_one_was(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.journal.commit([write(run, 2, ["a"], results=[result(index) for index in (3, 0, 1)])])

        assert [one.index for one in list(await store.runs.results(run, after=0))] == [1, 3]
        assert [place for place, _ in list(await store.runs.completed(run, after=2))] == [3]
        assert list(await store.runs.results(run, after=3)) == []

    async def test_results_of_a_run_without_any_are_none(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))

        assert list(await store.runs.results(run)) == []
        assert list(await store.runs.completed(run)) == []
        assert list(await store.runs.results(ids.draw())) == []

    @pytest.mark.parametrize(
        "outcome",
        [
            Succeeded(None),
            Succeeded({"nul \0": [1, 1.5, "🦆", None, True], "n": 9_007_199_254_740_993}),
            Failed(ErrorCode.COMPONENT_FAILED, "no"),
            Failed(ErrorCode.RESOURCE_UNAVAILABLE, "later \0", data={"a": [None]}, retry_after_s=20.0, may_retry=False),
        ],
    )
    async def test_an_outcome_comes_back_as_it_was(self, store: Backend, ids: Ids, outcome: Succeeded | Failed) -> None:
        run = await begin(store, record(ids.draw()))

        await store.journal.commit([write(run, 2, ["a"], results=[ItemResult(0, outcome)])])

        assert list(await store.runs.results(run)) == [ItemResult(0, outcome)]

    async def test_what_was_read_may_be_changed_without_harm(self, store: Backend, ids: Ids) -> None:
        outputs: list[Succeeded | Failed] = [Succeeded({"a": []}), Failed(ErrorCode.COMPONENT_FAILED, "", {"a": []})]
        results = [ItemResult(index, outcome) for index, outcome in enumerate(outputs)]
        run = await begin(store, record(ids.draw()))
        await store.journal.commit([write(run, 2, ["a"], results=results)])

        for read in (*await store.runs.results(run), *(one for _, one in await store.runs.completed(run))):
            held = read.outcome.output if isinstance(read.outcome, Succeeded) else read.outcome.data
            assert held == {"a": []}
            assert isinstance(held, dict)
            held["a"] = "changed"

        assert [(await store.runs.results(run))[0].output, results[0].output] == [{"a": []}, {"a": []}]

    async def test_forgetting_results_keeps_those_beyond(self, store: Backend, ids: Ids) -> None:
        run = await begin(store, record(ids.draw()))
        await store.journal.commit([write(run, 2, ["a"], results=[result(index) for index in range(5)])])

        await store.runs.forget_results(run, through=2)

        assert [one.index for one in list(await store.runs.results(run, after=2))] == [3, 4]
