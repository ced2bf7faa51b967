"""How many tasks a second go through a queue and a worker of its own process, and how long does one take?

The last line of the output is one JSON object. See README.md beside this file.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from queue_site import Site, site
from shape import chain

UPSTREAM_ITEMS = 1_000
"""Tasks of a round with the reference on either end: it is a hundred times slower."""

WARM_UP = 200

TRIES = 3
"""Of a round that does not come to its end, on whichever side that is: `again` says how many were made once more."""


class UnfinishedError(RuntimeError):
    """A batch did not come to its end."""


def rate(place: Site, flow_id: str, items: int, steps: int, concurrency: int) -> dict[str, float]:
    """One batch, from its submission to its end."""
    inputs = [{"n": n} for n in range(items)]
    before = place.server_cpu_s(), place.workers_cpu_s()
    started = time.perf_counter()
    tasks = items * steps
    summary = place.wait(place.begin(flow_id, inputs, concurrency), tasks)
    elapsed = time.perf_counter() - started
    if summary.items.completed != items:
        raise UnfinishedError(f"{summary.items.completed} of {items} items are done after {elapsed:.0f} s")
    return {
        "tasks_per_s": tasks / elapsed,
        "server_us_per_task": (place.server_cpu_s() - before[0]) / tasks * 1e6,
        "worker_us_per_task": (place.workers_cpu_s() - before[1]) / tasks * 1e6,
    }


def latencies_ms(place: Site, flow_id: str, singles: int) -> list[float]:
    """Of runs of one item, one after the other, in order."""
    times = []
    for n in range(singles):
        started = time.perf_counter()
        place.wait(place.begin(flow_id, [{"n": n}], 1))
        times.append((time.perf_counter() - started) * 1_000)
    return sorted(times)


def quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def one_round(server: str, worker: str, given: argparse.Namespace, workers: int) -> dict[str, float]:
    """A fresh server with its workers."""
    is_ours = server == worker == "ours"
    items = given.items if is_ours else max(1, min(given.items, UPSTREAM_ITEMS // given.steps))
    slots = given.slots if worker == "ours" else given.upstream_slots
    with site(server) as place:
        for _ in range(workers):
            place.worker(worker, slots=slots)
        flow_id = place.until_served(chain(given.steps, "/cpu/noop"))
        concurrency = max(given.concurrency, workers * slots)
        rate(place, flow_id, min(items, WARM_UP), given.steps, concurrency)
        found = rate(place, flow_id, items, given.steps, concurrency)
        times = latencies_ms(place, flow_id, given.singles)
    return found | {"p50_ms": quantile(times, 0.5), "p99_ms": quantile(times, 0.99)}


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(found[name] for found in rounds), 3) for name in rounds[0]}


def measure(pairs: Sequence[tuple[str, str, int]], given: argparse.Namespace) -> list[dict[str, Any]]:
    """Pairs in turn, so that all meet the same machine; the medians of the rounds."""
    rounds: dict[tuple[str, str, int], list[dict[str, float]]] = {pair: [] for pair in pairs}
    again = dict.fromkeys(pairs, 0)
    for number in range(given.repeat):
        for pair in pairs:
            found, tries = tried(pair, given)
            rounds[pair].append(found)
            again[pair] += tries - 1
            if not given.json:
                said = f"round {number + 1} of {given.repeat}: {named(pair)}: {found['tasks_per_s']:,.0f} tasks/s"
                print(said, file=sys.stderr)
    return [
        {
            "server": server,
            "worker": worker,
            "workers": workers,
            **medians(found),
            "again": again[server, worker, workers],
        }
        for (server, worker, workers), found in rounds.items()
    ]


def tried(pair: tuple[str, str, int], given: argparse.Namespace) -> tuple[dict[str, float], int]:
    """A round that came to its end, and how many it took."""
    server, worker, workers = pair
    for number in range(1, TRIES):
        try:
            return one_round(server, worker, given, workers), number
        except (UnfinishedError, grpc.RpcError) as error:
            print(f"{named(pair)}: {error}; once more with fresh processes", file=sys.stderr)
    return one_round(server, worker, given, workers), TRIES


def named(pair: tuple[str, str, int]) -> str:
    server, worker, workers = pair
    return f"server {server}, worker {worker} × {workers}"


def flood(given: argparse.Namespace) -> dict[str, Any]:
    """Runs through one queue alone, beside a queue with tasks without end, and beside one that nobody serves."""
    found: dict[str, list[float]] = {"alone": [], "flooded": [], "dead": []}
    with site("ours", ("cpu", "busy", "dead")) as place:
        place.worker("ours", slots=4)
        place.worker("ours", "busy", slots=4)
        calm = place.until_served(chain(1, "/cpu/noop"))
        slow = place.until_served(chain(1, "/busy/slow"))
        nobody = place.store(chain(1, "/dead/noop"))
        latencies_ms(place, calm, WARM_UP)
        for _ in range(given.repeat):
            for name, other in (("alone", None), ("flooded", slow), ("dead", nobody)):
                found[name] += beside(place, calm, other, given)
    p99 = {name: quantile(sorted(times), 0.99) for name, times in found.items()}
    ratios = {f"{name}_ratio": round(p99[name] / p99["alone"], 2) for name in ("flooded", "dead")}
    return {f"{name}_p99_ms": round(value, 3) for name, value in p99.items()} | ratios


def beside(place: Site, calm: str, other: str | None, given: argparse.Namespace) -> list[float]:
    """How long runs take while another run has its tasks in another queue."""
    if other is None:
        return latencies_ms(place, calm, given.singles)
    run_id = place.begin(other, [{"n": n} for n in range(given.items)], 1_000)
    time.sleep(0.5)
    times = latencies_ms(place, calm, given.singles)
    place.call("RunsService", "CancelRun", run_id=run_id)
    place.wait(run_id)
    time.sleep(0.5)
    return times


def pairs_of(given: argparse.Namespace) -> list[tuple[str, str, int]]:
    if not given.compare:
        return [(given.server, given.worker, given.workers)]
    return [
        ("ours", "ours", 1),
        ("upstream", "upstream", 1),
        ("ours", "upstream", 1),
        ("upstream", "upstream", 4),
        ("ours", "upstream", 4),
    ]


def compared(found: list[dict[str, Any]]) -> dict[str, float]:
    """How many times the tasks a second of the reference's pair, and how many times our time of the processor it takes.

    The latter stays as it is where others take their share of the machine.
    """
    pairs = {(each["server"], each["worker"], each["workers"]): each for each in found}
    rates = {pair: each["tasks_per_s"] for pair, each in pairs.items()}
    costs = {pair: each["server_us_per_task"] + each["worker_us_per_task"] for pair, each in pairs.items()}
    ours, reference = ("ours", "ours", 1), ("upstream", "upstream", 1)
    return {
        "ours_is": round(rates[ours] / rates[reference], 1),
        "reference_cpu_is": round(costs[reference] / costs[ours], 1) if costs[ours] else 0.0,
        "upstream_worker_is": round(rates["ours", "upstream", 1] / rates[reference], 2),
        "four_upstream_workers_are": round(rates["ours", "upstream", 4] / rates[reference], 2),
        "four_upstream_workers_to_its_own_server": round(
            rates["ours", "upstream", 4] / rates["upstream", "upstream", 4], 2
        ),
    }


def table(found: Sequence[dict[str, Any]]) -> str:
    rows = [("server", "worker", "workers", "tasks/s", "server µs", "worker µs", "p50 ms", "p99 ms")]
    number: Callable[[float], str] = "{:,.0f}".format
    for each in found:
        costs = number(each["server_us_per_task"]), number(each["worker_us_per_task"])
        times = f"{each['p50_ms']:.2f}", f"{each['p99_ms']:.2f}"
        rows.append((each["server"], each["worker"], str(each["workers"]), number(each["tasks_per_s"]), *costs, *times))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--compare", action="store_true", help="all pairs of servers and workers in turn: up to a minute a round")
    add("--flood", action="store_true", help="instead: what a flooded queue and a dead one do to another's runs")
    add("--items", type=int, default=20_000, help="of a batch (%(default)s); with the reference at most 1,000 tasks")
    add("--steps", type=int, default=1, help="of each item, one after the other, a task each (%(default)s)")
    add("--repeat", type=int, default=5, help="rounds of which the medians are given (%(default)s)")
    add("--server", choices=("ours", "upstream"), default="ours", help="without --compare (%(default)s)")
    add("--worker", choices=("ours", "upstream"), default="ours", help="without --compare (%(default)s)")
    add("--workers", type=int, default=1, help="processes, without --compare (%(default)s)")
    add("--slots", type=int, default=200, help="tasks that our worker does at a time (%(default)s)")
    add("--upstream-slots", type=int, default=32, help="the same of the reference's worker (%(default)s)")
    add("--concurrency", type=int, default=10, help="tasks under way at least, if the slots are fewer (%(default)s)")
    add("--singles", type=int, default=100, help="runs of one item that p50_ms and p99_ms are of (%(default)s)")
    add("--json", action="store_true", help="only the JSON line, no table")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    shape = {"benchmark": "queue", "items": given.items, "steps": given.steps, "slots": given.slots}
    if given.flood:
        print(json.dumps(shape | flood(given)))
        return
    found = measure(pairs_of(given), given)
    if not given.json:
        print(table(found))
    print(json.dumps(shape | found[0] | ({"pairs": found, **compared(found)} if given.compare else {})))


if __name__ == "__main__":
    main()
