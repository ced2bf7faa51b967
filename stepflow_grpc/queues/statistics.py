"""How queues and workers are, for `explain`, metrics and whoever looks."""

from stepflow_grpc.queues.queue import Queue
from stepflow_grpc.queues.records import QueueStatistics, WorkerStatistics
from stepflow_grpc.queues.stream import Worker


def queue_statistics(queue: Queue, now: float) -> QueueStatistics:
    workers = queue.workers
    oldest = next((entry.entered_at for entry in queue.unclaimed), now)
    return QueueStatistics(
        name=queue.name,
        depth=len(queue.unclaimed),
        claimed=queue.claimed,
        workers=len(workers),
        slots=sum(worker.slots for worker in workers),
        oldest_s=now - oldest,
        finished=queue.finished,
        timed_out=queue.timed_out,
    )


def worker_statistics(worker: Worker, now: float) -> WorkerStatistics:
    return WorkerStatistics(
        id=worker.id,
        kind=worker.kind,
        queues=tuple(dict.fromkeys(stream.queue.name for stream in worker.streams)),
        claimed=len(worker.claimed),
        unclaimed=sum(len(stream.out) for stream in worker.streams),
        slots=worker.slots,
        silent_s=now - worker.heard_at,
        report=worker.report,
        held_up_s=worker.held_up_s,
        stack=worker.stack,
    )
