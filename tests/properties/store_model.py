"""A small pure model of what a store promises: who may write to which run, and what is there afterwards."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from stepflow.records import Committed, KeyTaken, Lease, LeaseLost, Message, RunId, RunStatus, Verdict, Write


class Life(Enum):
    """What is known of an engine."""

    ALIVE = "alive"
    LATE = "late"  # its time is over, and nobody has fenced it
    DOUBTED = "doubted"  # its time is over, and a claim may have fenced it
    GONE = "gone"


@dataclass
class ModelRun:
    """A run as it must be read."""

    id: RunId
    root_id: RunId
    key: str | None
    total: int
    lease: Lease
    status: RunStatus = RunStatus.RUNNING
    claims: int = 0
    ended_at: float | None = None
    writes: list[Write] = field(default_factory=list)
    done: list[int] = field(default_factory=list)  # items, in the order they ended

    @property
    def last(self) -> int:
        """The position of the newest entry."""
        return self.writes[-1].first + self.writes[-1].count - 1

    def needed(self) -> list[Write]:
        """The rows that a read has to give: all but those that the last checkpoint replaced."""
        marks = [place for place, write in enumerate(self.writes) if write.is_checkpoint]
        if not marks:
            return list(self.writes)
        low_water = self.writes[marks[-1]].min_item
        kept = [one for one in self.writes[1 : marks[-1]] if one.has_inputs and one.max_item >= low_water]
        return [self.writes[0], *kept, *self.writes[marks[-1] :]]


@dataclass
class ModelOffer:
    attempt: int
    run_id: RunId
    offered_by: str
    place: int
    claimed_by: str | None = None
    answer: bytes | None = None
    answered: int = 0


class Model:
    """Engines, runs, messages and offers, and what may become of them."""

    def __init__(self, *, is_shared: bool) -> None:
        self.is_shared = is_shared
        self.engines: dict[str, Life] = {}
        self.runs: dict[RunId, ModelRun] = {}
        self.keys: dict[str, list[RunId]] = {}
        self.messages: dict[str, Message] = {}
        self.offers: dict[str, ModelOffer] = {}
        self.announced: dict[tuple[str, str], bytes] = {}  # by queue and engine
        self.deleted: set[RunId] = set()

    def enter(self, owner: str, name: str) -> None:
        for other in self.engines:
            if not self.is_shared or other.split()[0] == name:
                self.engines[other] = Life.GONE
        self.engines[owner] = Life.ALIVE

    def verdicts(self, write: Write) -> Sequence[Verdict]:
        """What a store may answer to this write; more than one where it is not known who was fenced."""
        run = self.runs.get(write.run_id)
        life = self.engines[write.lease.owner]
        if run is None and write.new is None:
            return [LeaseLost(0)]
        if run is not None and run.lease != write.lease:
            return [LeaseLost(run.lease.epoch)]
        lost = LeaseLost(run.lease.epoch if run is not None else 0)
        if life is Life.GONE and self.is_shared:
            return [lost]
        taken = self._refused_key(write) if run is None else None
        may_be_lost = life in (Life.DOUBTED, Life.GONE)
        return [taken or Committed(), *([lost] if may_be_lost else [])]

    def _refused_key(self, write: Write) -> Verdict | None:
        assert write.new is not None
        holders = self.keys.get(write.new.key or "")
        return KeyTaken(holders[-1]) if holders and holders[-1] != write.supersedes else None

    def settle(self, write: Write, verdict: Verdict) -> None:
        """What was answered tells of the engine, and of what is stored."""
        owner = write.lease.owner
        if self.engines[owner] is Life.DOUBTED:
            run = self.runs.get(write.run_id)
            is_owner = run is None or run.lease == write.lease
            if verdict == Committed():
                self.engines[owner] = Life.LATE
            elif isinstance(verdict, LeaseLost) and is_owner:
                self.engines[owner] = Life.GONE
        if verdict == Committed():
            self._store(write)

    def _store(self, write: Write) -> None:
        run = self.runs.get(write.run_id)
        if run is None:
            new = write.new
            assert new is not None
            assert new.total is not None
            run = self.runs[new.id] = ModelRun(new.id, new.root_id, new.key, new.total, write.lease)
            if new.key is not None:
                self.keys.setdefault(new.key, []).append(new.id)
        elif write.first <= run.last:
            return
        run.writes.append(write)
        run.done += [one.index for one in write.results]
        run.claims = 0
        change = write.change
        if change is not None:
            run.status = change.status or run.status
            run.ended_at = change.ended_at or run.ended_at

    def unfinished(self, root_id: RunId) -> list[ModelRun]:
        return [run for run in self.runs.values() if run.root_id == root_id and not run.status.is_terminal]

    def claimable(self, owner: str, *, root_id: RunId | None = None, limit: int = 100) -> list[RunId]:
        """The runs of the trees that an engine has to get, oldest trees first."""
        roots = sorted({run.root_id for run in self.runs.values() if not run.status.is_terminal})
        trees = [self.unfinished(root) for root in roots if root_id in (None, root)]
        free = [tree for tree in trees if all(self._is_free(run, owner) for run in tree)]
        return [run.id for tree in free[:limit] for run in tree]

    def _is_free(self, run: ModelRun, owner: str) -> bool:
        return run.lease.owner != owner and self.engines[run.lease.owner] is not Life.ALIVE

    def claim(self, lease: Lease, run_id: RunId) -> None:
        run = self.runs[run_id]
        self.engines[run.lease.owner] = Life.GONE
        run.lease = lease
        run.claims += 1

    def doubt(self) -> None:
        """Somebody claims: whoever is late may be fenced by that."""
        for owner, life in self.engines.items():
            if life is Life.LATE:
                self.engines[owner] = Life.DOUBTED

    def old(self, *, ended_before: float | None, keep: int | None, limit: int) -> list[RunId]:
        """The root runs that a prune deletes."""
        ended = sorted(
            (run.ended_at, run.id) for run in self.runs.values() if run.root_id == run.id and run.ended_at is not None
        )
        by_age = [at for at, _ in ended if ended_before is not None and at < ended_before]
        many = max(len(by_age), 0 if keep is None else len(ended) - keep)
        return [run_id for _, run_id in ended[:many] if not self.unfinished(run_id)][:limit]

    def delete(self, roots: Iterable[RunId]) -> None:
        gone = set(roots)
        members = {run.id for run in self.runs.values() if run.root_id in gone}
        self.deleted |= members
        self.runs = {id: run for id, run in self.runs.items() if id not in members}
        kept = {key: [id for id in holders if id not in members] for key, holders in self.keys.items()}
        self.keys = {key: holders for key, holders in kept.items() if holders}
        self.messages = {id: one for id, one in self.messages.items() if one.run_id not in members}
        self.offers = {id: one for id, one in self.offers.items() if one.run_id not in members}

    def free_offers(self, owner: str) -> list[str]:
        """Tasks that an engine may claim, oldest first."""
        free = [
            (one.place, task_id)
            for task_id, one in self.offers.items()
            if one.answer is None
            and one.offered_by != owner
            and one.claimed_by != owner
            and (one.claimed_by is None or self.engines[one.claimed_by] is not Life.ALIVE)
            and self.engines[one.offered_by] is Life.ALIVE
        ]
        return [task_id for _, task_id in sorted(free)]

    def told(self, owner: str, queue: str) -> list[bytes]:
        """What the other engines that live have said of a queue."""
        said = sorted((by, listed) for (of, by), listed in self.announced.items() if of == queue and by != owner)
        return [listed for by, listed in said if self.engines[by] is Life.ALIVE]
