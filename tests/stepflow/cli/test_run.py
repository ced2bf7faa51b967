"""`stepflow run`: inputs in, results out, exit codes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from polled import until

APP = ("--app", "components:app")
TEXT = '{"text": "hi there"}'
RESULT = '{"outcome":"success","result":"Hello: 2"}\n'


def test_one_input_gives_one_line_of_json_and_nothing_else_on_stdout(cli, project: Path) -> None:
    outcome = cli("run", "flow.yaml", *APP, "--input", TEXT)

    assert (outcome.code, outcome.out) == (0, RESULT)
    assert outcome.err.startswith("run_id: ")
    assert "counting" in outcome.err
    assert outcome.last == "done; the run was kept in memory only and does not survive this command"


@pytest.mark.parametrize(
    "given",
    [
        ("--input", "one.json"),
        ("--input", "one.yaml"),
        ("--input-json", TEXT),
        ("--input-yaml", "text: hi there"),
    ],
)
def test_an_input_is_text_or_a_file(cli, project: Path, given: tuple[str, str]) -> None:
    Path("one.json").write_text(TEXT)
    Path("one.yaml").write_text("text: hi there\n")

    assert cli("run", "--flow", "flow.yaml", *APP, *given).out == RESULT


@pytest.mark.parametrize("given", [(), ("--input", "-")])
def test_an_input_may_come_through_a_pipe(cli, project: Path, given: tuple[str, ...]) -> None:
    assert cli("run", "flow.yaml", *APP, *given, stdin=TEXT).out == RESULT


def test_stdin_may_be_yaml(cli, project: Path) -> None:
    assert cli("run", "flow.yaml", *APP, "--stdin-format", "yaml", stdin="text: hi there").out == RESULT


@pytest.mark.parametrize("way", ["text", "json", "file", "stdin", "line"])
def test_an_integer_may_be_as_long_as_it_is_wherever_an_input_comes_from(cli, project: Path, way: str) -> None:
    Path("as_it_is.yaml").write_text("output: {$input: $}\n")
    text = "[" * 2 + "[]," * 200 + "-123456789012345678901234567890" + "]" * 2
    Path("in.json").write_text(text)
    given = {
        "text": ("--input", text),
        "json": ("--input-json", text),
        "file": ("--input", "in.json"),
        "stdin": (),
        "line": ("--inputs", "in.json"),
    }

    outcome = cli("run", "as_it_is.yaml", *given[way], stdin=text)

    assert outcome.code == 0
    assert json.loads(outcome.out)["result"] == json.loads(text)


def test_an_empty_stdin_says_what_to_write(cli, project: Path) -> None:
    outcome = cli("run", "flow.yaml", *APP)

    assert outcome.code == 1
    assert "stdin is empty; write --input" in outcome.err


def test_many_inputs_give_json_lines_in_their_order(cli, project: Path) -> None:
    Path("in.jsonl").write_text('{"text": "a b c"}\n{"text": ""}\n')

    outcome = cli("run", "flow.yaml", *APP, "--inputs", "in.jsonl")

    assert [json.loads(line)["result"] for line in outcome.lines] == ["Hello: 3", "Hello: 0"]
    assert "2 items in " in outcome.err
    assert outcome.code == 0


def test_many_inputs_may_come_through_a_pipe(cli, project: Path) -> None:
    outcome = cli("run", "flow.yaml", *APP, "--inputs", "-", stdin='{"text": "a"}\n{"text": "b c"}')

    assert [json.loads(line)["result"] for line in outcome.lines] == ["Hello: 1", "Hello: 2"]


def test_no_inputs_are_a_run_of_no_items(cli, project: Path) -> None:
    Path("in.jsonl").write_text("")

    outcome = cli("run", "flow.yaml", *APP, "--inputs", "in.jsonl", "--output", "out.jsonl")

    assert (outcome.code, outcome.out, Path("out.jsonl").read_text()) == (0, "", "")


def test_a_failed_item_is_in_the_results_and_the_exit_code_is_3(cli, project: Path) -> None:
    Path("in.jsonl").write_text('{"text": "a"}\n{"text": 5}\n')

    outcome = cli("run", "flow.yaml", *APP, "--inputs", "in.jsonl")

    assert outcome.code == 3
    assert json.loads(outcome.lines[1])["error"]["code"] == "INVALID_INPUT"
    assert "item 1 failed: INVALID_INPUT" in outcome.err


def test_the_step_that_a_failure_came_from_is_named(cli, project: Path) -> None:
    outcome = cli("run", "flow.yaml", *APP, "--input", '{"text": 5}', "--validation", "off")

    assert 'failed at step "count": COMPONENT_FAILED: ' in outcome.err


def test_a_bad_line_is_named_by_file_and_line(cli, project: Path) -> None:
    Path("in.jsonl").write_text('{"text": "a"}\n\n{"text": "b"}\n')

    outcome = cli("run", "flow.yaml", *APP, "--inputs", "in.jsonl", "--output", "out.jsonl")

    assert outcome.code == 1
    assert "in.jsonl:2: error: a blank line is not an input" in outcome.err
    assert not Path("out.jsonl").exists()
    assert not Path("out.jsonl.part").exists()


def test_what_was_done_before_a_bad_line_is_kept(cli, project: Path) -> None:
    Path("in.jsonl").write_text('{"text": "a"}\n' * 5000 + "torn\n")

    outcome = cli("run", "flow.yaml", *APP, "--inputs", "in.jsonl", "--output", "out.jsonl")

    assert outcome.code == 1
    assert "in.jsonl:5001:1: error: not JSON" in outcome.err
    assert "what was done so far is in out.jsonl.part" in outcome.err
    assert Path("out.jsonl.part").read_text().startswith('{"outcome":"success","result":"Hello: 1"}\n')


def test_the_output_gets_its_name_when_it_is_complete(cli, project: Path) -> None:
    Path("in.jsonl").write_text('{"text": "a"}\n')

    outcome = cli("run", "flow.yaml", *APP, "--inputs", "in.jsonl", "--output", "out.txt")

    assert outcome.out == ""
    assert Path("out.txt").read_text() == '{"outcome":"success","result":"Hello: 1"}\n'
    assert not Path("out.txt.part").exists()


def test_one_result_is_written_as_the_extension_says(cli, project: Path) -> None:
    cli("run", "flow.yaml", *APP, "--input", TEXT, "--output", "out.yaml")

    assert Path("out.yaml").read_text() == "outcome: success\nresult: 'Hello: 2'\n"


def test_an_unknown_extension_is_refused_before_anything_runs(cli, project: Path) -> None:
    outcome = cli("run", "flow.yaml", *APP, "--input", TEXT, "--output", "out.txt")

    assert outcome.code == 2
    assert "run_id" not in outcome.err


def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(cli, project: Path) -> None:
    outcome = cli("run", "flow.yaml", *APP, "--input", TEXT, "--output", "nowhere/out.json")

    assert outcome.code == 1
    assert outcome.err == "error: the results cannot be written to nowhere/out.json.part: No such file or directory\n"


@pytest.mark.parametrize(
    "given",
    [("--variables", "vars.yaml"), ("--variables-json", '{"greeting": "Hi"}'), ("--variables-yaml", "greeting: Hi")],
)
def test_variables_are_a_file_or_text(cli, project: Path, given: tuple[str, str]) -> None:
    Path("vars.yaml").write_text("greeting: Hi")

    assert json.loads(cli("run", "flow.yaml", *APP, "--input", TEXT, *given).out)["result"] == "Hi: 2"


def test_variables_come_from_the_environment_where_that_is_asked_for(
    cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPFLOW_VAR_GREETING", "Moin")

    plain = cli("run", "flow.yaml", *APP, "--input", TEXT)
    asked = cli("run", "flow.yaml", *APP, "--input", TEXT, "--env-variables")

    assert (json.loads(plain.out)["result"], json.loads(asked.out)["result"]) == ("Hello: 2", "Moin: 2")


def test_overrides_patch_a_step(cli, project: Path) -> None:
    overrides = "steps: {greet: {value: {input: {greeting: Yo}}}}"

    outcome = cli("run", "flow.yaml", *APP, "--input", TEXT, "--overrides-yaml", overrides)

    assert json.loads(outcome.out)["result"] == "Yo: 2"


@pytest.mark.parametrize(
    "given",
    [
        ("--input", TEXT, "--input-json", TEXT),
        ("--variables", "a", "--variables-json", "{}"),
        ("--overrides", "a", "--overrides-yaml", "{}"),
        ("--flow", "flow.yaml"),
        ("--max-concurrency", "0"),
        ("--timeout", "soon"),
        ("--app", "nocolon"),
        ("--app", "components:app", "--app", "components:app"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(cli, project: Path, given: tuple[str, ...]) -> None:
    outcome = (
        cli("run", "flow.yaml", "--input", TEXT, *given) if "--input" not in given else cli("run", "flow.yaml", *given)
    )

    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")


def test_inputs_that_do_not_fit_are_refused_unless_told_otherwise(cli, project: Path) -> None:
    strict = cli("run", "flow.yaml", *APP, "--input", '{"text": 5}')
    off = cli("run", "flow.yaml", *APP, "--input", '{"text": 5}', "--validation", "off")

    assert (strict.code, strict.out) == (1, "")
    assert off.code == 3


def test_both_spellings_of_the_limit_are_taken(cli, project: Path) -> None:
    for spelling in ("--max-concurrency", "--max-concurrent"):
        assert cli("run", "flow.yaml", *APP, "--input", TEXT, spelling, "1").out == RESULT


def test_a_run_that_takes_too_long_ends_by_its_timeout(cli, project: Path) -> None:
    Path("slow.yaml").write_text(
        "name: slow\ndescription: ''\nsteps: [{id: s, component: /builtin/sleep, input: {duration_ms: 60000}}]\n"
        "output: {$step: s}\n"
    )

    outcome = cli("run", "slow.yaml", "--input", "null", "--timeout", "50ms")

    assert outcome.code == 3
    assert json.loads(outcome.out)["error"]["code"] == "TIMEOUT"


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("component:app", 'did you mean "components:app"?'),
        ("components:ap", 'did you mean "components:app"?'),
        ("components:count", "stepflow.Components"),
        ("broken:app", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_wrong_app_is_one_line_that_says_what_is_wrong(cli, project: Path, app: str, said: str) -> None:
    Path("broken.py").write_text("1 / 0\n")

    outcome = cli("run", "flow.yaml", "--app", app, "--input", TEXT)

    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 1
    assert said in outcome.err


def test_apps_are_mounted_by_prefix(cli, project: Path) -> None:
    Path("two.yaml").write_text(
        "name: two\ndescription: ''\nsteps: [{id: c, component: /x/count, input: {$input: $}}]\noutput: {$step: c}\n"
    )

    outcome = cli("run", "two.yaml", "--app", "/x=components:app", "--input", TEXT)

    assert json.loads(outcome.out)["result"] == {"words": 2}


def test_the_configuration_beside_the_flow_is_used(cli, project: Path) -> None:
    Path("stepflow-config.yml").write_text(
        'plugins: {mine: {type: python, app: "components:app"}}\nroutes: {"/": [{plugin: mine}]}\n'
    )

    assert cli("run", "flow.yaml", "--input", TEXT).out == RESULT


def test_a_flow_that_cannot_run_is_shown_with_its_place(cli, project: Path) -> None:
    Path("bad.yaml").write_text(Path("flow.yaml").read_text().replace("$step: count", "$step: cuont"))

    outcome = cli("run", "bad.yaml", *APP, "--input", TEXT)

    assert outcome.code == 1
    assert 'bad.yaml:14:22: error 3003: step "cuont" is not defined; did you mean "count"?' in outcome.err


STALLING = """\
import signal, time
import stepflow

app = stepflow.Components()


@app.component("/count")
def count(input: dict) -> dict:
    if input["text"] == "stall":
        open("stalled", "w").close()
        time.sleep(60)
    return {"words": 1}


@app.component("/greet")
async def greet(input: dict) -> str:
    return "ok"
"""


def test_an_interrupt_cancels_and_keeps_what_was_done(project: Path) -> None:
    Path("components.py").write_text(STALLING)
    Path("in.jsonl").write_text('{"text": "a"}\n{"text": "stall"}\n')
    process = started("run", "flow.yaml", *APP, "--inputs", "in.jsonl")

    wait_for(Path("stalled"), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert out == '{"outcome":"success","result":"ok"}\n'
    assert "Traceback" not in err
    assert "cancelled after 1 item" in err


def test_a_reader_that_leaves_ends_the_run_quietly(project: Path) -> None:
    Path("in.jsonl").write_text('{"text": "a"}\n' * 5000)
    process = started("run", "flow.yaml", *APP, "--inputs", "in.jsonl")
    assert process.stdout is not None
    assert process.stdout.readline() == '{"outcome":"success","result":"Hello: 1"}\n'

    process.stdout.close()
    _, err = process.communicate(timeout=60)

    assert process.returncode == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def started(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stepflow.cli.main", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, stdin=subprocess.DEVNULL, text=True, env={**os.environ})


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    until(path.exists, f"{path} is there", process=process)
