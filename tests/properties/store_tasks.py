"""Engines hand tasks to each other through the store."""

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from store_messages import MessagesMachine
from store_model import Life, ModelOffer
from store_presence import NAMES, picks
from store_view import View

from stepflow.records import Answer, Offer

QUEUE = "gpu"


class TasksMachine(MessagesMachine):
    """Tasks are offered, claimed, given back and answered, each by at most one engine at a time."""

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
