"""Engines take over the runs of those that are gone, also while these still write."""

import asyncio
from collections.abc import Sequence

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from store_model import Life
from store_presence import picks
from store_view import View, read
from store_writes import WritesMachine

from stepflow.records import Lease, LeaseLost, RunRecord, RunStatus, Verdict


class TakeoverMachine(WritesMachine):
    """Runs find a new owner, and never two."""

    @precondition(lambda self: self.alive())
    @rule(place=picks, limit=st.integers(1, 3), root=st.none() | picks, dies=st.sampled_from([False, False, True]))
    def recover(self, place: int, limit: int, root: int | None, dies: bool) -> None:
        owner = self.pick([one for one in self.alive() if self.model.claimable(one)] or self.alive(), place)
        roots = sorted({run.root_id for run in self.model.runs.values()})
        root_id = self.pick(roots, root) if roots and root is not None else None

        claimed = self.stage.run(self.backend(owner).owners.claim(owner, root_id=root_id, limit=limit))

        assert sorted(run.id for run, _ in claimed) == sorted(self.model.claimable(owner, root_id=root_id, limit=limit))
        self.take(owner, claimed)

    def take(self, owner: str, claimed: Sequence[tuple[RunRecord, Lease]]) -> None:
        """Believe what the journals of claimed runs say."""
        for run, lease in claimed:
            model = self.model.runs[run.id]
            assert lease.owner == owner
            assert lease.epoch > model.lease.epoch
            self.model.claim(lease, run.id)
            assert run.claims == model.claims
            assert run.total is not None
            view = View(run.id, run.root_id, lease, run.total, status=RunStatus.RUNNING)
            for row in self.stage.run(read(self.backend(owner), run.id)):
                for entry in msgspec.json.decode(row.payload):
                    view.apply(entry)
                view.last = row.first + row.count - 1
            assert (view.last, view.status, sorted(view.done)) == (model.last, model.status, sorted(model.done))
            self.views[owner, run.id] = view
        self.model.doubt()

    @precondition(lambda self: self.stage.is_shared and len(self.alive()) > 1)
    @rule(place=picks, limit=st.integers(1, 3))
    def recover_at_once(self, place: int, limit: int) -> None:
        one, two = self.pick(self.alive(), place), self.pick(self.alive(), place + 1)
        may = {owner: set(self.model.claimable(owner)) for owner in (one, two)}

        async def both() -> Sequence[Sequence[tuple[RunRecord, Lease]]]:
            claims = (self.backend(owner).owners.claim(owner, limit=limit) for owner in (one, two))
            return await asyncio.gather(*claims)

        claims = self.stage.run(both())

        ids = [{run.id for run, _ in claimed} for claimed in claims]
        assert not ids[0] & ids[1]
        for owner, claimed, taken in zip((one, two), claims, ids, strict=True):
            assert taken <= may[owner]
            self.take(owner, claimed)
        self.settle_race(one, two)

    @precondition(lambda self: self.alive() and self.late())
    @rule(place=picks, which=picks)
    def write_while_another_recovers(self, place: int, which: int) -> None:
        """Either the entry comes before the claim, and its new owner reads it, or it is refused."""
        owner, view = self.pick(self.alive(), place), self.pick(self.late(), which)
        one = view.write("started", self.next(), view.open[0])
        may = set(self.model.claimable(owner))

        async def both() -> tuple[Sequence[Verdict], Sequence[tuple[RunRecord, Lease]]]:
            committing = self.backend(view.lease.owner).journal.commit([one])
            return await asyncio.gather(committing, self.backend(owner).owners.claim(owner))

        (verdict,), claimed = self.stage.run(both())

        self.model.doubt()
        if isinstance(verdict, LeaseLost):
            self.model.engines[view.lease.owner] = Life.GONE
        else:
            self.settle([one], [verdict])
        assert {run.id for run, _ in claimed} <= may
        self.take(owner, claimed)
        self.settle_race(owner, view.lease.owner)

    def settle_race(self, winner: str, loser: str) -> None:
        """Whoever was faster, all ends the same: a play has to be the same when it is played again."""
        self.go(loser)
        self.views = {at: view for at, view in self.views.items() if at[0] != loser}
        self.claim_all(winner)

    def claim_all(self, owner: str) -> None:
        claimed = self.stage.run(self.backend(owner).owners.claim(owner))

        assert sorted(run.id for run, _ in claimed) == sorted(self.model.claimable(owner))
        self.take(owner, claimed)

    def late(self) -> list[View]:
        late = (Life.LATE, Life.DOUBTED)
        return [view for view in self.going() if self.model.engines[view.lease.owner] in late]
