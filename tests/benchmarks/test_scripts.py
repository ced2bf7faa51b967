"""The benchmarks run, and their last line says what their readers look for. Whether it is fast, nobody asks here."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def last_line(script, *arguments):
    command = [sys.executable, BENCHMARKS / script, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
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
