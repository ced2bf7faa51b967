"""`stepflow submit`: as `stepflow run`, at a server."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from stepflow.cli.main import main
from stepflow.cli.results import Lines, OutputError
from stepflow.components import Components
from stepflow.engine import Engine
from stepflow_grpc.server import Server

FLOW = """\
name: double
schemas:
  properties:
    input: {type: object, required: [n]}
    variables: {properties: {times: {type: integer, default: 2, env_var: TIMES}}}
steps: [{id: d, component: /times, input: {n: {$input: n}, times: {$variable: times}}}]
output: {$step: d}
"""
GATED = """\
name: gated
steps: [{id: g, component: /gate, input: {$input: $}}]
output: {$step: g}
"""


class Outcome:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def results(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Submit = Callable[..., Outcome]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Items of the gated flow end once this file is there."""
    return tmp_path / "open"


@pytest.fixture
def app(gate: Path) -> Components:
    registry = Components()

    @registry.component("/times")
    async def times(input: dict[str, Any]) -> int:
        if input["n"] < 0:
            raise ValueError("it is negative")
        return int(input["n"] * input["times"])

    @registry.component("/gate")
    def wait(input: int) -> int:
        from time import sleep

        while input and not gate.exists():
            sleep(0.01)
        return input

    return registry


@pytest.fixture
def port(app: Components, gate: Path) -> Iterator[int]:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Engine(app)) as engine,
        portal.wrap_async_context_manager(Server(engine, port=0)) as server,
    ):
        yield server.port
        gate.touch()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "gated.yaml").write_text(GATED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEPFLOW_URL", raising=False)
    return tmp_path


@pytest.fixture
def submit(port: int, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Calls `stepflow submit` with these arguments; `stdin` is what a pipe would hold."""

    def call(*arguments: str, stdin: str = "") -> Outcome:
        monkeypatch.setenv("STEPFLOW_URL", f"127.0.0.1:{port}")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsysbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["submit", *arguments])
        out, err = capsysbinary.readouterr()
        return Outcome(int(ended.value.code or 0), out.decode(), err.decode())

    return call


def success(value: Any) -> dict[str, Any]:
    return {"outcome": "success", "result": value}


def numbers(*values: int) -> str:
    return "".join(f'{{"n": {value}}}\n' for value in values)


@pytest.mark.parametrize(
    "arguments",
    [
        ("flow.yaml", "--input", '{"n": 21}'),
        ("--flow", "flow.yaml", "--input-json", '{"n": 21}'),
        ("flow.yaml", "--input-yaml", "n: 14", "--variables-json", '{"times": 3}'),
        ("flow.yaml", "--input", '{"n": 6}', "--env-variables"),
        ("flow.yaml", "--input", '{"n": 6}', "--overrides-json", '{"steps": {"d": {"value": {"input": {"n": 21}}}}}'),
        ("flow.yaml", "--input", "-"),
        ("flow.yaml",),
    ],
)
def test_one_input_gives_its_result_alone_on_stdout(
    submit: Submit, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMES", "7")

    done = submit(*arguments, stdin='{"n": 21}')

    assert (done.code, done.results) == (0, [success(42)])
    assert "run_id: " in done.err


def test_many_inputs_give_lines_in_their_order(submit: Submit, folder: Path) -> None:
    (folder / "inputs.jsonl").write_text(numbers(1, -2, 3))

    done = submit("flow.yaml", "--inputs", "inputs.jsonl", "--max-concurrent", "1")

    assert done.code == 3
    assert [result["outcome"] for result in done.results] == ["success", "failed", "success"]
    assert 'item 1 failed at step "d": COMPONENT_FAILED: it is negative' in done.err
    assert "3 items in " in done.err
    assert "2 succeeded, 1 failed" in done.err


def test_a_file_gets_its_name_when_it_is_complete(submit: Submit, folder: Path) -> None:
    done = submit("flow.yaml", "--inputs", "-", "--output", "out.jsonl", stdin=numbers(1, 2))

    assert (done.code, done.out) == (0, "")
    assert (folder / "out.jsonl").read_text().splitlines() == [
        '{"outcome":"success","result":2}',
        '{"outcome":"success","result":4}',
    ]
    assert not (folder / "out.jsonl.part").exists()


def test_no_inputs_are_an_empty_file(submit: Submit, folder: Path) -> None:
    done = submit("flow.yaml", "--inputs", "-", "--output", "out.jsonl")

    assert done.code == 0
    assert (folder / "out.jsonl").read_bytes() == b""


def test_a_detached_run_is_followed_later(submit: Submit) -> None:
    detached = submit("flow.yaml", "--inputs", "-", "--detach", stdin=numbers(1, 2))
    run_id = detached.out.strip()

    followed = [submit("--follow", text) for text in (run_id, run_id[:-2], "last")]

    assert detached.code == 0
    assert f"`stepflow submit --follow {run_id}` gives its results" in detached.err
    assert [(done.code, done.results) for done in followed] == [(0, [success(2), success(4)])] * 3


def test_what_became_of_a_run_is_told_as_json(submit: Submit) -> None:
    waited = submit("flow.yaml", "--input", '{"n": -1}', "--json")
    detached = submit("flow.yaml", "--input", '{"n": 1}', "--json", "--detach")

    told = json.loads(waited.err.splitlines()[-1])
    assert waited.code == 3
    assert (told["status"], told["total"], told["succeeded"], told["failed"]) == ("failed", 1, 0, 1)
    assert json.loads(detached.out).keys() == {"runId", "flowId", "url"}


def test_waiting_ends_when_its_time_is_over_and_the_run_goes_on(submit: Submit, folder: Path, gate: Path) -> None:
    left = submit("gated.yaml", "--inputs", "-", "--output", "out.jsonl", "--wait-timeout", "300ms", stdin="0\n1\n")
    is_complete = (folder / "out.jsonl").exists()
    gate.touch()
    followed = submit("--follow", "last", "--output", "out.jsonl")

    assert left.code == 1
    assert "not done after 0.3 s, with the results of " in left.err
    assert "the run goes on at 127.0.0.1:" in left.err
    assert not is_complete
    assert followed.code == 0
    assert len((folder / "out.jsonl").read_text().splitlines()) == 2


def test_a_run_is_cancelled(submit: Submit) -> None:
    submit("gated.yaml", "--inputs", "-", "--detach", stdin="0\n1\n")

    cancelled = submit("--cancel", "last")
    again = submit("--cancel", "last")
    followed = submit("--follow", "last")

    assert (cancelled.code, cancelled.err.split()[-1]) == (0, "cancelled")
    assert (again.code, "has ended already: it is cancelled" in again.err) == (1, True)
    assert followed.code == 3
    assert " of its items had ended" in followed.err


def test_a_key_gives_the_run_that_has_it(submit: Submit) -> None:
    line = ("flow.yaml", "--input", '{"n": 1}', "--key", "nightly")

    said = [submit(*line).err.splitlines()[0] for _ in range(2)]
    other = submit("flow.yaml", "--input", '{"n": 2}', "--key", "nightly")

    assert said[0] == said[1]
    assert other.code == 1
    assert "start over with --new" in other.err
    assert submit("flow.yaml", "--input", '{"n": 2}', "--key", "nightly", "--new").results == [success(4)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "name the flow's file"),
        (("flow.yaml", "--follow", "last"), 2, "--follow is about a run that is there: leave the flow out"),
        (("--cancel", "last", "--flow", "flow.yaml"), 2, "--cancel is about a run that is there"),
        (("--follow", "last", "--detach"), 2, "--follow and --detach exclude each other"),
        (("flow.yaml", "--detach", "--output", "x.json"), 2, "--output and --detach exclude each other"),
        (("flow.yaml", "--input", "1", "--inputs", "-"), 2, "--input and --inputs exclude each other"),
        (("flow.yaml", "--input", "1", "--key", " "), 2, "'--key': it is empty"),
        (("flow.yaml", "--input", "1", "--output", ""), 2, "'--output': it is empty"),
        (("--follow", ""), 2, "'--follow': it is empty"),
        (("--cancel", ""), 2, "'--cancel': it is empty"),
        (("flow.yaml", "--input", "1", "--max-concurrency", "0"), 2, "0 is not in the range"),
        (("missing.yaml", "--input", "1"), 1, "missing.yaml"),
        (("flow.yaml", "--input", "{}"), 1, 'item 0: "n" is a required property'),
        (("flow.yaml", "--input", "1", "--url", "ftp://x"), 2, "is no address of a server"),
        (("--follow", "last"), 1, "no run has the id last"),
    ],
)
def test_what_is_not_meant_is_refused_before_anything_is_started(
    submit: Submit, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = submit(*arguments)

    assert (done.code, done.out) == (code, "")
    assert words in done.err


def test_a_bad_line_is_named_and_nothing_is_started(submit: Submit, folder: Path) -> None:
    (folder / "inputs.jsonl").write_text(numbers(1) + "x\n")

    done = submit("flow.yaml", "--inputs", "inputs.jsonl", "--output", "out.jsonl")

    assert done.code == 1
    assert "inputs.jsonl:2:1: error: not JSON" in done.err
    assert "no run has the id last" in submit("--follow", "last").err
    assert sorted(path.name for path in folder.glob("out*")) == []


def test_a_misspelt_variable_is_warned_of(submit: Submit) -> None:
    done = submit("flow.yaml", "--input", '{"n": 1}', "--variables-json", '{"tims": 3}')

    assert done.code == 0
    assert 'warning: variable "tims" is not declared' in done.err
    assert 'did you mean "times"?' in done.err


def test_where_no_server_is_the_remedy_is_said(submit: Submit, free_port: int) -> None:
    done = submit("flow.yaml", "--input", '{"n": 1}', "--url", f"localhost:{free_port}")

    assert done.code == 1
    assert f"error: no server answers at localhost:{free_port}" in done.err
    assert "start one with `stepflow serve`" in done.err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_the_run(port: int, submit: Submit, gate: Path, how: signal.Signals, folder: Path) -> None:
    code = "from stepflow.cli.main import main; main()"
    line = [sys.executable, "-c", code, "submit", "gated.yaml", "--inputs", "-", "--url", f"127.0.0.1:{port}"]
    with subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("0\n1\n")
        process.stdin.close()
        process.stdin = None
        first = process.stdout.readline()
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
    gate.touch()

    assert json.loads(first) == success(0)
    assert process.returncode == 130
    assert "interrupted, with the results of 1 item so far" in err
    assert f"`stepflow submit --url 127.0.0.1:{port} --cancel " in err
    assert submit("--follow", "last").results == [success(0), success(1)]


def test_where_results_cannot_be_written_it_is_said_how_to_get_them_later(
    submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(lines: Lines, outcome: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(Lines, "write", full)

    outcome = submit("flow.yaml", "--input", '{"n": 1}')

    assert outcome.code == 1
    assert "the run goes on at" in outcome.err
    assert outcome.err.splitlines()[-1] == "error: the disk is full"
