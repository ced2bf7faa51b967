"""How a worker is."""

import os
import platform
import stat
from pathlib import Path

import msgspec
import pytest

import stepflow
from stepflow_grpc.queues.records import WorkerReport
from stepflow_grpc.worker import figures
from stepflow_grpc.worker.figures import GpuMeter, Meter, versions

REPORT = WorkerReport(slots=2, busy=1)


def test_use_of_the_processor_is_a_share_of_the_time_since_the_last_look() -> None:
    times = iter((100.0, 101.0))
    meter = Meter(os.getpid(), lambda: next(times))

    first = meter.look(REPORT)
    second = meter.look(REPORT)

    assert first.cpu_share is None
    assert second.cpu_share is not None
    assert 0 <= second.cpu_share < 100
    assert second.rss_bytes is not None
    assert second.rss_bytes > 1_000_000
    assert (second.slots, second.busy) == (2, 1)


def test_a_process_is_told_of_itself_where_the_kernel_shows_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_of_kernel", lambda pid: None)

    own = Meter(os.getpid(), lambda: 1.0).look(REPORT)
    other = Meter(1, lambda: 1.0).look(REPORT)

    assert own.rss_bytes is not None
    assert other == REPORT


def command(place: Path, script: str) -> None:
    file = place / "nvidia-smi"
    file.write_text(f"#!/bin/sh\necho >> {place}/asked\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def look(meter: GpuMeter, monkeypatch: pytest.MonkeyPatch) -> int | None:
    """Look without the thread."""

    class AtOnce:
        def __init__(self, target, args, daemon):  # type: ignore[no-untyped-def]
            self.start = lambda: target(*args)

    monkeypatch.setattr(figures.threading, "Thread", AtOnce)
    return meter.look()


def test_the_memory_of_all_gpus_is_added_and_asked_for_at_one_look_in_ten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path, "echo 100; echo 28")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    meter = GpuMeter()

    looks = {look(meter, monkeypatch) for _ in range(15)}

    assert looks == {128 * 1_048_576}
    assert len((tmp_path / "asked").read_text()) == 2


def test_a_machine_whose_gpus_do_not_answer_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path, "exit 9")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    meter = GpuMeter()

    looks = {look(meter, monkeypatch) for _ in range(25)}

    assert looks == {None}
    assert len((tmp_path / "asked").read_text()) == 1


def test_a_machine_without_the_command_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert GpuMeter().look() is None


def test_versions_are_those_of_what_runs() -> None:
    found = versions(["msgspec.json", "stepflow.plugins", "no_such_module"])

    assert found == {
        "python": platform.python_version(),
        "stepflow": stepflow.__version__,
        "msgspec": msgspec.__version__,
    }
