"""Engines that share a store, driven in any order, and a model that says what every answer has to be."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from store_model import Life, Model, ModelOffer, ModelRun
from store_stage import Stage

from stepflow.protocols import Backend
from stepflow.records import (
    Answer,
    Committed,
    Entries,
    ItemResult,
    Lease,
    LeaseLost,
    Message,
    MessageKind,
    Offer,
    RunChange,
    RunId,
    RunRecord,
    RunStatus,
    Succeeded,
    Verdict,
    Write,
)
from stepflow.testing.suites.writes import child, enter, record, write

NAMES = ("a", "b", "c")
QUEUE = "gpu"
KEYS = ("k", "l")
START = 4e9
LOOKS = 10
STATUS_OF = {"cancel": RunStatus.CANCELLED, "pause": RunStatus.PAUSED, "resume": RunStatus.RUNNING}

picks = st.integers(0, 30)
"""A place among whatever there is to choose from."""


@dataclass
class View:
    """What an engine believes of a run that it drives. It may have lost the run without knowing."""

    run_id: RunId
    root_id: RunId
    lease: Lease
    total: int
    last: int = 0
    status: RunStatus = RunStatus.RUNNING
    done: list[int] = field(default_factory=list)

    @property
    def open(self) -> list[int]:
        return [item for item in range(self.total) if item not in self.done]

    def write(self, kind: str, by: int, item: int = -1, **more: Any) -> Write:
        entry = {"kind": kind, "item": item, "by": by, "done": sorted(self.done), "status": self.status}
        return write(self.run_id, self.last + 1, [entry], lease=self.lease, items=(item, item), **more)

    def apply(self, entry: dict[str, Any]) -> None:
        """What the journal says, as an engine that takes the run over reads it."""
        match entry["kind"]:
            case "completed":
                self.done.append(entry["item"])
            case "pause" | "resume" | "cancel" as kind:
                self.status = STATUS_OF[kind]
            case "checkpoint":
                self.done = list(entry["done"])
                self.status = RunStatus(entry["status"])


class StoreMachine(RuleBasedStateMachine):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        stage.begin()
        self.model = Model(is_shared=stage.is_shared)
        self.views: dict[tuple[str, RunId], View] = {}
        self.stored: list[Write] = []
        self.tasks: list[str] = []
        self.seen: dict[RunId, object] = {}
        self.looks = 0
        self.serial = 0
        for name in NAMES if stage.is_shared else NAMES[:1]:
            self.enter(name)

    def teardown(self) -> None:
        self.stage.end()

    # What is there to choose from

    def backend(self, owner: str = "") -> Backend:
        """Engines of one name always come through the same door."""
        return self.stage.backends[NAMES.index(owner[0]) % len(self.stage.backends) if owner else 0]

    def pick(self, candidates: Sequence[Any], place: int) -> Any:
        return candidates[place % len(candidates)]

    def alive(self) -> list[str]:
        return [owner for owner, life in self.model.engines.items() if life is Life.ALIVE]

    def unfinished(self) -> list[ModelRun]:
        return [run for run in self.model.runs.values() if not run.status.is_terminal]

    def next(self) -> int:
        self.serial += 1
        return self.serial

    def now(self) -> float:
        """A later time than ever before, and no run has ended long ago: stores may sweep up behind those."""
        return START + self.next()

    # Engines come and go

    @rule(place=picks, again=st.sampled_from([False, False, False, True]))
    def enter_another(self, place: int, again: bool) -> None:
        """An engine that is not there, or a new start of one that is."""
        there = {owner.split()[0] for owner in self.alive()}
        missing = [name for name in NAMES if name not in there]
        if missing or again:
            self.enter(self.pick(NAMES if again else missing, place))

    def enter(self, name: str) -> None:
        owner = f"{name} {self.stage.plays}.{self.next()}"

        row = self.stage.run(enter(self.backend(owner), owner, name=name))

        self.model.enter(owner, name)
        assert (row.owner, row.expires_at is not None) == (owner, self.stage.is_shared)

    @rule(place=picks)
    def beat(self, place: int) -> None:
        owner = self.pick([*self.model.engines], place)

        beaten = self.stage.run(self.backend(owner).owners.beat(owner))

        life = self.model.engines[owner]
        assert beaten == (life is not Life.GONE) or life is Life.DOUBTED
        self.model.engines[owner] = Life.ALIVE if beaten else Life.GONE

    @rule(place=picks)
    def leave(self, place: int) -> None:
        self.go(self.pick(self.alive() or [*self.model.engines], place))

    def go(self, owner: str) -> None:
        self.stage.run(self.backend(owner).owners.leave(owner))

        self.model.engines[owner] = Life.GONE

    @precondition(lambda self: self.stage.is_shared and self.alive())
    @rule(place=picks)
    def expire(self, place: int) -> None:
        owner = self.pick(self.alive(), place)

        self.stage.run(self.stage.expire(owner))

        self.model.engines[owner] = Life.LATE

    # Engines write

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

    # Engines take over

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

    # Whoever else asks

    @precondition(lambda self: self.model.runs or self.model.deleted)
    @rule(place=picks, kind=st.sampled_from(MessageKind), through=st.sampled_from(NAMES))
    def send(self, place: int, kind: MessageKind, through: str) -> None:
        going = [run.id for run in self.unfinished()]
        run_id = self.pick([*going * 2, *self.model.runs, *sorted(self.model.deleted)], place)
        message = Message(id=f"{self.stage.plays}.{self.next()}", run_id=run_id, kind=kind, payload=b"\0")

        self.deliver(message, through)

    @precondition(lambda self: self.model.messages)
    @rule(place=picks, through=st.sampled_from(NAMES))
    def send_again(self, place: int, through: str) -> None:
        self.deliver(self.pick([*self.model.messages.values()], place), through)

    def deliver(self, message: Message, through: str) -> None:
        kept = self.stage.run(self.backend(through).inbox.send(message))

        run = self.model.runs.get(message.run_id)
        assert kept == (run is not None and not run.status.is_terminal)
        if kept:
            self.model.messages.setdefault(message.id, message)

    @precondition(lambda self: self.alive())
    @rule(place=picks, dies=st.booleans())
    def heed(self, place: int, dies: bool) -> None:
        """An engine does what it is asked; where it dies before it says so, it is asked again."""
        owner = self.pick(self.addressed() or self.alive(), place)
        inbox = self.backend(owner).inbox

        messages = self.stage.run(inbox.receive(owner))

        mine = {run.id for run in self.model.runs.values() if run.lease.owner == owner}
        assert self.current(messages) == self.current(
            [one for one in self.model.messages.values() if one.run_id in mine]
        )
        for message in messages:
            view = self.views.get((owner, message.run_id))
            if view is not None and not view.status.is_terminal:
                self.control(view, message.kind)
        if not dies:
            self.stage.run(inbox.done(messages))
            for message in messages:
                self.model.messages.pop(message.id, None)

    def addressed(self) -> list[str]:
        """Engines that are asked for something."""
        owners = [self.model.runs[one.run_id].lease.owner for one in self.model.messages.values()]
        return [owner for owner in owners if self.model.engines[owner] is Life.ALIVE]

    def current(self, said: Sequence[Any]) -> list[Any]:
        """Those of runs that go on. Who gets what is said of an ended run in a claimed tree is the store's choice."""
        return [one for one in said if not self.model.runs[one.run_id].status.is_terminal]

    def control(self, view: View, kind: str) -> None:
        status = STATUS_OF.get(kind)
        if status is None:
            return  # an answer is the engine's to apply: the store only carries it
        ended_at = self.now() if status.is_terminal else None
        self.advance(view, kind, change=RunChange(status=status, ended_at=ended_at))

    # Engines hand tasks to each other

    def serving(self) -> list[View]:
        return [view for view in self.going() if self.model.engines[view.lease.owner] is Life.ALIVE]

    @precondition(lambda self: self.serving())
    @rule(place=picks, which=picks)
    def offer(self, place: int, which: int) -> None:
        view = self.pick(self.serving(), place)
        self.offer_task(view.lease.owner, f"{view.run_id}/{self.pick(view.open, which)}", 2)

    @precondition(lambda self: self.offered())
    @rule(place=picks, later=st.integers(-1, 1))
    def offer_again(self, place: int, later: int) -> None:
        """A later attempt replaces what was there; the same or an earlier one changes nothing."""
        task_id = self.pick(self.offered(), place)
        owner = self.model.runs[task_id.split("/")[0]].lease.owner
        self.offer_task(owner, task_id, self.model.offers[task_id].attempt + later)

    def offered(self) -> list[str]:
        """Tasks of runs whose owner is there."""
        alive = {view.run_id for view in self.serving()}
        return [task_id for task_id, one in self.model.offers.items() if one.run_id in alive]

    def offer_task(self, owner: str, task_id: str, attempt: int) -> None:
        offered = self.offer_of(task_id, attempt)

        self.stage.run(self.backend(owner).dispatch.offer(owner, [offered]))

        before = self.model.offers.get(task_id)
        if before is None or before.attempt < attempt:
            self.model.offers[task_id] = ModelOffer(attempt, offered.run_id, owner, self.next())
            self.tasks.append(task_id)

    def offer_of(self, task_id: str, attempt: int) -> Offer:
        body = f"\0 {task_id} {attempt}".encode()
        return Offer(task_id=task_id, attempt=attempt, run_id=task_id.split("/")[0], queue=QUEUE, body=body)

    @precondition(lambda self: self.stage.is_shared and self.alive() and self.model.offers)
    @rule(place=picks, limit=st.integers(1, 2), fate=st.sampled_from(["kept", "kept", "given back", "lost"]))
    def claim_offers(self, place: int, limit: int, fate: str) -> None:
        owner = self.pick([one for one in self.alive() if self.model.free_offers(one)] or self.alive(), place)

        claimed = self.claim_some(owner, limit)

        if fate == "given back":
            self.stage.run(self.backend(owner).dispatch.give_back(owner, claimed))
            for one in claimed:
                self.model.offers[one.task_id].claimed_by = None
        elif fate == "lost":
            self.go(owner)
        for one in claimed:
            offered_by = self.model.offers[one.task_id].offered_by
            self.stage.run(self.backend(offered_by).dispatch.offer(offered_by, [one]))  # again: changes nothing
        for other in self.alive():
            self.claim_some(other, limit)

    @precondition(lambda self: self.model.offers)
    @rule(place=picks, kept=picks, earlier=st.sampled_from([0, 0, 1]), limit=st.integers(1, 2))
    def give_back_others(self, place: int, kept: int, earlier: int, limit: int) -> None:
        """The answer to a claim was lost: what the engine does not know of is free again, for itself too."""
        offers = self.model.offers
        claimers = [one.claimed_by for one in offers.values() if one.claimed_by is not None]
        owner = self.pick(claimers or [*self.model.engines], place)
        mine = [id for id, one in offers.items() if one.claimed_by == owner and one.answer is None]
        known = [id for number, id in enumerate(mine) if kept >> number & 1]
        named = [self.offer_of(id, offers[id].attempt - earlier) for id in known]
        elsewhere = [self.offer_of(id, one.attempt) for id, one in offers.items() if id not in mine]

        dispatch = self.backend(owner).dispatch
        self.stage.run(dispatch.give_back_others(owner, "another queue", []))
        self.stage.run(dispatch.give_back_others(owner, QUEUE, [*named, *elsewhere]))

        for id in mine:
            if earlier or id not in known:
                offers[id].claimed_by = None
        for other in self.alive():
            self.claim_some(other, limit)

    @rule(place=picks, queue=st.sampled_from([QUEUE, "cpu"]))
    def announce(self, place: int, queue: str) -> None:
        """Also an engine that is not there any more may say something, and nobody hears it."""
        owner = self.pick([*self.alive() * 3, *self.model.engines], place)
        listed = b"\0%d" % self.next()

        self.stage.run(self.backend(owner).dispatch.announce(owner, queue, listed))

        self.model.announced[queue, owner] = listed
        self.hear(queue)

    @precondition(lambda self: self.model.announced)
    @rule(queue=st.sampled_from([QUEUE, "cpu"]))
    def hear(self, queue: str) -> None:
        """What the others that live have said last; of an engine that came back in time, what it said before."""
        for owner in self.alive():
            told = self.stage.run(self.backend(owner).dispatch.announced(owner, queue))

            assert list(told) == self.model.told(owner, queue)

    def claim_some(self, owner: str, limit: int) -> Sequence[Offer]:
        claimed = self.stage.run(self.backend(owner).dispatch.claim(owner, QUEUE, limit=limit))

        free = self.model.free_offers(owner)
        assert len(claimed) == min(limit, len(free))
        for one in claimed:
            assert one.task_id in free
            offered = self.model.offers[one.task_id]
            assert one == self.offer_of(one.task_id, offered.attempt)
            offered.claimed_by = owner
        return claimed

    @precondition(lambda self: self.alive() and self.model.offers)
    @rule(place=picks)
    def take_back(self, place: int) -> None:
        """An engine that can do its tasks itself gets back those that nobody is at work on."""
        owner = self.pick(self.alive(), place)
        mine = [id for id, one in self.model.offers.items() if one.offered_by == owner]

        back = self.stage.run(self.backend(owner).dispatch.take_back(owner, mine))

        assert list(back) == [id for id in mine if self.is_nobodys(self.model.offers[id])]
        for task_id in back:
            del self.model.offers[task_id]

    def is_nobodys(self, offered: ModelOffer) -> bool:
        taken = offered.claimed_by is not None and self.model.engines[offered.claimed_by] is Life.ALIVE
        return not taken and offered.answer is None

    @precondition(lambda self: self.tasks)
    @rule(place=picks, earlier=st.integers(0, 1), through=st.sampled_from(NAMES))
    def answer(self, place: int, earlier: int, through: str) -> None:
        """From whoever performed it, at whatever time, and once more."""
        task_id = self.pick([*self.model.offers, *self.tasks], place)
        offered = self.model.offers.get(task_id)
        attempt = 2 if offered is None else offered.attempt - earlier
        body = b"\0 %d" % self.next()
        given = Answer(task_id=task_id, attempt=attempt, run_id=task_id.split("/")[0], body=body)

        dispatch = self.backend(through).dispatch

        kept, again = self.stage.run(dispatch.answer(given)), self.stage.run(dispatch.answer(given))

        assert not again
        assert kept == (offered is not None and offered.answer is None and offered.attempt == attempt)
        if kept and offered is not None:
            offered.answer, offered.answered = body, self.next()

    @precondition(lambda self: self.alive())
    @rule(place=picks, dies=st.booleans())
    def collect(self, place: int, dies: bool) -> None:
        """An engine completes what was answered. An answer to what is finished changes nothing."""
        owner = self.pick(self.alive(), place)
        dispatch = self.backend(owner).dispatch

        answers = self.stage.run(dispatch.answers(owner))

        due = [(one.answered, id) for id, one in self.model.offers.items() if one.answer is not None]
        mine = [id for _, id in sorted(due) if self.model.runs[id.split("/")[0]].lease.owner == owner]
        expected = [(id, self.model.offers[id].answer) for id in mine]
        going = [run.id for run in self.unfinished()]
        assert [(one.task_id, one.body) for one in self.current(answers)] == [
            (id, body) for id, body in expected if id.split("/")[0] in going
        ]
        for one in answers:
            view = self.views.get((owner, one.run_id))
            item = int(one.task_id.split("/")[1])
            if view is not None and item in view.open and not view.status.is_terminal:
                self.finish(view, item, one.body.decode())
        if not dies:
            self.stage.run(dispatch.withdraw([one.task_id for one in answers]))
            for one in answers:
                self.model.offers.pop(one.task_id, None)

    # Old runs go

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

    # What always holds

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


async def read(store: Backend, run_id: RunId) -> Sequence[Entries]:
    """All rows that are still needed, read in small pages."""
    rows: list[Entries] = []
    after = 0
    while page := await store.journal.read(run_id, after=after, limit=3):
        rows += page
        after = page[-1].first + page[-1].count - 1
    return rows
