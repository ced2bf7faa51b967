"""Engines begin runs and write what happens in them, and a model says what every answer has to be."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from store_presence import PresenceMachine, picks
from store_view import View

from stepflow.records import (
    Committed,
    ItemResult,
    Lease,
    LeaseLost,
    RunChange,
    RunId,
    RunRecord,
    RunStatus,
    Succeeded,
    Verdict,
    Write,
)
from stepflow.testing.suites.writes import child, record, write

KEYS = ("k", "l")


class WritesMachine(PresenceMachine):
    """Runs are begun, go on and end, by whoever has them or believes to."""

    def commit(self, *writes: Write) -> Sequence[Verdict]:
        """Write, and hold every answer against the model."""
        verdicts = self.stage.run(self.backend(writes[0].lease.owner).journal.commit(writes))
        self.settle(writes, verdicts)
        return verdicts

    def settle(self, writes: Sequence[Write], verdicts: Sequence[Verdict]) -> None:
        assert len(verdicts) == len(writes)
        refused: set[RunId] = set()
        for one, verdict in zip(writes, verdicts, strict=True):
            if one.run_id in refused:
                assert verdict != Committed()
                continue
            self.check(verdict, one)
            self.model.settle(one, verdict)
            if verdict == Committed():
                self.stored.append(one)
            else:
                refused.add(one.run_id)

    def check(self, verdict: Verdict, one: Write) -> None:
        """Whether the owner of a run that has ended changes with that of its tree is the store's choice."""
        may = self.model.verdicts(one)
        run = self.model.runs.get(one.run_id)
        if run is not None and run.status.is_terminal and isinstance(verdict, LeaseLost):
            assert any(isinstance(other, LeaseLost) and verdict.current >= other.current for other in may)
        else:
            assert verdict in may

    def advance(self, view: View, kind: str, item: int = -1, **more: Any) -> bool:
        """Write one entry of a run, and believe it once it is stored; a run that was lost is let go."""
        one = view.write(kind, self.next(), item, **more)
        (verdict,) = self.commit(one)
        return self.believe(view, one, verdict)

    def believe(self, view: View, one: Write, verdict: Verdict) -> bool:
        if verdict != Committed():
            del self.views[view.lease.owner, view.run_id]
            return False
        view.last = one.first
        view.apply(msgspec.json.decode(one.payload)[0])
        if one.change is not None:
            view.status = one.change.status or view.status
        return True

    def going(self) -> list[View]:
        return [view for _, view in sorted(self.views.items()) if not view.status.is_terminal]

    @rule(
        place=picks,
        key=st.sampled_from([None, None, *KEYS]),
        supersedes=st.sampled_from(["the holder", "nothing", "an older one"]),
        total=st.integers(1, 3),
    )
    def submit(self, place: int, key: str | None, supersedes: str, total: int) -> None:
        owner = self.pick([*self.alive() * 3, *self.model.engines], place)
        holders = self.model.keys.get(key or "", [])
        chosen = {"the holder": holders[-1:], "nothing": [], "an older one": holders[:1]}[supersedes]
        new = msgspec.structs.replace(record(self.stage.ids.draw(), key=key), total=total)

        self.begin(owner, new, supersedes=chosen[0] if chosen else None)

    @precondition(lambda self: self.going())
    @rule(place=picks, total=st.integers(1, 2))
    def submit_sub_run(self, place: int, total: int) -> None:
        parent = self.pick(self.going(), place)
        new = child(self.stage.ids.draw(), parent.root_id, key=str(self.next()))

        self.begin(parent.lease.owner, msgspec.structs.replace(new, total=total))

    def begin(self, owner: str, new: RunRecord, supersedes: RunId | None = None) -> None:
        assert new.total is not None
        view = View(new.id, new.root_id, Lease(owner, 1), new.total)
        first = view.write("begun", self.next(), new=new, supersedes=supersedes)
        inputs = write(new.id, 2, [{"kind": "inputs"}], lease=view.lease, items=(0, new.total - 1), has_inputs=True)

        verdicts = self.commit(first, inputs)

        if list(verdicts) == [Committed()] * 2:
            view.last = 2
            self.views[owner, new.id] = view

    @precondition(lambda self: self.going())
    @rule(place=picks, which=picks)
    def start(self, place: int, which: int) -> None:
        view = self.pick(self.going(), place)
        self.advance(view, "started", self.pick(view.open, which))

    @precondition(lambda self: self.going())
    @rule(place=picks)
    def start_everywhere(self, place: int) -> None:
        """One commit with an entry of every run that the engine believes to drive."""
        owner = self.pick(self.going(), place).lease.owner
        views = [view for view in self.going() if view.lease.owner == owner]
        writes = [view.write("started", self.next(), view.open[0]) for view in views]

        verdicts = self.commit(*writes)

        for view, one, verdict in zip(views, writes, verdicts, strict=True):
            self.believe(view, one, verdict)

    @precondition(lambda self: self.going())
    @rule(place=picks, which=picks)
    def complete(self, place: int, which: int) -> None:
        view = self.pick(self.going(), place)
        self.finish(view, self.pick(view.open, which), f"by {view.lease.owner}")

    @precondition(lambda self: self.going())
    @rule(place=picks)
    def complete_all(self, place: int) -> None:
        view = self.pick(self.going(), place)
        while view.open and self.finish(view, view.open[-1], "at last"):
            pass

    def finish(self, view: View, item: int, output: str) -> bool:
        """An item ends, and the run with the last of them."""
        count = len(view.done) + 1
        is_last = count == view.total
        change = RunChange(
            succeeded=count,
            status=RunStatus.COMPLETED if is_last else None,
            ended_at=self.now() if is_last else None,
        )
        results = [ItemResult(item, Succeeded({"output": output, "nul": "\0"}))]
        return self.advance(view, "completed", item, results=results, change=change)

    @precondition(lambda self: self.going())
    @rule(place=picks)
    def checkpoint(self, place: int) -> None:
        view = self.pick(self.going(), place)
        one = view.write("checkpoint", self.next())
        low_water = min(view.open)
        one = msgspec.structs.replace(one, is_checkpoint=True, min_item=low_water, max_item=view.total - 1)

        (verdict,) = self.commit(one)

        self.believe(view, one, verdict)

    @precondition(lambda self: self.stored)
    @rule(place=picks)
    def repeat(self, place: int) -> None:
        """A write whose answer was lost, or that comes late: it changes nothing, whoever has the run by now."""
        one = self.stored[-1 - place % len(self.stored)]
        if one.run_id not in self.model.deleted:
            self.commit(one)

    @precondition(lambda self: self.unfinished())
    @rule(place=picks, which=picks, later=st.integers(0, 1))
    def write_with_a_lease_that_nobody_gave(self, place: int, which: int, later: int) -> None:
        run = self.pick(self.unfinished(), place)
        lease = Lease(self.pick([*self.model.engines], which), run.lease.epoch + later)
        if lease != run.lease:
            self.commit(write(run.id, run.last + 1, [{"kind": "stolen"}], lease=lease))

    def current(self, said: Sequence[Any]) -> list[Any]:
        """Those of runs that go on. Who gets what is said of an ended run in a claimed tree is the store's choice."""
        return [one for one in said if not self.model.runs[one.run_id].status.is_terminal]
