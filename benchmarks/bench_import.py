"""How long does `import stepflow` take in a fresh process, and what does it load?

The last line of the output is one JSON object. See README.md beside this file.
"""

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

PROBE = """
import json, sys, time
before = set(sys.modules)
started = time.perf_counter()
{statement}
elapsed = time.perf_counter() - started
print(json.dumps([elapsed, sorted(set(sys.modules) - before)]))
"""

STATEMENTS = {"import": "import stepflow", "engine": "import stepflow; stepflow.Engine"}


def probe(statement: str) -> tuple[float, list[str]]:
    """Seconds that a statement takes in a fresh process, and the modules it adds."""
    command = [sys.executable, "-c", PROBE.format(statement=statement)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    elapsed, modules = json.loads(done.stdout)
    return elapsed, modules


def packages(modules: list[str]) -> list[str]:
    """The installed packages among them, apart from the standard library."""
    tops = dict.fromkeys(module.partition(".")[0] for module in modules)
    return [top for top in tops if top not in sys.stdlib_module_names]


def measure(repeat: int) -> dict[str, Any]:
    found: dict[str, Any] = {"benchmark": "import", "rounds": repeat}
    for name, statement in STATEMENTS.items():
        probe(statement)  # writes the byte code, if that isn't there yet
        rounds = [probe(statement) for _ in range(repeat)]
        found[f"{name}_ms"] = round(statistics.median(elapsed for elapsed, _ in rounds) * 1000, 1)
        found[f"{name}_modules"] = len(rounds[0][1])
        found[f"{name}_packages"] = packages(rounds[0][1])
    found["modules"] = probe(STATEMENTS["import"])[1]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="only the JSON line, no table")
    given = parser.parse_args()
    found = measure(given.repeat)
    if not given.json:
        for name, statement in STATEMENTS.items():
            loaded = ", ".join(found[f"{name}_packages"])
            print(f"{statement:34} {found[f'{name}_ms']:7.1f} ms  {found[f'{name}_modules']} modules, of: {loaded}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
