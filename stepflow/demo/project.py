"""The demo as a small project of the user's own."""

import shutil
from errno import EEXIST
from pathlib import Path

import msgspec

from stepflow.demo.inventory import take_inventory

COPIED = ("module.yaml", "rank.yaml", "components.py")

README = """\
# An audit of Python source

`module.yaml` says what is done with one file, `rank.yaml` with all the answers together; `components.py` holds the
functions that they call; `inputs.jsonl` names the files that were installed when this was written, one a line.

```sh
stepflow run module.yaml --app /data=components:data --app /python=components:python --app /ml=components:ml \\
    --inputs inputs.jsonl --output results.jsonl
stepflow visualize module.yaml -o module.svg
python audit.py     # both flows, from a program
```
"""

PROGRAM = '''\
"""Both flows over the files that inputs.jsonl names: the report, as JSON."""

import json

import stepflow
from components import data, ml, python


def main() -> None:
    with open("inputs.jsonl", encoding="utf-8") as lines:
        inputs = [json.loads(line) for line in lines]
    with stepflow.SyncEngine({"/data": data, "/python": python, "/ml": ml}) as engine:
        files = [result.output for result in engine.run_batch("module.yaml", inputs) if result.ok]
        report = engine.run("rank.yaml", {"files": files})
    print(json.dumps(report, indent=2))


if __name__ == "__main__":  # the processes that do the work import this file too
    main()
'''


def copy_demo(directory: Path) -> list[str]:
    """Write the demo's flows and components into a new or empty directory, ready to run.

    Returns: the names of the files that were written.

    Raises:
        FileExistsError: there is something in the directory; nothing was written.
        OSError: it can't be written to.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(EEXIST, "the directory is not empty; choose another", str(directory))
    for name in COPIED:
        shutil.copyfile(Path(__file__).with_name(name), directory / name)
    inputs = (msgspec.json.encode(source) for source in take_inventory().sources)
    (directory / "inputs.jsonl").write_bytes(b"".join(line + b"\n" for line in inputs))
    (directory / "audit.py").write_text(PROGRAM, encoding="utf-8")
    (directory / "README.md").write_text(README, encoding="utf-8")
    return sorted(path.name for path in directory.iterdir())
