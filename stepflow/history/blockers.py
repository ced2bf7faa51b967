"""What keeps a run from going on, as far as its record, its events and its owner tell. Pure."""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec

from stepflow.history.explanation import Blocker, BlockerKind
from stepflow.history.standing import UNKNOWN, Attempt, Place, Standing
from stepflow.history.words import duration, plural
from stepflow.records import JOURNAL_FORMAT, EngineRecord, Ownership, RunRecord, RunStatus

QUIET_S = 5.0
"""A run with a newer event than that goes on, so nothing keeps it."""

SILENT = 0.6
"""An engine is heard of every third of its time to live. With less than this part of it left, it was not."""

KNOWN_REMEDIES: Sequence[tuple[str, str]] = (
    ("has had no turn", "register the component with process=True, or let it give other threads a turn"),
    ("environment variable", "set it where the run's engine starts and start that again, or in its program"),
    ("STEPFLOW_SECRET_KEY", "start the run's engine with the key that they were sealed with"),
    ("deadlock", "start another worker for the queue; `stepflow worker` gives back the slots of what waits for runs"),
    ("queue", "start a worker that serves it"),
    ("no live engine serves", "start an engine that has this component"),
)


_QUEUE = re.compile(r"queue '([\w.-]+)'")

_DEFAULT_SERVER = "127.0.0.1:7840"
"""Where a worker connects that is told nothing else."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that an explanation is drawn from."""

    record: RunRecord
    standing: Standing
    steps: Sequence[str]  # their ids; empty where the flow is stored no more
    ownership: Ownership | None
    engines: Sequence[EngineRecord]  # those that are alive
    children: Sequence[RunRecord]  # sub-runs that have not ended
    busy_below: int  # steps of sub-runs that hold slots of this run
    now: float
    default_concurrency: int | None
    lease_ttl_s: float
    server: str | None = None  # where it was asked; None: the run's engine says where it can be reached
    typed: Callable[[str], str] = str  # a command with what names the store or the server

    @property
    def server_flag(self) -> str:
        """What a worker is told so that it finds the run's server; empty: it does by itself, or nobody knows."""
        engine = self.ownership.engine if self.ownership is not None else None
        url = self.server or (engine.url if engine is not None else None)
        return f" --tasks-url {shlex.quote(url)}" if url and url != _DEFAULT_SERVER else ""

    def name(self, step: int) -> str:
        return self.steps[step] if step < len(self.steps) else f"#{step}"

    @property
    def blocker(self) -> "Callable[..., Blocker]":
        return partial(Blocker, run_id=self.record.id)


def blockers(facts: Facts) -> list[Blocker]:
    """The most important first; empty for a run that has ended or goes on."""
    if facts.record.status.is_terminal or facts.standing.has_ended:
        return []
    found = _unrecorded(facts) or [*_paused(facts), *_unowned(facts)] or _held(facts)
    if found:
        return found
    found = [*_waiting(facts), *_retrying(facts)]
    slots = _slots(facts)
    found += [*slots, *_inputs(facts)]
    if not slots:
        found += _running(facts)
    found += _sub_runs(facts)
    return found or _quiet(facts)


def holding(standing: Standing, waiting_for_sub_runs: Iterable[Place]) -> dict[Place, Attempt]:
    """The attempts that hold a slot: those that wait for something outside the engine give theirs back."""
    parents = set(waiting_for_sub_runs)
    return {
        place: attempt for place, attempt in standing.under_way.items() if not attempt.reason and place not in parents
    }


def parents_of(children: Iterable[RunRecord]) -> set[Place]:
    """The steps that started these runs."""
    return {(child.parent.item, child.parent.step) for child in children if child.parent is not None}


def _paused(facts: Facts) -> list[Blocker]:
    standing = facts.standing
    since = standing.paused_since
    if facts.record.status is not RunStatus.PAUSED and since is None:
        return []
    goes_on = f"; {plural(len(standing.under_way), 'step')} under way may still end" if standing.under_way else ""
    return [
        facts.blocker(
            kind=BlockerKind.PAUSED,
            message=f"it is paused, so no step begins{goes_on}",
            since=None if since is None else standing.known(since),
            remedy=facts.typed(f"stepflow runs resume {facts.record.id}"),
        )
    ]


def _unrecorded(facts: Facts) -> list[Blocker]:
    """What the store does not take is not seen in it either, so nothing else that it says can be relied on."""
    ownership = facts.ownership
    if ownership is None or ownership.engine is None or ownership.unanswered_since is None:
        return []
    return [
        facts.blocker(
            kind=BlockerKind.STORE,
            message=f"the store has not answered {_engine(ownership.engine)}, which wants to record what happened",
            since=ownership.unanswered_since,
            remedy="see that the store runs, has room, and that nothing locks its tables; nothing is lost meanwhile",
        )
    ]


def _unowned(facts: Facts) -> list[Blocker]:
    """A sub-run has the owner of its root, whose explanation says it."""
    ownership = facts.ownership
    if facts.record.parent is not None or ownership is None:
        return []
    if ownership.engine is None:
        return [_orphan(facts)]
    left = ownership.expires_in_s
    if left is None or left >= SILENT * facts.lease_ttl_s:
        return []
    engine = _engine(ownership.engine)
    if left <= 0:
        message = f"{engine} has not been heard of and its lease is over"
        return [facts.blocker(kind=BlockerKind.UNOWNED, message=message, remedy=_takeover(facts, ownership))]
    return [
        facts.blocker(
            kind=BlockerKind.UNOWNED,
            message=f"{engine} was not heard of lately: its lease expires in {duration(left)}",
            until=facts.now + left,
            remedy=_takeover(facts, ownership),
        )
    ]


def _held(facts: Facts) -> list[Blocker]:
    """Nothing of the run can begin where it is."""
    held = facts.standing.held
    if held is None:
        return []
    return [
        facts.blocker(
            kind=BlockerKind.WAITING,
            message=f"none of its steps can begin: {held.reason}",
            since=facts.standing.known(held.at),
            remedy=_known_remedy(facts, held.reason),
        )
    ]


def _known_remedy(facts: Facts, reason: str) -> str | None:
    remedy = next((remedy for word, remedy in KNOWN_REMEDIES if word in reason), None)
    queue = _QUEUE.search(reason)
    if remedy is None or queue is None or "deadlock" in reason:
        return remedy
    return f"{remedy}: stepflow worker MODULE:APP --queue {queue[1]}{facts.server_flag}"


def _orphan(facts: Facts) -> Blocker:
    record, standing = facts.record, facts.standing
    steps = len(standing.under_way)
    again = f"; what was under way runs again ({plural(steps, 'step')})" if steps else ""
    claims = f" (taken over {plural(record.claims, 'time')} since an engine last wrote to it)" if record.claims else ""
    return facts.blocker(
        kind=BlockerKind.UNOWNED,
        message=f"the engine that drove it is gone{claims}{again}",
        remedy=_takeover(facts, None),
        since=standing.known(standing.last_at) if standing.started is not None else None,
    )


def _takeover(facts: Facts, silent: Ownership | None) -> str:
    """Who will take the run over, or what has to be done so that somebody can."""
    record = facts.record
    if record.journal_format > JOURNAL_FORMAT:
        return f"its journal has format {record.journal_format}: start an engine of the version that wrote it, or newer"
    gone = "" if silent is None else silent.owner
    able = [engine for engine in facts.engines if engine.group == record.group and engine.owner != gone]
    if able:
        return f"{_engine(able[0])} takes it over within seconds"
    recover = f"stepflow recover {record.id}"
    recover = facts.typed(recover) if facts.server is None else f"{recover} --store …"
    return f'no engine of group "{record.group}" is alive to take it over: start one on this store, or run `{recover}`'


def _engine(engine: EngineRecord) -> str:
    place = f" ({engine.place})" if engine.place else ""
    return f"engine {engine.name or engine.owner}{place}"


def _waiting(facts: Facts) -> list[Blocker]:
    groups: dict[tuple[int, str], list[tuple[int, int]]] = {}
    parents = parents_of(facts.children)
    for (item, step), attempt in facts.standing.under_way.items():
        if attempt.reason and (item, step) not in parents:
            groups.setdefault((step, attempt.reason), []).append((attempt.waits_since, item))
    found = []
    for (step, reason), waiting in sorted(groups.items(), key=lambda entry: (min(entry[1]), entry[0])):
        since, item = min(waiting)
        found.append(
            facts.blocker(
                kind=BlockerKind.WAITING,
                message=f'step "{facts.name(step)}" of {_items(item, len(waiting))} waits: {reason}',
                since=facts.standing.known(since),
                remedy=_known_remedy(facts, reason),
                item=item,
                step=facts.name(step),
                count=len(waiting),
            )
        )
    return found


def _items(item: int, count: int) -> str:
    return f"item {item}" if count == 1 else f"item {item} and {count - 1:,} more"


def _retrying(facts: Facts) -> list[Blocker]:
    standing = facts.standing
    first: dict[int, tuple[float, int]] = {}
    count: dict[int, int] = {}
    for (item, step), retry in standing.retries.items():
        count[step] = count.get(step, 0) + 1
        first[step] = min(first.get(step, (retry.due, item)), (retry.due, item))
    return [_retry(facts, step, item, count[step]) for step, (_, item) in sorted(first.items(), key=lambda e: e[1])]


def _retry(facts: Facts, step: int, item: int, count: int) -> Blocker:
    retry = facts.standing.retries[item, step]
    due = facts.standing.known(retry.due)
    error = f" after {retry.error.code.value}: {retry.error.message}" if retry.error is not None else ""
    when = (
        "" if due is None else f" in {duration(due - facts.now)}" if due > facts.now else " as soon as a slot is free"
    )
    return facts.blocker(
        kind=BlockerKind.RETRYING,
        message=f'retry {retry.number - 1} of step "{facts.name(step)}" of {_items(item, count)} begins{when}{error}',
        until=due,
        item=item,
        step=facts.name(step),
        count=count,
    )


def _slots(facts: Facts) -> list[Blocker]:
    """Every slot is busy while something waits to begin."""
    standing = facts.standing
    asked = standing.started.max_concurrency if standing.started is not None else None
    limit = asked or (facts.default_concurrency if facts.record.parent is None else None)
    busy = holding(standing, parents_of(facts.children))
    if limit is None or len(busy) + facts.busy_below < limit or not _is_more_to_begin(standing, len(busy)):
        return []
    below = f", {facts.busy_below:,} by sub-runs" if facts.busy_below else ""
    slots = "its only slot is busy" if limit == 1 else f"all {limit:,} slots are busy"
    oldest = min(busy.items(), key=lambda entry: (entry[1].at, entry[0]), default=None)
    return [
        facts.blocker(
            kind=BlockerKind.SLOTS,
            message=f"{slots}: {_by_step(facts, busy)}{below}",
            since=None if oldest is None else standing.known(oldest[1].at),
            remedy="each is free again when its component answers; a run with a larger max_concurrency begins more",
            item=None if oldest is None else oldest[0][0],
            step=None if oldest is None else facts.name(oldest[0][1]),
            count=len(busy) + facts.busy_below,
        )
    ]


def _is_more_to_begin(standing: Standing, busy: int) -> bool:
    begun = len(standing.items)
    return standing.admitted - standing.ended - begun > 0 or begun > busy


def _by_step(facts: Facts, busy: Mapping[Place, Attempt]) -> str:
    """Steps by the age of their oldest attempt: `embed of item 12 and 2 more for 40 s, rank of item 9 for 3.1 s`."""
    found = []
    for step, (attempt, item, count) in _oldest_by_step(busy).items():
        age = "" if attempt.at == UNKNOWN else f" for {duration(facts.now - facts.standing.absolute(attempt.at))}"
        found.append(f'"{facts.name(step)}" of {_items(item, count)}{age}')
    return ", ".join(found)


def _oldest_by_step(busy: Mapping[Place, Attempt]) -> dict[int, tuple[Attempt, int, int]]:
    """By step its oldest attempt, the item of that, and how many there are; the step with the oldest first."""
    found: dict[int, tuple[Attempt, int, int]] = {}
    for (item, step), attempt in sorted(busy.items(), key=lambda entry: (entry[1].at, entry[0])):
        oldest, of, count = found.get(step, (attempt, item, 0))
        found[step] = (oldest, of, count + 1)
    return found


def _inputs(facts: Facts) -> list[Blocker]:
    standing = facts.standing
    if standing.started is None or standing.total is not None or facts.record.total is not None:
        return []
    if standing.admitted > standing.ended + len(standing.items):
        return []  # there is enough to begin with
    came = f"its inputs are still open: {plural(standing.admitted, 'item')} came in, {standing.ended:,} have ended"
    owner = facts.ownership.owner if facts.ownership is not None else ""
    is_gone = bool(standing.fed_by) and standing.fed_by != owner
    key, next_input = facts.record.key, standing.admitted
    again = (
        f"submit the same inputs again with the key {key}: it goes on at input {next_input:,}" if key else "cancel it"
    )
    return [
        facts.blocker(
            kind=BlockerKind.INPUTS,
            message=f"{came}; who sent them is gone with engine {standing.fed_by}" if is_gone else came,
            remedy=again if is_gone else f"whoever sends them goes on or closes them; if nobody does, {again}",
        )
    ]


def _running(facts: Facts) -> list[Blocker]:
    busy = holding(facts.standing, parents_of(facts.children))
    found = []
    for step, (attempt, item, count) in _oldest_by_step(busy).items():
        since = facts.standing.known(attempt.at)
        if since is not None and facts.now - since < QUIET_S:
            continue
        again = f" (attempt {attempt.number})" if attempt.number > 1 else ""
        found.append(
            facts.blocker(
                kind=BlockerKind.RUNNING,
                message=f'the component of step "{facts.name(step)}" has not answered for {_items(item, count)}{again}',
                since=since,
                remedy="it ends when the component answers; a `timeout` of the step would end it",
                item=item,
                step=facts.name(step),
                count=count,
            )
        )
    return found


def _sub_runs(facts: Facts) -> list[Blocker]:
    found = []
    for child in facts.children:
        link = child.parent
        if link is None:
            continue
        total = f" of {child.total:,}" if child.total is not None else ""
        found.append(
            facts.blocker(
                kind=BlockerKind.SUB_RUN,
                message=(
                    f'step "{facts.name(link.step)}" of item {link.item} waits for sub-run {child.id}, '
                    f"of which {child.succeeded + child.failed:,}{total} items have ended"
                ),
                since=child.created_at,
                item=link.item,
                step=facts.name(link.step),
            )
        )
    return found


def _quiet(facts: Facts) -> list[Blocker]:
    standing = facts.standing
    last = standing.known(standing.last_at)
    if standing.started is None or last is None or facts.now - last < QUIET_S or standing.under_way:
        return []
    engine = facts.ownership.engine if facts.ownership is not None else None
    who = f"{_engine(engine)} drives it" if engine is not None else "it is not known who drives it"
    return [
        facts.blocker(
            kind=BlockerKind.QUIET,
            message=f"no step is under way and nothing in the store says why; {who}, and its newest event is old",
            since=last,
            remedy="look at the logs of that engine: other runs or blocking code may keep it busy",
        )
    ]
