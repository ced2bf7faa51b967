"""Makes a virtual environment for a peer, so that what it needs never meets what the engine needs."""

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

PLACE = Path(__file__).parent / ".environments"

PACKAGES = {
    "dbos": ["dbos==3.4.0"],
    "langgraph": ["langgraph"],
    "upstream": ["stepflow-orchestrator==0.13.0", "stepflow-py==0.13.0"],
}


def python(name: str) -> Path:
    """The interpreter of a peer's environment, made and filled if it is not there yet."""
    place = PLACE / name
    interpreter = place / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    done = place / "installed.json"
    if not done.exists():
        print(f"making an environment with {', '.join(PACKAGES[name])} …", file=sys.stderr)
        venv.create(place, with_pip=True, clear=True)
        command = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name]]
        subprocess.run(command, check=True, stdout=sys.stderr)
        done.write_text(json.dumps(PACKAGES[name]))
    return interpreter


def measure(name: str, script: str, *arguments: str, timeout_s: float = 900) -> list[dict[str, Any]]:
    """Run a peer's script; what it measured is one JSON object a line of its output."""
    command = [python(name), Path(__file__).parent / script, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout_s)
    if done.returncode != 0:
        raise RuntimeError(f"{script} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
