"""How many tasks a second go through a queue and a worker of its own process, and how long does one take?

The last line of the output is one JSON object. See README.md beside this file.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from queue_site import Site, site
from shape import chain

UPSTREAM_ITEMS = 1_000
"""Tasks of a round with the reference on either end: it is a hundred times slower."""

WARM_UP = 200


def rate(place: Site, flow_id: str, items: int, steps: int, concurrency: int) -> dict[str, float]:
    """One batch, from its submission to its end."""
    inputs = [{"n": n} for n in range(items)]
    before = place.server_cpu_s(), place.workers_cpu_s()
    started = time.perf_counter()
    summary = place.wait(place.begin(flow_id, inputs, concurrency))
    elapsed = time.perf_counter() - started
    assert summary.items.completed == items, summary
    tasks = items * steps
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
    for _ in range(given.repeat):
        for server, worker, workers in pairs:
            rounds[server, worker, workers].append(one_round(server, worker, given, workers))
    return [
        {"server": server, "worker": worker, "workers": workers, **medians(found)}
        for (server, worker, workers), found in rounds.items()
    ]


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
    """How many times the tasks a second of the reference's pair."""
    rates = {(each["server"], each["worker"], each["workers"]): each["tasks_per_s"] for each in found}
    pair = rates["upstream", "upstream", 1]
    return {
        "ours_is": round(rates["ours", "ours", 1] / pair, 1),
        "upstream_worker_is": round(rates["ours", "upstream", 1] / pair, 2),
        "four_upstream_workers_are": round(rates["ours", "upstream", 4] / pair, 2),
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
    parser.add_argument(
        "--items", type=int, default=20_000, help="with the reference on either end at most 1,000 tasks"
    )
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--server", choices=("ours", "upstream"), default="ours")
    parser.add_argument("--worker", choices=("ours", "upstream"), default="ours")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--slots", type=int, default=200, help="of our worker")
    parser.add_argument("--upstream-slots", type=int, default=32, help="of the reference's worker")
    parser.add_argument("--concurrency", type=int, default=10, help="of the run, if the slots are fewer")
    parser.add_argument("--singles", type=int, default=100, help="runs of one item whose times are p50_ms and p99_ms")
    parser.add_argument("--repeat", type=int, default=5, help="rounds of which the medians are given")
    parser.add_argument("--compare", action="store_true", help="all pairs of servers and workers, in turn")
    parser.add_argument("--flood", action="store_true", help="what a flooded queue and a dead one do to another's runs")
    parser.add_argument("--json", action="store_true", help="only the JSON line, no table")
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
