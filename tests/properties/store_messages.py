"""Whoever asks something of a run is heeded by the engine that has it."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from store_model import Life
from store_presence import NAMES, picks
from store_takeover import TakeoverMachine
from store_view import STATUS_OF, View

from stepflow.records import Message, MessageKind, RunChange


class MessagesMachine(TakeoverMachine):
    """Runs are cancelled, paused and resumed, and answers are carried."""

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

    def control(self, view: View, kind: str) -> None:
        status = STATUS_OF.get(kind)
        if status is None:
            return  # an answer is the engine's to apply: the store only carries it
        ended_at = self.now() if status.is_terminal else None
        self.advance(view, kind, change=RunChange(status=status, ended_at=ended_at))
