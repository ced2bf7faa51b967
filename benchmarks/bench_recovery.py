"""How soon after a kill do the steps that were under way run again?

A process begins a batch and is killed with SIGKILL once every item is in flight and its start is stored. A second one
opens an engine on the same store; it measures from there to the first step that runs again, to the last, and to the end
of the batch. The last line of the output is one JSON object. See README.md beside this file.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from typing import Any

from bench_batch import peak_rss_mb
from places import Places, places_for
from shape import chain

import stepflow
from stepflow.execution.events import StepStarted
from stepflow.records import Json, Task

NAME = "bench"


class InFlight:
    """A component whose first attempts never end, and what was called of the others."""

    def __init__(self, items: int, *, holds: bool) -> None:
        self.components = stepflow.Components()
        self.called: list[float] = []  # the times of the calls
        self.all_called = asyncio.Event()
        self.repeated = 0

        @self.components.component("/hold")
        async def hold(input: dict[str, Any], ctx: stepflow.Context) -> dict[str, Any]:
            self.called.append(time.perf_counter())
            self.repeated += ctx.attempt > 1
            if len(self.called) == items:
                self.all_called.set()
            await (asyncio.Event().wait() if holds else self.all_called.wait())
            return input


class Starts:
    """Counts the starts that are stored: an observer is told of what is durable."""

    def __init__(self, items: int) -> None:
        self._left = items
        self.all_stored = asyncio.Event()

    def on_event(self, run_id: str, event: object) -> None:
        if isinstance(event, StepStarted):
            self._left -= 1
            if not self._left:
                self.all_stored.set()

    def on_progress(self, task: Task, progress: Json) -> None:
        pass


def engine_on(store: str, in_flight: InFlight, *observers: Starts) -> stepflow.Engine:
    return stepflow.Engine(in_flight.components, store=store, name=NAME, observers=observers)


async def begin(given: argparse.Namespace) -> None:
    """Have every item in flight, say so, and wait for the kill."""
    in_flight, starts = InFlight(given.items, holds=True), Starts(given.items)
    flow = stepflow.read_flow(chain(1, "/hold"))
    each = given.items // given.runs
    async with engine_on(given.store, in_flight, starts) as engine:
        for first in range(0, given.items, each):
            await engine.submit(flow, [{"n": first + n} for n in range(each)], max_concurrency=each)
        await starts.all_stored.wait()
        print("in flight", flush=True)
        await asyncio.Event().wait()


async def again(given: argparse.Namespace) -> dict[str, Any]:
    """The seconds from the engine's start until steps run again, and what it took to end them all."""
    in_flight = InFlight(given.items, holds=False)
    before = peak_rss_mb()
    started = time.perf_counter()
    async with engine_on(given.store, in_flight) as engine:
        opened = time.perf_counter()
        await in_flight.all_called.wait()
        rss = peak_rss_mb()
        outputs = []
        for run in reversed(await engine.list_runs(limit=1_000)):
            outputs += [result.output async for result in (await engine.get_run(run.id)).results()]
        ended = time.perf_counter()
    assert sorted(output["n"] for output in outputs) == list(range(given.items))
    assert in_flight.repeated == len(in_flight.called) == given.items
    return {
        "open_s": opened - started,
        "first_step_s": in_flight.called[0] - started,
        "all_steps_s": in_flight.called[-1] - started,
        "all_ended_s": ended - started,
        "rss_before_mb": before,
        "peak_rss_mb": rss,
    }


def child(task: str, store: str, given: argparse.Namespace) -> list[str]:
    size = ["--items", str(given.items), "--runs", str(given.runs)]
    return [sys.executable, __file__, "--task", task, "--store", store, *size]


def one_round(places: Places, given: argparse.Namespace) -> dict[str, float]:
    assert places.store is not None
    with subprocess.Popen(child("begin", places.store, given), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGKILL)
    if said != "in flight":
        raise SystemExit("the first process ended before its items were in flight")
    done = subprocess.run(child("again", places.store, given), check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(given: argparse.Namespace) -> dict[str, Any]:
    rounds, kind = [], ""
    for _ in range(given.repeat):
        with places_for(given.store) as places:
            if places.store is None:
                raise SystemExit("a store in memory ends with its process: take sqlite or postgres")
            kind = places.kind
            rounds.append(one_round(places, given))
    median = {name: round(statistics.median(found[name] for found in rounds), 3) for name in rounds[0]}
    return {"benchmark": "recovery", "store": kind, "items": given.items, "runs": given.runs, **median}


def table(found: dict[str, Any]) -> str:
    rows = {
        "the engine is open": "open_s",
        "the first step runs again": "first_step_s",
        "all of them run again": "all_steps_s",
        "all results are read": "all_ended_s",
    }
    head = f"{found['items']:,} items in flight in {found['runs']:,} runs on {found['store']}; killed, then"
    lines = [f"  {name:26} after {found[field]:7.3f} s" for name, field in rows.items()]
    memory = f"  {found['peak_rss_mb']:.1f} MB when all run again, {found['rss_before_mb']:.1f} MB before"
    return "\n".join([head, *lines, memory])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="sqlite", help="sqlite, postgres (a server of its own) or postgresql://…")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=1, help="runs that share the items")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of which the medians are given")
    parser.add_argument("--task", choices=["begin", "again"], help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="only the JSON line, no table")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.task == "begin":
        asyncio.run(begin(given))
    elif given.task == "again":
        print(json.dumps(asyncio.run(again(given))))
    else:
        found = measure(given)
        if not given.json:
            print(table(found))
        print(json.dumps(found))


if __name__ == "__main__":
    main()
