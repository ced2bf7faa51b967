"""What every `Retention` must do: delete what nobody needs any more, and nothing else."""

import anyio

from stepflow.protocols import Backend
from stepflow.records import ParentLink, RunChange, RunId, RunRecord, RunStatus
from stepflow.testing.suites.dispatch import answer, offer
from stepflow.testing.suites.inbox import message
from stepflow.testing.suites.shared import SharedSuite
from stepflow.testing.suites.writes import (
    FIRST,
    Ids,
    begin,
    child,
    end,
    enter,
    entries,
    record,
    result,
    write,
)


async def ended(store: Backend, new: RunRecord, *, at: float = 9.0) -> RunId:
    """A run that has ended."""
    run = await begin(store, new)
    await end(store, run, at=at)
    return run


async def left(store: Backend) -> list[RunId]:
    """The ids of the runs that are there, oldest first."""
    return [run.id for run in await store.runs.list()][::-1]


class RetentionSuite:
    """Give a `store` fixture: an open, empty `Backend` that `engine-1` has entered."""

    async def test_a_run_is_deleted_with_all_that_belongs_to_it(self, store: Backend, ids: Ids) -> None:
        root = await begin(store, record(ids.draw(), key="monday"))
        link = ParentLink(run_id=root, item=0, step=0, key="k")
        inner = await begin(store, child(ids.draw(), root))
        await store.inbox.send(message("a", root))
        await store.dispatch.offer(FIRST.owner, [offer("a", root)])
        await store.journal.commit([write(root, 2, ["result"], results=[result(0)])])
        await end(store, inner)
        await store.journal.commit([write(root, 3, ["more"])])
        other = await ended(store, record(ids.draw()))
        await store.journal.commit(
            [write(root, 4, ["ended"], change=RunChange(status=RunStatus.COMPLETED, ended_at=5.0))]
        )

        deleted = await store.retention.delete(root)

        assert deleted
        assert await left(store) == [other]
        assert [await entries(store, run) for run in (root, inner)] == [[], []]
        assert list(await store.runs.results(root)) == []
        assert list(await store.runs.completed(root)) == []
        assert await store.runs.find_key("monday") is None
        assert await store.runs.find_child(link) is None
        assert await store.owners.ownership(inner) is None
        assert list(await store.inbox.receive(FIRST.owner)) == []
        assert not await store.dispatch.answer(answer(offer("a", root)))
        assert await entries(store, other) == [(1, "begun"), (2, "ended")]

    async def test_a_run_that_goes_on_is_not_deleted(self, store: Backend, ids: Ids) -> None:
        root = await begin(store, record(ids.draw()))
        inner = await begin(store, child(ids.draw(), root))
        await end(store, inner)

        answers = [await store.retention.delete(run) for run in (root, inner, ids.draw())]

        assert answers == [False] * 3
        assert await left(store) == [root, inner]

    async def test_a_run_stays_while_its_sub_runs_go_on(self, store: Backend, ids: Ids) -> None:
        root = await begin(store, record(ids.draw()))
        inner = await begin(store, child(ids.draw(), root))
        await end(store, root)

        kept = [await store.retention.delete(root), await store.retention.prune(keep=0)]
        await end(store, inner)

        assert kept == [False, 0]
        assert await store.retention.delete(root)

    async def test_a_run_is_deleted_once(self, store: Backend, ids: Ids) -> None:
        run = await ended(store, record(ids.draw()))

        assert [await store.retention.delete(run) for _ in range(2)] == [True, False]

    async def test_a_key_is_free_once_its_run_is_deleted(self, store: Backend, ids: Ids) -> None:
        await store.retention.delete(await ended(store, record(ids.draw(), key="monday")))

        newer = await begin(store, record(ids.draw(), key="monday"))

        found = await store.runs.find_key("monday")
        assert found is not None
        assert found.id == newer

    async def test_a_key_goes_back_to_the_run_before(self, store: Backend, ids: Ids) -> None:
        older = await ended(store, record(ids.draw(), key="monday"))
        newer = await begin(store, record(ids.draw(), key="monday"), supersedes=older)
        await end(store, newer)

        await store.retention.delete(newer)

        found = await store.runs.find_key("monday")
        assert found is not None
        assert found.id == older
        await begin(store, record(ids.draw(), key="monday"), supersedes=older)

    async def test_a_key_stays_with_the_newer_run(self, store: Backend, ids: Ids) -> None:
        older = await ended(store, record(ids.draw(), key="monday"))
        newer = await begin(store, record(ids.draw(), key="monday"), supersedes=older)

        await store.retention.delete(older)

        found = await store.runs.find_key("monday")
        assert found is not None
        assert found.id == newer

    async def test_runs_that_ended_long_ago_are_pruned_oldest_first(self, store: Backend, ids: Ids) -> None:
        runs = [await ended(store, record(ids.draw()), at=float(at)) for at in (1, 2, 3, 4)]
        going = await begin(store, record(ids.draw()))
        inner = await begin(store, child(ids.draw(), going))
        await end(store, inner, at=1.0)

        counts = [await store.retention.prune(ended_before=4.0, limit=2)]
        after_first = await left(store)
        counts += [await store.retention.prune(ended_before=4.0, limit=2) for _ in range(2)]

        assert counts == [2, 1, 0]
        assert after_first == [*runs[2:], going, inner]
        assert await left(store) == [runs[3], going, inner]

    async def test_runs_beyond_the_newest_are_pruned(self, store: Backend, ids: Ids) -> None:
        going = await begin(store, record(ids.draw()))
        runs = [await ended(store, record(ids.draw()), at=float(at)) for at in (1, 2, 3, 4)]
        inner = await begin(store, child(ids.draw(), going))
        await end(store, inner, at=5.0)

        counts = [await store.retention.prune(keep=2) for _ in range(2)]

        assert counts == [2, 0]
        assert await left(store) == [going, *runs[2:], inner]

    async def test_age_and_number_prune_together(self, store: Backend, ids: Ids) -> None:
        runs = [await ended(store, record(ids.draw()), at=float(at)) for at in (1, 2, 3, 4)]

        counts = [await store.retention.prune(ended_before=2.0, keep=2), await store.retention.prune(ended_before=4.0)]

        assert counts == [2, 1]
        assert await left(store) == [runs[3]]

    async def test_nothing_is_pruned_unless_it_is_said_what(self, store: Backend, ids: Ids) -> None:
        run = await ended(store, record(ids.draw()))

        assert await store.retention.prune() == 0
        assert await left(store) == [run]

    async def test_all_may_be_pruned(self, store: Backend, ids: Ids) -> None:
        for _ in range(3):
            await ended(store, record(ids.draw()))

        assert await store.retention.prune(keep=0) == 3
        assert await left(store) == []

    async def test_pruning_while_others_write_takes_nothing_of_theirs(self, store: Backend, ids: Ids) -> None:
        going = await begin(store, record(ids.draw()))
        old = [await ended(store, record(ids.draw())) for _ in range(30)]
        pruned = []

        async def prune() -> None:
            while count := await store.retention.prune(ended_before=10.0, limit=4):
                pruned.append(count)

        async def append() -> None:
            for position in range(2, 32):
                await store.journal.commit([write(going, position, [position])])

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(prune)
                tasks.start_soon(append)

        assert sum(pruned) == len(old)
        assert max(pruned) == 4
        assert await left(store) == [going]
        assert [position for position, _ in await entries(store, going)] == list(range(1, 32))

    async def test_blobs_stay_when_a_run_is_deleted(self, store: Backend, ids: Ids) -> None:
        blob = await store.blobs.put(b"shared")

        await store.retention.delete(await ended(store, record(ids.draw())))

        assert await store.blobs.get(blob) is not None


class SharedRetentionSuite(SharedSuite):
    """The same where several engines share the store."""

    async def test_engines_that_prune_at_once_delete_every_run_once(
        self, store: Backend, other: Backend, ids: Ids
    ) -> None:
        for _ in range(30):
            await ended(store, record(ids.draw()))
        await enter(other, "engine-2")
        counts: list[int] = []

        async def prune(backend: Backend) -> None:
            while await left(backend):
                counts.append(await backend.retention.prune(ended_before=10.0, limit=4))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for backend in (store, other, store, other):
                    tasks.start_soon(prune, backend)

        assert sum(counts) == 30
