import msgspec

from stepflow_grpc.pools.board import (
    CONNECTS_WITHIN_S,
    QueueRow,
    Service,
    change,
    queue_rows,
    queue_states,
    table,
    why_unserved,
)
from stepflow_grpc.pools.pool import Pool
from stepflow_grpc.pools.pools import PoolState
from stepflow_grpc.pools.restarts import Death
from stepflow_grpc.queues.records import QueueStatistics, Statistics, WorkerKind, WorkerStatistics

CPU = Pool("cpu", "m:app", replicas=2)


def statistics(name: str, workers: int = 0, slots: int = 0) -> QueueStatistics:
    return QueueStatistics(
        name=name, depth=0, claimed=0, workers=workers, slots=slots, oldest_s=0.0, finished=0, timed_out=0
    )


def state(pool: Pool = CPU, *, crashing: int = 0, oldest_s: float = 1.0, **more: object) -> PoolState:
    last = Death("exit code 1", 5.0, 0.1) if crashing else None
    return PoolState(pool, pool.replicas - crashing, crashing, crashing, oldest_s, last)


def row(workers: int = 0, *pools: PoolState, routes: tuple[str, ...] = ("/",)) -> QueueRow:
    return QueueRow("cpu", routes, workers, workers * 4, pools)


def test_the_table_shows_who_serves_a_queue_and_what_to_type_where_nobody_does() -> None:
    routes = {"gpu": ["/ml/{*component}", "/gpu"], "cpu": ["/{*component}"]}

    lines = table(queue_rows(routes, [statistics("gpu"), statistics("cpu", 1, 4)], [state()]))

    assert lines == [
        "QUEUE  ROUTES                 WORKERS  SLOTS",
        "gpu    /ml/{*component} /gpu  0        0      nobody serves it; type: stepflow worker m:app --queue gpu",
        "cpu    /{*component}          1 of 2   4",
    ]


def test_what_to_type_names_the_server_where_it_is_not_at_the_usual_place() -> None:
    (_, line) = table([QueueRow("gpu", ("/",))], "https://127.0.0.1:7840")

    assert line.endswith("type: stepflow worker MODULE:APP --queue gpu --tasks-url https://127.0.0.1:7840")


def test_a_queue_that_matters_to_nobody_is_not_shown() -> None:
    rows = queue_rows({}, [statistics("default"), statistics("own", 1, 4)], [state()])

    assert [each.queue for each in rows] == ["cpu", "own"]
    assert table([]) == []


def test_a_queue_that_no_route_leads_to_is_said_to_be_one() -> None:
    lines = table([row(2, state(), routes=())])

    assert lines[1] == "cpu    none    2 of 2   8      no route leads to it"


def test_each_state_of_a_queue_is_told_from_the_others() -> None:
    assert row(2, state()).service is Service.SERVED
    assert row(3, state()).service is Service.SERVED
    assert row(1, state()).service is Service.PARTLY
    assert row(1, state(crashing=1)).service is Service.CRASHING
    assert row(0, state()).service is Service.STARTING
    assert row(0, state(oldest_s=CONNECTS_WITHIN_S + 1)).service is Service.SILENT
    assert row(0).service is Service.UNSERVED
    assert row(1).service is Service.SERVED


def test_a_change_is_one_line() -> None:
    rows = [row(2, state())]

    assert change(rows[0], rows) == "queue cpu: 2 workers, 8 slots"
    assert change(row(1, state()), rows) == "queue cpu: 1 of 2 workers, 4 slots"
    assert change(row(1), rows) == "queue cpu: 1 worker, 4 slots"
    assert change(QueueRow("cpu", ("/",), workers=1, slots=1), rows) == "queue cpu: 1 worker, 1 slot"
    assert change(row(0), rows) == "queue cpu: nobody serves it; type: stepflow worker m:app --queue cpu"
    assert (
        change(row(0, state(crashing=2)), rows)
        == "queue cpu: its pool crashes as it starts: exit code 1 (2 of 2 workers)"
    )


def test_steps_that_wait_are_told_what_is_the_matter_with_the_pool() -> None:
    assert why_unserved(row(0, state(crashing=2))) == "its pool crashes as it starts: exit code 1 (2 of 2 workers)"
    assert why_unserved(row(0, state(oldest_s=31.0))) == ("its pool has not connected within 30 s (2 of 2 workers run)")
    for each in (row(0), row(0, state()), row(1, state(crashing=1))):
        assert why_unserved(each) is None


def worker(kind: WorkerKind, unclaimed: int, queue: str = "cpu") -> WorkerStatistics:
    return WorkerStatistics(
        id="w", kind=kind, queues=(queue,), claimed=0, unclaimed=unclaimed, slots=4, silent_s=0.0, report=None
    )


def test_what_a_worker_of_ours_was_sent_is_at_work_and_what_another_was_sent_waits() -> None:
    depths = [
        msgspec.structs.replace(statistics(name, 2, 8), depth=10, claimed=1, oldest_s=3.0) for name in ("cpu", "gpu")
    ]
    workers = [worker(WorkerKind.OURS, 4), worker(WorkerKind.OURS, 2), worker(WorkerKind.UPSTREAM, 5, "gpu")]
    rows = queue_rows({"cpu": ["/"], "gpu": ["/g"]}, depths, [])

    cpu, gpu = queue_states(rows, Statistics(queues=depths, workers=workers), "127.0.0.1:7840")

    assert (cpu.waiting, cpu.busy, cpu.slots, cpu.oldest_s) == (4, 7, 8, 3.0)
    assert (gpu.waiting, gpu.busy) == (10, 1)
