"""The benchmarks run, and their last line says what their readers look for. Whether it is fast, nobody asks here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def last_line(script, *arguments):
    command = [sys.executable, BENCHMARKS / script, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=240)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_batch_is_measured_beside_the_bare_loop():
    shape = ["--store", "memory", "--items", "200", "--steps", "3"]

    found = last_line("bench_batch.py", *shape, "--repeat", "1", "--singles", "3", "--json")

    assert found["items"] == 200
    for name in ("steps_per_s", "runs_per_s", "p50_ms", "peak_rss_mb", "limit_steps_per_s", "ratio"):
        assert found[name] > 0


def test_growth_is_measured_up_to_the_size_that_was_asked_for():
    found = last_line("bench_growth.py", "--max-items", "1000", "--steps", "1", "--json")

    assert [size["items"] for size in found["sizes"]] == [1000]
    assert found["to_smallest"] == 1.0


def test_the_import_is_measured_with_what_it_loads():
    found = last_line("bench_import.py", "--repeat", "1", "--json")

    assert "stepflow" in found["modules"]
    assert found["import_ms"] > 0


STORES = ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)]


@pytest.mark.parametrize("store", STORES)
def test_a_durable_batch_is_measured_beside_bare_group_commits(store):
    shape = ["--store", store, "--items", "200", "--repeat", "1"]

    found = last_line("bench_durable.py", *shape, "--no-peers", "--json")

    assert found["store"] == store
    for name in ("steps_per_s", "limit_steps_per_s", "ratio", "peak_rss_mb"):
        assert found[name] > 0


@pytest.mark.parametrize("store", ["memory", *STORES])
def test_single_runs_are_measured_beside_a_bare_commit(store):
    found = last_line("bench_latency.py", "--store", store, "--singles", "10", "--repeat", "1", "--json")

    assert [run["steps"] for run in found["runs"]] == [1, 10]
    assert all(run["p99_ms"] >= run["p50_ms"] > 0 for run in found["runs"])
    assert ("commit" in found) == (store != "memory")


@pytest.mark.parametrize("store", STORES)
def test_recovery_is_measured_from_a_kill_to_the_last_step_that_runs_again(store):
    found = last_line("bench_recovery.py", "--store", store, "--items", "20", "--runs", "2", "--repeat", "1", "--json")

    assert found["items"] == 20
    assert 0 < found["open_s"] <= found["all_steps_s"] < found["all_ended_s"]
    assert 0 < found["first_step_s"] <= found["all_steps_s"]


@pytest.mark.parametrize("script", sorted(path.name for path in BENCHMARKS.glob("bench_*.py")))
def test_every_benchmark_says_what_it_can_be_told(script):
    done = subprocess.run(
        [sys.executable, BENCHMARKS / script, "--help"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=240,
    )

    assert done.stdout.startswith(f"usage: {script}")


@pytest.mark.slow
def test_a_pool_is_measured_beside_what_its_steps_would_take_alone():
    found = last_line("bench_pool.py", "--items", "20", "--step-ms", "10", "--pools", "2x1", "--repeat", "1", "--json")

    (pool,) = found["pools"]
    assert (pool["processes"], pool["slots"], pool["ideal_s"]) == (2, 1, 0.1)
    assert pool["seconds"] > pool["ideal_s"]


@pytest.mark.slow
def test_a_queue_is_measured_from_end_to_end():
    found = last_line("bench_queue.py", "--items", "500", "--repeat", "1", "--singles", "10", "--json")

    assert found["items"] == 500
    for name in ("tasks_per_s", "server_us_per_task", "p50_ms", "p99_ms"):
        assert found[name] > 0


@pytest.mark.slow
def test_a_queue_is_measured_beside_a_flooded_and_a_dead_one():
    found = last_line("bench_queue.py", "--flood", "--items", "500", "--repeat", "1", "--singles", "10", "--json")

    for name in ("alone_p99_ms", "flooded_p99_ms", "dead_p99_ms", "flooded_ratio", "dead_ratio"):
        assert found[name] > 0
