"""What `stepflow demo` does."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from errno import ENOENT
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stepflow.demo.audit import Audit, Cut, is_as_uncut, pools, processes, rank, read_flows
from stepflow.demo.closing import closing_lines
from stepflow.demo.components import FileFacts
from stepflow.demo.cutting import run_cut
from stepflow.demo.figures import pace, subject
from stepflow.demo.inventory import Inventory, Source, take_inventory
from stepflow.demo.page import audit_page
from stepflow.demo.watch import Watch, at_work
from stepflow.records import ItemResult

SUCCEEDED = 0
ITEM_FAILED = 3

COMPARED = 300  # files; all of them would take as long as the audit itself


def run_demo(*, quick: bool, output: Path | None, html: Path, console: Console) -> int:
    """Audit the installed source, write the report and print what it says.

    Args:
        quick: only a few hundred files.
        output: takes a line of JSON for each file, in their order.

    Returns: the exit code, 3 where a file's audit failed.

    Raises:
        OSError: the report can't be written.
        BatchError: the output can't, or the files can't be audited.
        KeyboardInterrupt: after everything that was started has stopped.
    """
    if not html.parent.is_dir():
        raise FileNotFoundError(ENOENT, "there is no such directory", str(html.parent))
    with _ended_as_interrupted():
        audit = audit_sources(take_inventory(quick=quick), output=output, console=console)
    html.write_text(audit_page(audit), encoding="utf-8")
    for line in [*closing_lines(audit), f"  report: {html}"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return ITEM_FAILED if audit.failed else SUCCEEDED


@contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """Whoever ends this process ends those that it started, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def audit_sources(inventory: Inventory, *, output: Path | None, console: Console) -> Audit:
    """Run both flows over the files of an inventory, with a progress bar where the console is a terminal."""
    with _progress(console, len(inventory.sources)) as progress, TemporaryDirectory(prefix="stepflow-demo-") as folder:
        return anyio.run(_audited, inventory, Path(folder), output, progress)


async def _audited(inventory: Inventory, folder: Path, output: Path | None, progress: Callable[[Watch], None]) -> Audit:
    watch = Watch()
    began = time.perf_counter()
    show = partial(progress, watch)
    results, cut = await run_cut(inventory.sources, folder, output=output, watch=watch, show=show)
    report = await rank(results, watch=watch)
    elapsed_s = time.perf_counter() - began
    flows = read_flows()
    return Audit(
        subject=subject(inventory.python, inventory.packages),
        pace=pace(len(results), elapsed_s, processes()),
        files=[source.file for source in inventory.sources],
        results=results,
        facts=msgspec.convert([result.output for result in results if result.ok], list[FileFacts]),
        report=report,
        flows=flows,
        work=at_work(watch.spans.get(flows[0].name or "", ()), pools(flows[0])),
        spans=watch.spans,
        tolerated=watch.tolerated,
        failed=sum(not result.ok for result in results),
        cut=None if cut is None else await _compared(cut, inventory.sources, results),
    )


async def _compared(cut: Cut, sources: Sequence[Source], results: Sequence[ItemResult]) -> Cut:
    """The files around the kill once more, without one: among them all that were in flight."""
    first = max(0, min(cut.at - COMPARED // 2, len(sources) - COMPARED))
    chosen = sorted({*range(first, min(len(sources), first + COMPARED)), *cut.in_flight})
    found = {result.index: result for result in results}
    expected = [found[index] for index in chosen if index in found]
    same = await is_as_uncut([sources[index] for index in chosen], expected)
    return msgspec.structs.replace(cut, compared=len(chosen), is_as_uncut=same)


@contextmanager
def _progress(console: Console, files: int) -> Iterator[Callable[[Watch], None]]:
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} files/s"),
        TextColumn("{task.fields[failed]:,} failed, {task.fields[tolerated]:,} tolerated"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=files, rate=0.0, failed=0, tolerated=0)

        def show(watch: Watch) -> None:
            rate = watch.done / (progress.tasks[0].elapsed or 1)
            progress.update(bar, completed=watch.done, rate=rate, failed=watch.failed, tolerated=watch.tolerated)

        yield show
