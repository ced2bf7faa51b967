"""How a worker is: processor, memory, and the versions of what it runs."""

import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, version

import msgspec

import stepflow
from stepflow_grpc.queues.records import WorkerReport

if sys.platform != "win32":
    import resource

_GPU_COMMAND = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
_GPU_LOOKS = 10  # one in so many asks
_GPU_PATIENCE_S = 5.0


class Meter:
    """The use that a process makes of processor and memory."""

    def __init__(self, pid: int, now: Callable[[], float]) -> None:
        self._pid = pid
        self._now = now
        self._last: tuple[float, float] | None = None

    def look(self, report: WorkerReport) -> WorkerReport:
        """The report with the share of one processor since the last look, and the resident memory, where known."""
        found = _of_kernel(self._pid) or _of_itself(self._pid)
        if found is None:
            return report
        used_s, rss_bytes = found
        now = self._now()
        share = report.cpu_share
        if self._last is not None and now > self._last[0]:
            share = round(max(0.0, used_s - self._last[1]) / (now - self._last[0]), 3)
        self._last = now, used_s
        return msgspec.structs.replace(report, cpu_share=share, rss_bytes=rss_bytes)


def _of_kernel(pid: int) -> tuple[float, int] | None:
    """Seconds of processor time and bytes."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf(
            "SC_PAGE_SIZE"
        )
    except (OSError, IndexError, ValueError):
        return None


def _of_itself(pid: int) -> tuple[float, int] | None:
    """The same where the system tells it a process only of itself; the memory is then the most it ever had."""
    if pid != os.getpid() or sys.platform == "win32":
        return None
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime, use.ru_maxrss * (1 if sys.platform == "darwin" else 1_024)


def memory_share() -> float | None:
    """The share of memory that is in use: of what this process's group may have, or of the machine, whichever is
    scarcer; None where the system does not tell."""
    found = [share for share in (_of_group(), _of_machine()) if share is not None]
    return max(found, default=None)


def _of_group(root: str = "/sys/fs/cgroup") -> float | None:
    """What could be had back at once, as files that were read, does not count."""
    try:
        path = next(line[3:].strip() for line in _lines("/proc/self/cgroup") if line.startswith("0::"))
        place = f"{root}{path.rstrip('/')}"
        most = int(next(_lines(f"{place}/memory.max")))
        held = int(next(_lines(f"{place}/memory.current")))
        kept = next(int(line.split()[1]) for line in _lines(f"{place}/memory.stat") if line.startswith("inactive_file"))
    except (OSError, ValueError, StopIteration):  # ValueError: the word "max", which is no limit
        return None
    return (held - kept) / most if most else None


def _of_machine() -> float | None:
    try:
        found = {line.split(":")[0]: int(line.split()[1]) for line in _lines("/proc/meminfo") if ":" in line}
        return 1 - found["MemAvailable"] / found["MemTotal"]
    except (OSError, ValueError, KeyError, IndexError, ZeroDivisionError):
        return None


def _lines(file: str) -> Iterator[str]:
    with open(file, encoding="utf-8") as opened:
        yield from opened


class GpuMeter:
    """The memory in use on the GPUs that can be seen. A machine without any is asked once."""

    def __init__(self) -> None:
        self._command = shutil.which(_GPU_COMMAND[0])
        self._looks = 0
        self._bytes: int | None = None

    def look(self) -> int | None:
        """In bytes, as last told; every tenth look asks, without waiting for the answer."""
        if self._command is not None and self._looks % _GPU_LOOKS == 0:
            threading.Thread(target=self._ask, args=(self._command,), daemon=True).start()
        self._looks += 1
        return self._bytes

    def _ask(self, command: str) -> None:
        try:
            shown = subprocess.run(
                [command, *_GPU_COMMAND[1:]], capture_output=True, text=True, timeout=_GPU_PATIENCE_S, check=True
            )
            self._bytes = sum(int(line) for line in shown.stdout.split()) * 1_048_576
        except (OSError, ValueError, subprocess.SubprocessError):
            self._command = self._bytes = None


def versions(modules: Iterable[str] = ()) -> dict[str, str]:
    """Of Python, of this package, and of the distributions that modules belong to, such as those of components."""
    found = {"python": platform.python_version(), "stepflow": stepflow.__version__}
    names = sorted({module.partition(".")[0] for module in modules} - {"stepflow", "stepflow_grpc"})
    homes = packages_distributions() if names else {}
    for name in names:
        for home in homes.get(name, ()):
            try:
                found[home] = version(home)
            except PackageNotFoundError:
                continue
        own = getattr(sys.modules.get(name), "__version__", None)
        if name not in homes and isinstance(own, str):
            found[name] = own
    return found
