"""How long does one durable run take, of one step and of ten, with nothing else running?

Beside it: one bare commit of the same store, by which the goals are set, and DBOS with `--peers`. The last line of the
output is one JSON object. See README.md beside this file.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from bench_batch import registry
from durable_limit import commit_ms
from peers.environments import measure
from places import Places, places_for
from shape import chain

import stepflow

TURN = 10
WARMUP = 2 * TURN


async def singles_ms(engine: stepflow.Engine, flow: stepflow.Flow, count: int) -> list[float]:
    """From the submission to the result, in milliseconds, one run after the other."""
    times = []
    for n in range(count):
        started = time.perf_counter()
        output = await engine.run(flow, {"n": n})
        times.append((time.perf_counter() - started) * 1000)
        assert output == {"n": n}
    return times


async def one_round(places: Places, given: argparse.Namespace) -> dict[str, list[float]]:
    """The times of bare commits and of runs, taken a few at a time in turn, so that both meet the same machine."""
    flows = {str(steps): stepflow.read_flow(chain(steps, "/noop")) for steps in given.steps}
    found: dict[str, list[float]] = {name: [] for name in flows}
    async with stepflow.Engine(registry(), store=places.store) as engine, AsyncExitStack() as stack:
        bare = None if places.bare is None else await stack.enter_async_context(places.bare())
        for at in range(0, WARMUP + given.singles, TURN):
            if bare is not None:
                found.setdefault("commit", []).extend(await commit_ms(bare, range(at + 1, at + TURN + 1)))
            for name, flow in flows.items():
                found[name] += await singles_ms(engine, flow, TURN)
    return {name: times[WARMUP:] for name, times in found.items()}


def quantiles(times: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100)
    return {"p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3)}


def of_rounds(rounds: list[dict[str, list[float]]], steps: int) -> dict[str, Any]:
    """The figures of one length, with the goal: a commit a step and one more, and what the engine may add."""
    found = {"steps": steps, **quantiles([each for one in rounds for each in one[str(steps)]])}
    if "commit" in rounds[0]:
        allowed = 0.2 if steps == 1 else 1.0
        commits = [statistics.median(one["commit"]) for one in rounds]
        goals = [(steps + 1) * commit + allowed for commit in commits]
        ratios = [statistics.median(one[str(steps)]) / goal for one, goal in zip(rounds, goals, strict=True)]
        found |= {"goal_ms": round(statistics.median(goals), 3), "of_goal": round(statistics.median(ratios), 2)}
    return found


def measure_ours(places: Places, given: argparse.Namespace) -> dict[str, Any]:
    rounds = [asyncio.run(one_round(places, given)) for _ in range(given.repeat)]
    found: dict[str, Any] = {"benchmark": "latency", "store": places.kind, "rounds": given.repeat}
    if "commit" in rounds[0]:
        found["commit"] = quantiles([each for one in rounds for each in one["commit"]])
    return found | {"singles": given.singles, "runs": [of_rounds(rounds, steps) for steps in given.steps]}


def measure_peers(places: Places, given: argparse.Namespace) -> list[dict[str, Any]]:
    if not places.peer:
        raise SystemExit("the peer keeps its runs in SQLite or PostgreSQL: take such a --store")
    shape = ["--singles", str(given.peer_singles), "--steps", *map(str, given.steps)]
    return measure("dbos", "dbos_durable.py", "--url", places.peer, *shape)


def table(found: dict[str, Any]) -> str:
    lines = []
    if "commit" in found:
        lines.append(_line("one bare commit", found["commit"], ""))
    for run in found["runs"]:
        goal = f"{run['of_goal']} × of the goal ({run['goal_ms']:.2f} ms)" if "goal_ms" in run else ""
        lines.append(_line(f"stepflow-engine on {found['store']}, {_steps(run)}", run, goal))
    lines += [
        _line(f"{peer['peer']} {peer['version']}, {_steps(peer)}", peer, f"{peer['ours_is']} × ours")
        for peer in found.get("peers", ())
    ]
    return "\n".join(lines)


def _steps(figures: dict[str, Any]) -> str:
    return "1 step" if figures["steps"] == 1 else f"{figures['steps']} steps"


def _line(name: str, figures: dict[str, Any], rest: str) -> str:
    return f"{name:38}  p50 {figures['p50_ms']:8.3f} ms   p99 {figures['p99_ms']:8.3f} ms   {rest}".rstrip()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="sqlite", help="sqlite, postgres (its own server), postgresql://…, memory")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--singles", type=int, default=300, help="runs a round, of each length")
    parser.add_argument("--repeat", type=int, default=5, help="rounds of commits and runs in turn")
    parser.add_argument("--peers", action="store_true", help="run DBOS too, in an environment of its own")
    parser.add_argument("--peer-singles", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="only the JSON line, no table")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    with places_for(given.store) as places:
        found = measure_ours(places, given)
        peers = measure_peers(places, given) if given.peers else []
    if given.peers:
        ours = {run["steps"]: run["p50_ms"] for run in found["runs"]}
        found["peers"] = [peer | {"ours_is": round(peer["p50_ms"] / ours[peer["steps"]], 1)} for peer in peers]
    if not given.json:
        print(table(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
