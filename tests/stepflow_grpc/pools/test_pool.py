from pathlib import Path

import pytest

from stepflow_grpc.pools.pool import Pool, PoolError, read_pool


@pytest.mark.parametrize(
    ("text", "queue", "app", "replicas"),
    [
        ("cpu=components:app", "cpu", "components:app", 1),
        ("cpu=components:app:2", "cpu", "components:app", 2),
        ("big gpu=my.pkg.mod:all.of_it:20", "big gpu", "my.pkg.mod:all.of_it", 20),
    ],
)
def test_a_pool_is_read_from_its_short_form(text: str, queue: str, app: str, replicas: int) -> None:
    pool = read_pool(text, Path("/srv"))

    assert pool == Pool(queue, app, replicas=replicas, directory=Path("/srv"))


@pytest.mark.parametrize("text", ["cpu", "cpu=", "=m:app", "cpu=m", "cpu=m:app:", "cpu=m:app:x", "cpu=m:app:2:3", ""])
def test_another_form_is_refused_with_the_right_one(text: str) -> None:
    with pytest.raises(PoolError, match=r"QUEUE=MODULE:REGISTRY\[:REPLICAS\]"):
        read_pool(text)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda: Pool("", "m:app"), "name of its queue"),
        (lambda: Pool("q"), "either an app or a command"),
        (lambda: Pool("q", "m:app", command=("x",)), "either an app or a command"),
        (lambda: read_pool("q=m:app:0"), "replicas has to be at least 1"),
        (lambda: Pool("q", "m:app", max_concurrent=0), "max_concurrent has to be at least 1"),
    ],
)
def test_a_pool_that_cannot_work_is_refused(made: "object", words: str) -> None:
    with pytest.raises(PoolError, match=words):
        made()  # type: ignore[operator]


def test_a_worker_finds_its_server_and_its_queue_by_the_environment_which_the_pool_may_change() -> None:
    pool = Pool("gpu", command=("w",), max_concurrent=2, env={"STEPFLOW_BLOB_URL": "blobs:1", "X": "y"})

    env = pool.environment("127.0.0.1:7840", {"PATH": "/bin", "STEPFLOW_WORKER_ID": "mine", "X": "z"}, "w-1")

    assert env == {
        "PATH": "/bin",
        "STEPFLOW_TRANSPORT": "grpc",
        "STEPFLOW_TASKS_URL": "127.0.0.1:7840",
        "STEPFLOW_QUEUE_NAME": "gpu",
        "STEPFLOW_WORKER_ID": "w-1",
        "STEPFLOW_BLOB_URL": "blobs:1",
        "STEPFLOW_MAX_CONCURRENT": "2",
        "PYTHONUNBUFFERED": "1",
        "X": "y",
    }


def test_the_workers_of_an_app_are_ours_and_say_so_where_processes_are_listed() -> None:
    line = Pool("gpu", "m:app", max_concurrent=1).arguments()

    assert line[1:] == ["-m", "stepflow.cli.main", "worker", "m:app", "--queue", "gpu", "--max-concurrent", "1"]


def test_workers_of_a_pool_may_find_out_their_slots() -> None:
    pool = Pool("q", "m:app", max_concurrent="auto")

    assert pool.arguments()[-2:] == ["--max-concurrent", "auto"]
    assert pool.variables("127.0.0.1:1")["STEPFLOW_MAX_CONCURRENT"] == "auto"
