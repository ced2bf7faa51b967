"""`stepflow serve` and the workers that it starts: real processes all of them."""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificate_authority import Authority
from polled import until
from serve_process import Serving, is_alive

from stepflow_grpc.wire import from_value, to_struct, to_value

pytestmark = pytest.mark.anyio

COMPONENTS = """
import os, time
from pathlib import Path
import stepflow

app = stepflow.Components()


@app.component("/where")
def where(n: int) -> dict:
    names = ("STEPFLOW_TRANSPORT", "STEPFLOW_TASKS_URL", "STEPFLOW_QUEUE_NAME", "STEPFLOW_BLOB_URL", "MINE")
    print("worked on", n)
    return {"cwd": os.getcwd(), **{name: os.environ.get(name) for name in names}}


@app.component("/gate")
def gate(n: int) -> int:
    with open("begun", "a") as file:
        file.write(f"{n} {os.getpid()}\\n")
    while not Path("open").exists():
        time.sleep(0.01)
    return n * 2
"""

CONFIG: dict[str, Any] = {
    "plugins": {"workers": {"type": "grpc", "queueName": "cpu"}},
    "routes": {"/gpu": [{"plugin": "workers", "queueName": "gpu"}], "/": [{"plugin": "workers"}]},
}
WORKER = ["-m", "stepflow.cli.main", "worker", "components:app"]

Serve = Callable[..., Serving]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    (tmp_path / "components.py").write_text(COMPONENTS)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    served: list[Serving] = []

    def start(*arguments: str, **options: Any) -> Serving:
        found = Serving(folder, *arguments, "--port", "0", **options)
        served.append(found)
        return found

    yield start
    for each in served:
        workers = each.workers()
        each.close()
        until(lambda: not any(is_alive(pid) for pid in workers), "no worker outlives its server")  # noqa: B023


async def begin(calls: Any, component: str, count: int) -> str:
    flow = {"steps": [{"id": "d", "component": component, "input": {"$input": "$"}}], "output": {"$step": "d"}}
    flow_id = (await calls("FlowsService", "StoreFlow", flow=to_struct(flow))).flow_id
    inputs = [to_value(n) for n in range(count)]
    run = await calls("RunsService", "CreateRun", flow_id=flow_id, input=inputs)
    found: str = run.summary.run_id
    return found


async def results(calls: Any, run_id: str) -> list[Any]:
    await calls("RunsService", "GetRun", run_id=run_id, wait=True)
    items = (await calls("RunsService", "GetRunItems", run_id=run_id)).results
    return [from_value(item.output) if item.HasField("output") else item.error_message for item in items]


def begun(folder: Path) -> list[tuple[int, int]]:
    """Items that began, and the processes they began in."""
    file = folder / "begun"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(n), int(pid)) for n, pid in (line.split() for line in lines)]


async def test_a_pool_serves_its_queue_and_all_of_it_ends_with_the_server(serve: Serve, call: Any) -> None:
    served = serve("--config", "config.json", "--pool", "cpu=components:app:2")
    async with call(served.port) as calls:
        (found,) = await results(calls, await begin(calls, "/where", 1))
    served.until_said(r"^queue cpu: 2 workers, 8 slots$")
    pids = served.children()
    code, err = served.stop()

    assert found["STEPFLOW_QUEUE_NAME"] == "cpu"
    assert "worked on 0" in err, "what components print is shown"
    assert len(pids) == 3, "two workers, and what looks after orphans"
    assert code == 0
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.slow
async def test_what_is_shown_follows_who_serves_the_queues(serve: Serve, folder: Path) -> None:
    served = serve("--config", "config.json", "--pool", "cpu=components:app")
    served.until_said(r"^queue cpu: 1 worker, 4 slots$")
    (line,) = served.until_said(r"^gpu .* type: stepflow (worker components:app --queue gpu --tasks-url \S+)$")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stepflow.cli.main", *line.split(), cwd=folder, stderr=asyncio.subprocess.DEVNULL
    )
    served.until_said(r"^queue gpu: 1 worker, 4 slots$")
    process.terminate()
    await process.wait()
    served.until_said(r"^queue gpu: nobody serves it; type: stepflow worker components:app --queue gpu")

    assert served.said == [f'{{"port":{served.port}}}\n'], "stdout keeps to the port"
    assert "QUEUE  ROUTES  WORKERS  SLOTS" in served.err
    assert f"serving on 127.0.0.1:{served.port}; Ctrl-C stops it\nQUEUE" in served.err


@pytest.mark.slow
async def test_a_command_is_started_where_the_configuration_is_with_the_variables_of_the_reference(
    serve: Serve, call: Any, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plugin = {"type": "grpc", "queueName": "own", "command": sys.executable, "args": WORKER, "env": {"MINE": "own"}}
    (folder / "c.json").write_text(json.dumps({"plugins": {"w": plugin}, "routes": {"/": [{"plugin": "w"}]}}))
    served = serve("--config", "c.json")  # which has no directory part
    async with call(served.port) as calls:
        (found,) = await results(calls, await begin(calls, "/where", 1))

    url = f"127.0.0.1:{served.port}"
    assert found == {
        "cwd": str(folder),
        "STEPFLOW_TRANSPORT": "grpc",
        "STEPFLOW_TASKS_URL": url,
        "STEPFLOW_QUEUE_NAME": "own",
        "STEPFLOW_BLOB_URL": url,
        "MINE": "own",
    }


@pytest.mark.slow
async def test_a_dead_worker_is_replaced_once_and_all_it_had_in_hand_is_done(
    serve: Serve, call: Any, folder: Path
) -> None:
    served = serve("--config", "config.json", "--pool", "cpu=components:app", "--pool", "gpu=components:app")
    async with call(served.port) as calls:
        run_id = await begin(calls, "/gate", 4)
        until(lambda: len(begun(folder)) == 4, "four tasks are in flight at one worker")
        before = served.workers()
        (dead,) = {pid for _, pid in begun(folder)}
        os.kill(dead, signal.SIGKILL)
        until(lambda: len(begun(folder)) == 8, "all four have begun again")
        (folder / "open").touch()
        found = await results(calls, run_id)
        (heir,) = {pid for _, pid in begun(folder)[4:]}

    assert found == [0, 2, 4, 6]
    assert set(served.workers()) == {*before, heir} - {dead}, "one died, one came, the other pool is untouched"
    assert served.err.count("died after") == 1
    assert "worker cpu/1 (components:app) died after" in served.err
    assert "killed by SIGKILL; it starts again" in served.err


@pytest.mark.slow
async def test_a_pool_that_crashes_as_it_starts_is_seen_in_the_log_the_table_and_the_waiting_steps(
    serve: Serve, call: Any, folder: Path
) -> None:
    served = serve("--config", "config.json", "--pool", "cpu=compnents:app:2", "--store", "runs.db")
    async with call(served.port) as calls:
        run_id = await begin(calls, "/where", 1)
        served.until_said(r"^\[cpu/1\] error: .*there is no module \"compnents\"")
        served.until_said(r"worker cpu/1 \(compnents:app\) died after [0-9.]+ s: exit code 1 \(2 times in a row\)")
        served.until_said(r"^queue cpu: its pool crashes as it starts: exit code 1 \(2 of 2 workers\)$")
        health = await calls("HealthService", "HealthCheck")
        reason = "no worker serves queue 'cpu': its pool crashes as it starts: exit code 1 (2 of 2 workers)"
        until(lambda: reason in explained(folder, run_id), "the waiting step says why")
        await calls("RunsService", "CancelRun", run_id=run_id)

    assert health.status == "healthy"


def explained(folder: Path, run_id: str) -> str:
    """What `stepflow runs explain` says of a run in the store."""
    line = [sys.executable, "-m", "stepflow.cli.main", "runs", "explain", run_id, "--store", "runs.db"]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.slow
async def test_workers_end_their_tasks_before_the_server_does_and_within_its_time(
    serve: Serve, call: Any, folder: Path
) -> None:
    served = serve("--config", "config.json", "--pool", "cpu=components:app", "--store", "runs.db")
    async with call(served.port) as calls:
        run_id = await begin(calls, "/gate", 1)
        until(lambda: begun(folder), "the task is at work")
        served.process.send_signal(signal.SIGTERM)
        served.until_said(r"^\[cpu/1\] stopping")
        (folder / "open").touch()
        served.process.wait(60)
    again = serve("--config", "config.json", "--store", "runs.db")
    async with call(again.port) as calls:
        found = await results(calls, run_id)

    assert found == [0]
    assert len(begun(folder)) == 1, "it was not run again"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_ends_within_the_launchers_time_though_a_worker_does_not(
    serve: Serve, call: Any, number: int
) -> None:
    stubborn = {"command": "sh", "args": ["-c", "trap '' TERM; echo pid $$$$; while :; do sleep 1; done"]}
    served = serve("--config-stdin", stdin=json.dumps({**CONFIG, "pools": {"cpu": stubborn}}))
    (pid,) = served.until_said(r"^\[cpu/1\] pid (\d+)$")
    served.process.send_signal(number)

    assert served.process.wait(60) == 0
    assert "1 of 1 workers did not end within 4 s and are killed" in served.err
    assert not is_alive(int(pid))


@pytest.mark.slow
def test_no_worker_outlives_a_server_that_is_killed_or_told_twice(serve: Serve) -> None:
    for numbers in ([signal.SIGKILL], [signal.SIGINT, signal.SIGINT]):
        stubborn = {
            "command": "sh",
            "args": ["-c", "trap '' TERM; sleep 1000 & echo pid $!; echo pid $$$$; wait; wait"],
        }
        served = serve("--config-stdin", stdin=json.dumps({**CONFIG, "pools": {"cpu": stubborn}}))
        pids = served.until_said(r"^\[cpu/1\] pid (\d+)$", times=2)
        for number in numbers:
            served.process.send_signal(number)
            if len(numbers) == 2:
                served.until_said("^stopping$")
        served.process.wait(60)

        until(lambda: not any(is_alive(int(pid)) for pid in pids), "they have ended")  # noqa: B023
        assert served.process.returncode != 0


@pytest.mark.slow
async def test_pools_of_the_configuration_give_way_to_those_of_the_command_line(serve: Serve) -> None:
    pools = {"cpu": {"app": "components:app", "replicas": 3, "maxConcurrent": 2}, "gpu": {"app": "nothing:app"}}
    served = serve("--config-stdin", "--pool", "gpu=components:app", stdin=json.dumps({**CONFIG, "pools": pools}))

    served.until_said(r"^queue cpu: 3 workers, 6 slots$")
    served.until_said(r"^queue gpu: 1 worker, 4 slots$")
    assert "nothing" not in served.err


@pytest.mark.slow
def test_a_server_that_asks_for_tokens_and_speaks_tls_lets_its_own_workers_in(serve: Serve, folder: Path) -> None:
    (folder / "tokens").write_text("first-token\nsecond-token\n")
    certificate, key = (os.path.relpath(file, folder) for file in Authority(folder).sign("server"))
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (folder / "components.py").rename(elsewhere / "components.py")
    config = {**CONFIG, "pools": {"cpu": {"app": "components:app"}}, "workingDirectory": "elsewhere"}

    doors = ("--token-file", "tokens", "--tls-cert", certificate, "--tls-key", key)
    served = serve("--config-stdin", *doors, stdin=json.dumps(config))

    served.until_said(r"^queue cpu: 1 worker, 4 slots$")
    served.until_said(r"^gpu .* --queue gpu --tasks-url https://127.0.0.1:\d+$")
    assert "first-token" not in served.err


@pytest.mark.slow
def test_the_first_hour_with_workers_goes_as_it_is_typed(folder: Path) -> None:
    def typed(line: str, where: Path, **env: str) -> str:
        command = [sys.executable, "-m", "stepflow.cli.main", *shlex.split(line)]
        done = subprocess.run(command, cwd=where, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    typed("init hello", folder)
    hello = folder / "hello"
    line = "--config config.prod.yml --pool cpu=components:app:2"
    served = Serving(hello, *line.split(), env={"STEPFLOW_PORT": "0"})
    try:
        url = f"127.0.0.1:{served.port}"
        served.until_said(r"^queue cpu: 2 workers, 8 slots$")
        typed("submit flow.yaml --inputs inputs.jsonl --output out.jsonl", hello, STEPFLOW_URL=url)
        code, err = served.stop()
    finally:
        served.close()
    typed("run flow.yaml --app components:app --inputs inputs.jsonl --output here.jsonl", hello)

    assert (hello / "out.jsonl").read_text() == (hello / "here.jsonl").read_text()
    assert code == 0
    assert "gpu    /gpu/{*component}  0        0      nobody serves it; type: stepflow worker components:app" in err


@pytest.mark.slow
async def test_a_worker_whose_words_nobody_reads_does_not_hold_the_server_up(folder: Path, call: Any) -> None:
    endless = {"command": "sh", "args": ["-c", "trap '' TERM; while :; do seq 10000; done"]}
    line = [sys.executable, "-m", "stepflow.cli.main", "serve", "--config-stdin", "--port", "0", "--grace", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({**CONFIG, "pools": {"cpu": endless}}))
        process.stdin.close()
        port = json.loads(process.stdout.readline())["port"]
        async with call(port) as calls:
            for _ in range(200):
                assert (await calls("HealthService", "HealthCheck")).status == "healthy"
        process.terminate()
        code = process.wait(60)

    assert code == 0
