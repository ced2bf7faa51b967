"""The batch in LangGraph, without a checkpointer and with its memory saver. Runs in an environment of its own."""

import argparse
import asyncio
import json
import time
from importlib.metadata import version
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict):
    n: int


async def noop(state: State) -> State:
    return {"n": state["n"]}


def chain(steps: int, checkpointer: InMemorySaver | None) -> Any:
    graph = StateGraph(State)
    names = [f"s{index}" for index in range(steps)]
    for name in names:
        graph.add_node(name, noop)
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    return graph.compile(checkpointer=checkpointer)


async def measure(items: int, steps: int, slots: int, checkpointer: InMemorySaver | None) -> dict[str, Any]:
    graph = chain(steps, checkpointer)
    inputs = [{"n": n} for n in range(items)]
    configs = [{"max_concurrency": slots, "configurable": {"thread_id": str(n)}} for n in range(items)]
    await graph.abatch(inputs[:50], configs[:50])
    for config in configs:
        config["configurable"] = {"thread_id": "run-" + config["configurable"]["thread_id"]}
    started = time.perf_counter()
    results = await graph.abatch(inputs, configs)
    elapsed = time.perf_counter() - started
    assert results == inputs
    return {
        "peer": "langgraph" + (" + InMemorySaver" if checkpointer else ""),
        "version": version("langgraph"),
        "items": items,
        "steps": steps,
        "steps_per_s": round(items * steps / elapsed),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--max-concurrency", type=int, required=True)
    given = parser.parse_args()
    for checkpointer in (None, InMemorySaver()):
        print(json.dumps(asyncio.run(measure(given.items, given.steps, given.max_concurrency, checkpointer))))


if __name__ == "__main__":
    main()
