"""Engines that share a store, driven in any order, and a model that says what every answer has to be."""

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from store_model import Life, ModelRun
from store_presence import NAMES, START, picks
from store_tasks import TasksMachine
from store_view import read
from store_writes import KEYS

from stepflow.protocols import Backend
from stepflow.records import Entries, Lease, RunId, RunRecord

LOOKS = 10


class StoreMachine(TasksMachine):
    """All of it, old runs that go, and what always holds."""

    @precondition(lambda self: self.model.runs)
    @rule(place=picks, through=st.sampled_from(NAMES))
    def delete(self, place: int, through: str) -> None:
        ended = [run.id for run in self.model.runs.values() if run.ended_at is not None and run.root_id == run.id]
        root_id = self.pick([*ended, *self.model.runs], place)

        deleted = self.stage.run(self.backend(through).retention.delete(root_id))

        assert deleted == (self.model.runs[root_id].root_id == root_id and not self.goes_on(root_id))
        if deleted:
            self.model.delete([root_id])

    def goes_on(self, root_id: RunId) -> bool:
        return bool(self.model.unfinished(root_id))

    @rule(
        through=st.sampled_from(NAMES),
        age=st.none() | st.integers(0, 40),
        keep=st.none() | st.integers(0, 3),
        limit=st.integers(1, 3),
    )
    def prune(self, through: str, age: int | None, keep: int | None, limit: int) -> None:
        before = None if age is None else START + self.serial - age

        count = self.stage.run(self.backend(through).retention.prune(ended_before=before, keep=keep, limit=limit))

        old = self.model.old(ended_before=before, keep=keep, limit=limit)
        assert count == len(old)
        self.model.delete(old)

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        self.stage.run(self.look())

    async def look(self) -> None:
        """Look at every row, and into the runs that something was done to; into all of them every so often."""
        store = self.backend()
        listed = await store.runs.list(limit=1_000)
        assert [run.id for run in listed][::-1] == sorted(self.model.runs)
        alive = {engine.owner for engine in await store.owners.engines()}
        assert alive == set(self.alive())
        self.looks += 1
        for run in listed:
            model = self.model.runs[run.id]
            look_at_row(run, model)
            state = (len(model.writes), model.lease, self.model.engines[model.lease.owner])
            if self.seen.get(run.id) != state or self.looks % LOOKS == 0:
                await look_into(store, model)
                await self.look_at_owner(store, model)
                self.seen[run.id] = state
        for key in KEYS:
            found = await store.runs.find_key(key)
            assert (found and found.id) == self.model.keys.get(key, [None])[-1]

    async def look_at_owner(self, store: Backend, model: ModelRun) -> None:
        owned = await store.owners.ownership(model.id)
        assert owned is not None
        if not model.status.is_terminal:
            assert Lease(owned.owner, owned.epoch) == model.lease
            assert (owned.engine is not None) == (self.model.engines[owned.owner] is Life.ALIVE)


def look_at_row(run: RunRecord, model: ModelRun) -> None:
    assert (run.root_id, run.key, run.total) == (model.root_id, model.key, model.total)
    assert (run.status, run.ended_at, run.succeeded) == (model.status, model.ended_at, len(model.done))
    assert run.claims == model.claims or run.status.is_terminal


async def look_into(store: Backend, model: ModelRun) -> None:
    """Nothing that is needed is lost, and nothing is there that was not committed."""
    rows = list(await read(store, model.id))
    all_rows = [Entries(one.first, one.count, one.payload) for one in model.writes]
    assert [row for row in all_rows if row in rows] == rows
    assert all(Entries(one.first, one.count, one.payload) in rows for one in model.needed())
    results = {one.index: one for part in model.writes for one in part.results}
    assert list(await store.runs.results(model.id)) == [results[item] for item in sorted(model.done)]
    by_end = [(place, results[item]) for place, item in enumerate(model.done, 1)]
    assert list(await store.runs.completed(model.id)) == by_end
