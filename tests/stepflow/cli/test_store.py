"""`stepflow run --store`: the same line again goes on with the run that was cut off."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from polled import until

from stepflow.cli.place import shown
from stepflow.cli.resuming import derived_key, resuming_line
from stepflow.execution.live import Resumed
from stepflow.flow.read import flow_text
from stepflow.records import RunRecord

FLOW = """\
name: ledgered
description: Doubles numbers, and writes down each time it did.
steps: [{id: double, component: /double, input: {$input: $}}]
output: {$step: double}
"""
COMPONENTS = """\
import threading
from pathlib import Path

import stepflow

app = stepflow.Components()


@app.component("/double", max_concurrency=4)
def double(number: int) -> int:
    with open("ledger", "a") as ledger:
        ledger.write(f"{number}\\n")
    if number >= 150 and Path("stalls").exists():
        Path("stalled").touch()
        threading.Event().wait()
    return number * 2
"""
ITEMS = 300
LINE = ("run", "flow.yaml", "--app", "components:app", "--inputs", "in.jsonl", "--output", "out.jsonl")
STORED = (*LINE, "--store", "runs.db")
ONE = ("run", "flow.yaml", "--app", "components:app", "--store", "runs.db")
SHOW = "stored in runs.db: stepflow runs show last --store runs.db"
GO_ON = "stored in runs.db: type the same line again to go on, or --new to start over"


@pytest.fixture
def batch(project: Path) -> Path:
    """A project whose component notes every call, and hangs at half of the inputs as long as there is `stalls`."""
    Path("flow.yaml").write_text(FLOW)
    Path("components.py").write_text(COMPONENTS)
    write_inputs(range(ITEMS))
    return project


def write_inputs(numbers: range) -> None:
    Path("in.jsonl").write_text("".join(f"{number}\n" for number in numbers))


def calls() -> Counter[int]:
    return Counter(int(line) for line in Path("ledger").read_text().splitlines())


def doubled(numbers: range) -> str:
    return "".join(f'{{"outcome":"success","result":{number * 2}}}\n' for number in numbers)


def recorded() -> set[int]:
    """The items whose results are in the store."""
    with closing(sqlite3.connect("runs.db")) as file:
        return {item for (item,) in file.execute("SELECT item FROM items WHERE status = 'succeeded'")}


def run_ids() -> list[str]:
    with closing(sqlite3.connect("runs.db")) as file:
        return [run_id for (run_id,) in file.execute("SELECT run_id FROM runs ORDER BY run_id")]


def cut(how: int, *line: str, stdin: str = "") -> tuple[int, str]:
    """Start the line in a process, end it in the middle, and give its exit code and what it said on stderr."""
    Path("stalls").touch()
    process = started(*line)
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.flush()
    until(Path("stalled").exists, "a component stalls", process=process)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    Path("stalls").unlink()
    Path("stalled").unlink()
    return process.returncode, err


def started(*line: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stepflow.cli.main", *line]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, stdin=subprocess.PIPE, text=True, env={**os.environ})


def test_a_killed_batch_goes_on_and_ends_as_if_uncut(cli, batch: Path) -> None:
    cut(signal.SIGKILL, *STORED)
    kept = recorded()
    before = calls()

    outcome = cli(*STORED)

    repeated = {number for number, times in calls().items() if times > 1}
    assert outcome.code == 0
    assert Path("out.jsonl").read_text() == doubled(range(ITEMS))
    assert not Path("out.jsonl.part").exists()
    assert 0 < len(kept) < ITEMS
    assert repeated.isdisjoint(kept)
    assert repeated <= set(before)
    assert set(calls()) == set(range(ITEMS))
    assert outcome.err.startswith(f"resuming {run_ids()[0][:8]}: {len(kept)} of 300 done, ")
    assert outcome.err.splitlines()[0].endswith(" were in flight and run again (--new starts over)")
    assert len(run_ids()) == 1


def test_an_interrupted_batch_goes_on(cli, batch: Path) -> None:
    code, err = cut(signal.SIGINT, *STORED)
    kept = recorded()

    outcome = cli(*STORED)

    assert code == 130
    assert err.splitlines()[-1] == GO_ON
    assert "Traceback" not in err
    assert "resuming " in outcome.err
    assert Path("out.jsonl").read_text() == doubled(range(ITEMS))
    assert all(calls()[number] == 1 for number in kept)


def test_one_input_goes_on_too(cli, batch: Path) -> None:
    cut(signal.SIGTERM, *ONE, "--input", "200")

    outcome = cli(*ONE, "--input-json", " 200 ")

    assert outcome.out == doubled(range(200, 201))
    assert ": 0 of 1 done, " in outcome.err
    assert calls()[200] == 2


def test_new_leaves_the_unfinished_run_and_starts_over(cli, batch: Path) -> None:
    cut(signal.SIGINT, *STORED)

    outcome = cli(*STORED, "--new")

    assert "resuming" not in outcome.err
    assert outcome.out == ""
    assert len(run_ids()) == 2
    assert all(times > 1 for number, times in calls().items() if number < 140)


def test_the_line_of_a_new_run_is_not_typed_again_with_new(cli, batch: Path) -> None:
    _, err = cut(signal.SIGINT, *STORED, "--new")

    assert err.splitlines()[-1] == "stored in runs.db: type the same line without --new to go on"
    assert "resuming " in cli(*STORED).err


def test_a_finished_line_starts_a_new_run(cli, batch: Path) -> None:
    first = cli(*STORED)
    second = cli(*STORED)

    assert (first.code, second.code) == (0, 0)
    assert first.last == second.last == SHOW
    assert len(run_ids()) == 2
    assert set(calls().values()) == {2}


def test_a_command_that_was_cut_after_the_end_of_its_run_only_writes_its_results(cli, batch: Path) -> None:
    cli(*STORED)
    os.replace("out.jsonl", "out.jsonl.part")

    outcome = cli(*STORED)

    assert "is completed: its results again, and nothing is run (--new starts over)" in outcome.err
    assert Path("out.jsonl").read_text() == doubled(range(ITEMS))
    assert set(calls().values()) == {1}


def test_other_inputs_are_another_run(cli, batch: Path) -> None:
    cut(signal.SIGINT, *STORED)
    write_inputs(range(10))

    outcome = cli(*STORED)

    assert "resuming" not in outcome.err
    assert Path("out.jsonl").read_text() == doubled(range(10))
    assert len(run_ids()) == 2


def test_a_finished_key_gives_its_results_and_runs_nothing(cli, batch: Path) -> None:
    first = cli(*STORED, "--key", "night")
    Path("out.jsonl").unlink()

    again = cli(*STORED, "--key", "night")

    assert again.code == 0
    assert again.err.startswith(f"run {run_ids()[0][:8]} is completed: its results again, and nothing is run")
    assert Path("out.jsonl").read_text() == doubled(range(ITEMS))
    assert set(calls().values()) == {1}
    assert first.last == SHOW


def test_a_key_of_other_inputs_is_refused_and_what_was_done_stays(cli, batch: Path) -> None:
    cut(signal.SIGINT, *STORED, "--key", "night")
    part = Path("out.jsonl.part").read_bytes()
    write_inputs(range(1, 10))

    outcome = cli(*STORED, "--key", "night")

    assert outcome.code == 1
    assert f"error: the key 'night' belongs to run {run_ids()[0]}, and its input 0 differs" in outcome.err
    assert outcome.last.endswith("; take another key, or start over with --new")
    assert part
    assert Path("out.jsonl.part").read_bytes() == part


def test_inputs_of_stdin_go_on_only_under_a_key(cli, batch: Path) -> None:
    line = (*ONE, "--inputs", "-")

    unnamed = [cli(*line, stdin="1\n2\n") for _ in range(2)]
    named = [cli(*line, "--key", "k", stdin="1\n2\n") for _ in range(2)]

    assert [outcome.out for outcome in (*unnamed, *named)] == [doubled(range(1, 3))] * 4
    assert "is completed: its results again" in named[1].err
    assert calls()[1] == 3


def test_the_file_has_one_engine_whose_process_is_named(cli, batch: Path) -> None:
    Path("stalls").touch()
    process = started(*STORED)
    try:
        until(Path("stalled").exists, "a component stalls", process=process)

        outcome = cli(*STORED)

        assert outcome.code == 1
        assert f"runs.db is used by process {process.pid}, and" in outcome.err
        assert Path("out.jsonl.part").exists()
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_the_store_is_named_by_option_environment_or_configuration(
    cli, batch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("run", "flow.yaml", "--app", "components:app", "--input", "1")
    Path("stepflow-config.yml").write_text(
        "plugins: {builtin: {type: builtin}}\nroutes: {/builtin: [{plugin: builtin}]}\n"
        "storageConfig: {type: sqlite, databaseUrl: 'sqlite:by_config.db?mode=rwc'}\n"
    )

    by_config = cli(*line)
    monkeypatch.setenv("STEPFLOW_STORE", "by_environment.db")
    by_environment = cli(*line)
    by_option = cli(*line, "--store", "by_option.db")

    for by, outcome in (("config", by_config), ("environment", by_environment), ("option", by_option)):
        assert outcome.last.startswith(f"stored in by_{by}.db: ")
        assert Path(f"by_{by}.db").exists()


def test_without_a_store_the_line_says_that_the_run_will_not_survive(cli, batch: Path) -> None:
    outcome = cli(*LINE)

    assert outcome.last == "done; the run was kept in memory only and does not survive this command"


def test_secrets_are_refused_by_a_store_unless_it_may_keep_them(cli, batch: Path) -> None:
    Path("flow.yaml").write_text(
        FLOW + "schemas: {properties: {variables: {properties: {token: {type: string, is_secret: true}}}}}\n"
    )
    line = (*ONE, "--input", "1", "--variables-json", '{"token": "hunter2"}')

    refused = cli(*line)
    allowed = cli(*line, "--secrets", "plain")

    assert refused.code == 1
    assert 'variable "token" hold secrets' in refused.err
    assert refused.last.endswith("set STEPFLOW_SECRET_KEY to have them sealed, or allow it with --secrets plain")
    assert allowed.code == 0


def test_the_same_line_goes_on_after_the_secret_in_the_environment_was_changed(
    cli, batch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("flow.yaml").write_text(
        FLOW + "schemas: {properties: {variables: {properties: {token: {type: string, is_secret: true}}}}}\n"
    )
    line = (*ONE, "--input", "1", "--env-variables", "--key", "k")

    monkeypatch.setenv("STEPFLOW_VAR_TOKEN", "before-hunter2")
    first = cli(*line)
    monkeypatch.setenv("STEPFLOW_VAR_TOKEN", "after-hunter2")
    again = cli(*line)

    assert first.code == again.code == 0
    assert "its results again" in again.err
    assert not any(b"hunter2" in file.read_bytes() for file in Path().glob("runs.db*"))


def test_the_events_of_a_run_show_that_something_is_sealed(cli, batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("flow.yaml").write_text(
        FLOW + "schemas: {properties: {variables: {properties: {token: {type: string, is_secret: true}}}}}\n"
    )
    monkeypatch.setenv("STEPFLOW_SECRET_KEY", Fernet.generate_key().decode())

    cli(*ONE, "--input", "1", "--variables-json", '{"token": "hunter2"}')
    told = cli("runs", "events", "last", "--json", "--store", "runs.db")

    started = json.loads(told.out.splitlines()[0])
    assert (started["event"], started["variables"]) == ("RunStarted", {"token": "<sealed>"})
    assert not any(b"hunter2" in file.read_bytes() for file in Path().glob("runs.db*"))


def test_a_killed_batch_leaves_no_secret_in_the_store_and_goes_on_with_it(
    cli, batch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "{type: string, is_secret: true}"
    Path("flow.yaml").write_text(
        FLOW.replace("{$step: double}", "[{$step: double}, {$variable: token}, {$variable: shop}]")
        + f"schemas: {{properties: {{variables: {{properties: {{token: {secret}, shop: {secret}}}}}}}}}\n"
    )
    monkeypatch.setenv("STEPFLOW_SECRET_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("STEPFLOW_VAR_SHOP", "outside-hunter2")
    line = (*STORED, "--variables-json", '{"token": "callers-hunter2"}', "--env-variables")

    cut(signal.SIGKILL, *line)
    log = Path("runs.db-wal").read_bytes()
    left = b"".join(file.read_bytes() for file in Path().glob("runs.db*"))
    outcome = cli(*line)
    whole = b"".join(file.read_bytes() for file in Path().glob("runs.db*"))

    assert b"$sealed" in log
    assert b"hunter2" not in left + whole
    assert "resuming" in outcome.err
    results = [json.loads(text)["result"] for text in Path("out.jsonl").read_text().splitlines()]
    assert results == [[number * 2, "callers-hunter2", "outside-hunter2"] for number in range(ITEMS)]


def test_a_derived_key_is_the_same_whatever_a_secret_of_the_environment_is(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = flow_text(
        "output: 1\nschemas: {properties: {variables: {properties: {token: {type: string, is_secret: true}}}}}\n"
    )
    keys = []
    for value in ("before", "after"):
        monkeypatch.setenv("STEPFLOW_VAR_TOKEN", value)
        keys.append(derived_key(flow, {"token": value}, None, "digest"))

    assert keys[0] == keys[1] != derived_key(flow, {"token": "other"}, None, "digest")


def test_a_failed_item_is_kept_as_it_is(cli, batch: Path) -> None:
    line = (*ONE, "--inputs", "in.jsonl", "--key", "k")
    Path("in.jsonl").write_text('1\n"two"\n')

    first, second = cli(*line), cli(*line)

    assert (first.code, second.code) == (3, 3)
    assert first.out == second.out


def test_a_named_run_whose_inputs_broke_off_goes_on_with_mended_ones(cli, batch: Path) -> None:
    Path("in.jsonl").write_text("0\n{\n")
    torn = cli(*STORED, "--key", "k")
    write_inputs(range(3))

    mended = cli(*STORED, "--key", "k")

    assert (torn.code, mended.code) == (1, 0)
    broken_off = (
        "stored in runs.db: the inputs broke off when 1 item had ended; mend them, and type the same line again"
    )
    assert broken_off in torn.err
    assert mended.err.startswith(f"resuming {run_ids()[0][:8]}: 1 of 3 done, ")
    assert Path("out.jsonl").read_text() == doubled(range(3))
    assert (len(run_ids()), calls()[0]) == (1, 1)


def test_a_line_whose_inputs_broke_off_leaves_no_unfinished_run(cli, batch: Path) -> None:
    Path("in.jsonl").write_text("0\n{\n")
    torn = cli(*STORED)
    write_inputs(range(3))

    mended = cli(*STORED)

    with closing(sqlite3.connect("runs.db")) as file:
        states = [status for (status,) in file.execute("SELECT status FROM runs ORDER BY run_id")]
    assert (torn.code, mended.code) == (1, 0)
    assert "had ended, and the run was cancelled, since with other inputs the line means another one" in torn.err
    assert states == ["cancelled", "completed"]
    assert Path("out.jsonl").read_text() == doubled(range(3))


def test_a_store_without_a_name_is_refused_rather_than_memory_taken(cli, batch: Path) -> None:
    outcome = cli(*LINE, "--store", "")

    assert outcome.code == 2
    assert "'--store': it is empty" in outcome.err


def test_streamed_inputs_of_stdin_go_on_under_their_key(cli, batch: Path) -> None:
    line = (*ONE, "--inputs", "-", "--output", "out.jsonl", "--key", "k")
    stdin = Path("in.jsonl").read_text()
    cut(signal.SIGKILL, *line, stdin=stdin)
    kept = recorded()

    outcome = cli(*line, stdin=stdin)

    assert outcome.code == 0
    assert f": {len(kept)} done, " in outcome.err
    assert Path("out.jsonl").read_text() == doubled(range(ITEMS))
    assert all(calls()[number] == 1 for number in kept)


def test_an_interrupted_run_of_stdin_without_a_key_is_cancelled(cli, batch: Path) -> None:
    code, err = cut(signal.SIGINT, *ONE, "--inputs", "-", stdin=Path("in.jsonl").read_text())

    with closing(sqlite3.connect("runs.db")) as file:
        assert file.execute("SELECT status FROM runs").fetchall() == [("cancelled",)]
    assert code == 130
    assert "interrupted: the run is being cancelled; interrupt once more to stop at once" in err
    assert err.splitlines()[-1] == (
        "stored in runs.db: cancelled, since inputs from stdin cannot be told again (give a --key)"
    )


def test_an_empty_key_is_not_understood(cli, batch: Path) -> None:
    assert cli(*STORED, "--key", " ").code == 2


def test_a_total_that_nobody_knows_is_left_out() -> None:
    record = RunRecord(id="01933f2c-1", root_id="01933f2c-1", flow_id="", created_at=0)

    known = resuming_line(record, Resumed(412, 4), 1000)
    unknown = resuming_line(record, Resumed(412, 4), None)

    assert known == "resuming 01933f2c: 412 of 1,000 done, 4 were in flight and run again (--new starts over)"
    assert "412 done, 1 was in flight and runs again (" in resuming_line(record, Resumed(412, 1), None)
    assert unknown == "resuming 01933f2c: 412 done, 4 were in flight and run again (--new starts over)"


def test_a_key_is_made_of_all_that_makes_a_run_another() -> None:
    flow, other = flow_text("output: 1"), flow_text("output: 2")
    key = derived_key(flow, {"a": 1, "b": 2}, None, "digest")

    assert derived_key(flow, {"b": 2, "a": 1}, None, "digest") == key
    assert derived_key(flow, {}, None, None) is None
    others = [
        derived_key(other, {"a": 1, "b": 2}, None, "digest"),
        derived_key(flow, {"a": 1}, None, "digest"),
        derived_key(flow, {"a": 1, "b": 2}, {"steps": {}}, "digest"),
        derived_key(flow, {"a": 1, "b": 2}, None, "other"),
    ]
    assert len({key, *others}) == 5


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("runs.db", "runs.db"),
        ("sqlite:a/runs.db?mode=rwc", "a/runs.db"),
        ("sqlite:///var/runs.db", "sqlite:///var/runs.db"),
        ("postgresql://ada:hunter2@host/db?sslmode=require", "postgresql://host/db"),
    ],
)
def test_a_stores_password_is_not_shown(location: str, said: str) -> None:
    assert shown(location) == said


def test_the_resumed_items_are_in_the_count(cli, batch: Path) -> None:
    cut(signal.SIGINT, *STORED)

    outcome = cli(*STORED)

    assert "300 items in " in outcome.err
    assert ": 300 succeeded, 0 failed" in outcome.err
    assert json.loads(Path("out.jsonl").read_text().splitlines()[-1])["result"] == 598
