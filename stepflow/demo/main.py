"""What `stepflow demo` does."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from errno import ENOENT
from functools import partial
from pathlib import Path
from typing import BinaryIO

import anyio
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stepflow.demo.audit import Audit, pools, processes, read_flows, run_audit
from stepflow.demo.closing import closing_lines
from stepflow.demo.components import FileFacts
from stepflow.demo.figures import pace, subject
from stepflow.demo.inventory import Inventory, take_inventory
from stepflow.demo.page import audit_page
from stepflow.demo.watch import Watch, at_work
from stepflow.records import ItemResult, outcome_to_json

SUCCEEDED = 0
ITEM_FAILED = 3

Take = Callable[[ItemResult], None]


def run_demo(*, quick: bool, output: Path | None, html: Path, console: Console) -> int:
    """Audit the installed source, write the report and print what it says.

    Args:
        quick: only a few hundred files.
        output: takes a line of JSON for each file, in their order.

    Returns: the exit code, 3 where a file's audit failed.

    Raises:
        OSError: the output or the report can't be written.
        KeyboardInterrupt: after everything that was started has stopped.
    """
    if not html.parent.is_dir():
        raise FileNotFoundError(ENOENT, "there is no such directory", str(html.parent))
    audit = audit_sources(take_inventory(quick=quick), output=output, console=console)
    html.write_text(audit_page(audit), encoding="utf-8")
    for line in [*closing_lines(audit), f"  report: {html}"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return ITEM_FAILED if audit.failed else SUCCEEDED


def audit_sources(inventory: Inventory, *, output: Path | None, console: Console) -> Audit:
    """Run both flows over the files of an inventory, with a progress bar where the console is a terminal."""
    watch = Watch()
    with ExitStack() as stack:
        takers: list[Take] = []
        if output is not None:
            takers.append(partial(_write_line, stack.enter_context(output.open("wb"))))
        if console.is_terminal:
            takers.append(stack.enter_context(_progress(console, watch, len(inventory.sources))))
        began = time.perf_counter()
        run = partial(run_audit, inventory.sources, watch=watch, takers=takers)
        results, report = anyio.run(run)
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
    )


def _write_line(lines: BinaryIO, result: ItemResult) -> None:
    lines.write(msgspec.json.encode(outcome_to_json(result.outcome)) + b"\n")


@contextmanager
def _progress(console: Console, watch: Watch, files: int) -> Iterator[Take]:
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:,.0f} files/s"),
        TextColumn("{task.fields[failed]:,} failed, {task.fields[tolerated]:,} tolerated"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=files, rate=0.0, failed=0, tolerated=0)

        def show(_: ItemResult) -> None:
            rate = watch.done / (progress.tasks[0].elapsed or 1)
            progress.update(bar, completed=watch.done, rate=rate, failed=watch.failed, tolerated=watch.tolerated)

        yield show
