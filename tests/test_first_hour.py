"""The first hour as a newcomer types it."""

import json
import os
import re
import signal
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def typed(line: str, at: Path, *, bin: Path = BIN, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell, as typed."""
    environment = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        line, shell=True, cwd=at, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("hour")
    made = typed("stepflow init hello", at)
    assert made.returncode == 0, made.stderr
    return at / "hello"


def test_init_writes_what_the_page_names(hello: Path) -> None:
    named = ["flow.yaml", "components.py", "inputs.jsonl", "test_flow.py", "config.dev.yml", "config.prod.yml"]

    assert set(named) <= {path.name for path in hello.iterdir()}


def test_one_input_gives_one_result_on_stdout(hello: Path) -> None:
    ran = typed("""stepflow run flow.yaml --app components:app --input '{"text": "hi there"}'""", hello)

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["outcome"] == "success"
    assert "does not survive" in ran.stderr.splitlines()[-1]


def test_a_file_of_inputs_gives_a_file_of_outputs(hello: Path) -> None:
    ran = typed("stepflow run flow.yaml --app components:app --inputs inputs.jsonl --output out.jsonl", hello)

    inputs = (hello / "inputs.jsonl").read_text().splitlines()
    outputs = [json.loads(line) for line in (hello / "out.jsonl").read_text().splitlines()]
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""
    assert [output["outcome"] for output in outputs] == ["success"] * len(inputs)
    assert not (hello / "out.jsonl.part").exists()


def test_a_batch_that_is_killed_goes_on_when_the_same_line_is_typed_again(hello: Path) -> None:
    inputs = [{"text": "word " * (number % 7)} for number in range(1_000)]
    (hello / "many.jsonl").write_text("".join(json.dumps(input) + "\n" for input in inputs))
    line = "stepflow run flow.yaml --app components:app --inputs many.jsonl --output many.out.jsonl"
    uncut = typed(line, hello)
    whole = (hello / "many.out.jsonl").read_text()
    (hello / "many.out.jsonl").unlink()

    kill_at_its_start(f"{line} --store runs.db", hello)
    ran = typed(f"{line} --store runs.db", hello)

    said = r"resuming [0-9a-f]{8}: [\d,]+ of 1,000 done, [\d,]+ w\w+ in flight and runs? again \(--new starts over\)"
    assert uncut.returncode == 0, uncut.stderr
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(said, ran.stderr.splitlines()[0]), ran.stderr
    assert "stored in runs.db: " in ran.stderr.splitlines()[-1]
    assert (hello / "many.out.jsonl").read_text() == whole
    assert not (hello / "many.out.jsonl.part").exists()


def kill_at_its_start(line: str, at: Path) -> None:
    """Type the line, and kill what runs as soon as its run is stored."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    with subprocess.Popen(f"exec {line}", shell=True, cwd=at, env=environment, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"run_id: ")
        process.send_signal(signal.SIGKILL)


def test_a_stored_run_is_looked_at(hello: Path) -> None:
    line = "stepflow run flow.yaml --app components:app --inputs inputs.jsonl --output out.jsonl --store runs.db"
    ran = typed(line, hello)

    listed = typed("stepflow runs list --store runs.db", hello)
    shown, explained = typed("stepflow runs show last", hello), typed("stepflow runs explain last", hello)
    reported = typed("stepflow runs report last -o run.html", hello)

    assert ran.stderr.splitlines()[-1] == "stored in runs.db: stepflow runs show last --store runs.db"
    assert [each.returncode for each in (ran, listed, shown, explained, reported)] == [0] * 5, reported.stderr
    assert re.match(r"RUN +FLOW +STATUS +ITEMS +FAILED +AGE +TOOK +OWNER\n[0-9a-f-]+ +hello +completed ", listed.stdout)
    assert re.search(r"^count +/count +\d+ +0 ", shown.stdout, re.MULTILINE)
    assert "it has ended (completed)" in explained.stdout
    assert ("<svg" in (hello / "run.html").read_text(), reported.stdout) == (True, "")


def test_runs_are_kept_in_postgresql_too(hello: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPFLOW_STORE", postgres_url)

    migrated = typed("stepflow migrate", hello)
    empty = typed("stepflow runs list", hello)
    ran = typed("stepflow run flow.yaml --app components:app --inputs inputs.jsonl --output out.jsonl", hello)
    listed = typed("stepflow runs list", hello)

    assert [each.returncode for each in (migrated, empty, ran, listed)] == [0] * 4, migrated.stderr
    assert empty.stdout == ""
    assert ran.stderr.splitlines()[-1].endswith(": stepflow runs show last")
    assert re.search(r"^[0-9a-f]{8} +hello +completed ", listed.stdout, re.MULTILINE)


def test_a_flow_is_drawn(hello: Path) -> None:
    drawn = typed("stepflow visualize flow.yaml -o flow.svg", hello)

    assert drawn.returncode == 0, drawn.stderr
    assert ElementTree.parse(hello / "flow.svg").getroot().tag.endswith("svg")


def test_the_projects_own_tests_pass_and_turn_ten_hours(hello: Path) -> None:
    ran = typed("pytest", hello)

    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout
    assert "36_000" in (hello / "test_flow.py").read_text()


def test_a_misspelt_reference_is_placed_and_corrected(hello: Path) -> None:
    right = (hello / "flow.yaml").read_text()
    (hello / "misspelt.yaml").write_text(right.replace("$step: count", "$step: cuont"))
    line = next(number for number, text in enumerate(right.splitlines(), 1) if "$step: count" in text)

    ran = typed("stepflow validate misspelt.yaml", hello)

    said = rf'misspelt\.yaml:{line}:\d+: error 3003: step "cuont" is not defined; did you mean "count"\?'
    assert ran.returncode == 1
    assert re.search(said, ran.stdout + ran.stderr), ran.stdout + ran.stderr


def test_the_python_face_works_as_written(hello: Path) -> None:
    (hello / "face.py").write_text(
        """
import anyio, stepflow
from components import app

out = stepflow.run("flow.yaml", {"text": "hi"}, components=app)
for r in stepflow.run_batch("flow.yaml", [{"text": "hi"}] * 3, components=app):
    assert r.ok and r.output == out, r.error

async def main(rows):
    async with stepflow.Engine(components=app) as engine:
        run = await engine.submit("flow.yaml", inputs=rows, key="2026-11-22")
        async for r in run.results(order="completion"):
            assert r.output == out

anyio.run(main, iter([{"text": "hi"}] * 3))
with stepflow.SyncEngine(components={"/": app}) as engine:
    assert engine.run("flow.yaml", {"text": "hi"}) == out
assert isinstance(stepflow.flow_text("output: 1"), stepflow.Flow)
print("as written")
"""
    )

    ran = typed(f"{sys.executable} face.py", hello)

    assert ran.stdout == "as written\n", ran.stderr


def test_exit_codes_tell_what_happened(hello: Path) -> None:
    (hello / "bad.yaml").write_text("steps: [{id: a, component: /nobody}]\noutput: {$step: a}\n")

    assert typed("stepflow run nowhere.yaml --input 1", hello).returncode == 1
    assert typed("stepflow run flow.yaml --no-such-flag", hello).returncode == 2
    assert typed("stepflow run bad.yaml --input 1", hello).returncode == 3


@pytest.mark.slow
def test_the_quick_demo_ends_with_its_table(tmp_path: Path) -> None:
    ran = typed("stepflow demo --quick --output results.jsonl", tmp_path)

    said = ran.stdout + ran.stderr
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert ran.returncode == 0, said
    assert re.search(r"Python 3\.\d+\.\d+ and [\d,]+ packages: [\d,]+ files, [\d.]+ [kM] lines", said), said
    assert re.search(r"need Python 3\.8 or newer \d+ +tolerated failures \d+ +failed 0", said), said
    assert "longest functions" in said
    assert "copied between files" in said
    assert "report: audit.html" in said
    assert len(lines) > 100
    killed = rf"killed at [\d,]+ of {len(lines)} → resumed in [\d.]+ s · lost 0 · steps repeated \d+"
    assert re.search(rf"{killed} \(in flight at the kill\) · identical to an uncut run: yes\n", said), said
    links = re.findall(r"https?://[^\s\"']+", (tmp_path / "audit.html").read_text())
    assert {link for link in links if not link.startswith("http://www.w3.org/")} == set()


@pytest.mark.slow
def test_command_one_works_from_plain_python(tmp_path: Path) -> None:
    (command,) = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[:1]
    cloned = typed(f"git clone -q {ROOT} clone", tmp_path)
    assert cloned.returncode == 0, cloned.stderr
    plain = tmp_path / "plain"
    venv.create(plain, with_pip=True)

    ran = typed(command, tmp_path / "clone", bin=plain / "bin", timeout_s=900)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "report: audit.html" in ran.stdout + ran.stderr


def started(line: str, at: Path, **options: Any) -> "subprocess.Popen[str]":
    """A line that is left running in another shell, without what the shell itself would do to signals."""
    program, *arguments = line.split()
    return subprocess.Popen([BIN / program, *arguments], cwd=at, text=True, **options)


@pytest.mark.slow
def test_workers_of_their_own_change_nothing_in_the_flow(hello: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    served = started("stepflow serve --config config.prod.yml --pool cpu=components:app:2 --port 0", hello, **quiet)
    processes = [served]
    try:
        assert served.stdout is not None
        monkeypatch.setenv("STEPFLOW_URL", f"127.0.0.1:{json.loads(served.stdout.readline())['port']}")
        worker = started("stepflow worker components:app --queue gpu", hello, stderr=subprocess.PIPE)
        processes.append(worker)
        assert worker.stderr is not None
        assert any("queue gpu" in line for line in worker.stderr)
        ran = typed("stepflow submit flow.yaml --inputs inputs.jsonl --output submitted.jsonl", hello)
        by_run = typed("stepflow run flow.yaml --app components:app --inputs inputs.jsonl", hello)
        for process in processes:
            process.send_signal(signal.SIGINT)
        codes = [process.wait(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=60)

    assert ran.returncode == 0, ran.stderr
    assert (hello / "submitted.jsonl").read_text() == by_run.stdout
    assert codes == [0, 0]
