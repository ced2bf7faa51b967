"""Engines of a store come, beat, leave and are late, in any order."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from store_model import Life, Model, ModelRun
from store_stage import Stage
from store_view import View

from stepflow.protocols import Backend
from stepflow.records import RunId, Write
from stepflow.testing.suites.writes import enter

NAMES = ("a", "b", "c")
START = 4e9

picks = st.integers(0, 30)
"""A place among whatever there is to choose from."""


class PresenceMachine(RuleBasedStateMachine):
    """Engines that share a store, and what there is to choose from for whoever plays them."""

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
