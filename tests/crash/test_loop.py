"""Engines are killed for a while, in processes of their own, and nothing is lost or done twice."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LAST_LINE = re.compile(
    r"kills=(?P<kills>\d+) lost=(?P<lost>\d+) duplicated=(?P<duplicated>\d+)"
    r" recover_p50_s=(?P<p50>\d+\.\d+) recover_p99_s=(?P<p99>\d+\.\d+)"
)


@pytest.mark.slow
@pytest.mark.parametrize(("store", "engines"), [("sqlite", 1), ("postgres", 1), ("postgres", 3)])
def test_nothing_is_lost_or_done_twice_by_engines_that_are_killed_again_and_again(store: str, engines: int) -> None:
    command = [sys.executable, HERE / "loop.py", "--minutes", "0.6", "--store", store, "--engines", str(engines)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=400)

    last = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert last is not None, done.stdout + done.stderr
    assert int(last["kills"]) >= 3
    assert (int(last["lost"]), int(last["duplicated"])) == (0, 0), done.stdout
    assert done.returncode == 0
