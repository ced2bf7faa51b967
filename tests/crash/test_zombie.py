"""An owner that was stopped while others took its runs over writes nothing to them when it wakes up."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LAST_LINE = re.compile(
    r"stops=(?P<stops>\d+) written=(?P<written>\d+) begun=(?P<begun>\d+) lost=(?P<lost>\d+)"
    r" duplicated=(?P<duplicated>\d+) takeover_max_s=(?P<takeover_max_s>\d+\.\d+)"
)


@pytest.mark.slow
@pytest.mark.parametrize("times", [5, 50])
def test_an_owner_that_is_stopped_at_any_instant_writes_nothing_after_it_was_replaced(times: int) -> None:
    command = [sys.executable, HERE / "zombie.py", "--times", str(times), "--victims", "4"]

    done = subprocess.run(command, capture_output=True, text=True, timeout=900)

    last = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert last is not None, done.stdout + done.stderr
    assert int(last["stops"]) >= times
    assert [int(last[name]) for name in ("written", "begun", "lost", "duplicated")] == [0, 0, 0, 0], done.stdout
    assert float(last["takeover_max_s"]) <= 10
    assert done.returncode == 0
