"""How long an attempt may be unclaimed, may take, and may have a worker that is not heard of."""

from math import inf

import pytest
from queue_bench import queued_of

from stepflow_grpc.queues.entry import Entry
from stepflow_grpc.queues.queue import Queue
from stepflow_grpc.queues.records import WorkerKind
from stepflow_grpc.queues.stream import Worker


def claimed(kind: WorkerKind, *, heard_at: float = 10.0, gone_at: float | None = None, **limits: float) -> Entry:
    """An attempt that was claimed at 10; `gone_at`: when the last stream of its worker was lost."""
    entry = Entry(queued_of(1, **limits), Queue("q"), 1, 4.0)
    entry.claimant = Worker("w", kind, heard_at)
    entry.claimed_at = entry.heard_at = 10.0
    if gone_at is None:
        entry.claimant.streams = {object(): None}  # type: ignore[dict-item]
    else:
        entry.claimant.gone_at = gone_at
    return entry


@pytest.mark.parametrize(("timeout_s", "at"), [(None, inf), (0.0, 4.0), (30.0, 34.0)])
def test_until_it_is_claimed_its_queue_timeout_counts(timeout_s: float | None, at: float) -> None:
    entry = Entry(queued_of(1, queue_timeout_s=timeout_s, execution_timeout_s=1.0), Queue("q"), 1, 4.0)

    assert entry.deadline() == at


@pytest.mark.parametrize(("timeout_s", "at"), [(1.0, 11.0), (60.0, 20.0)])
def test_from_its_claim_on_the_execution_timeout_counts_or_silence_whichever_is_first(
    timeout_s: float, at: float
) -> None:
    entry = claimed(WorkerKind.UPSTREAM, queue_timeout_s=1.0, execution_timeout_s=timeout_s)

    assert entry.deadline() == at


@pytest.mark.parametrize(
    ("kind", "heard_at", "gone_at", "ends"),
    [
        (WorkerKind.OURS, 10.0, None, 13.0),
        (WorkerKind.OURS, 15.0, None, 18.0),
        (WorkerKind.OURS, 15.0, 15.0, 17.0),
        (WorkerKind.OURS, 15.0, 17.5, 18.0),
        (WorkerKind.OURS, 15.4, 15.0, 17.0),
        (WorkerKind.OURS, 15.6, 15.0, 18.6),
        (WorkerKind.UPSTREAM, 15.0, None, 20.0),
        (WorkerKind.UPSTREAM, 15.0, 10.5, 13.0),
        (WorkerKind.UPSTREAM, 15.0, 12.5, 13.5),
        (WorkerKind.UPSTREAM, 15.0, 19.5, 20.0),
    ],
    ids=[
        "ours: from what was said of the task",
        "ours: or by the worker as a whole",
        "ours: killed just after it spoke",
        "ours: killed when it was nearly given up",
        "ours: its last words give it no more time",
        "ours: it spoke long after its stream was lost",
        "upstream: only what it says of the task counts",
        "upstream: without a stream as ours",
        "upstream: has a second to come back",
        "upstream: and no longer than with one",
    ],
)
def test_a_worker_is_dead_after_a_silence(
    kind: WorkerKind, heard_at: float, gone_at: float | None, ends: float
) -> None:
    entry = claimed(kind, heard_at=heard_at, gone_at=gone_at)

    assert entry.silence_ends() == pytest.approx(ends)
