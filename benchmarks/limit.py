"""The bare slot loop: what the shape of a batch costs when nothing but the shape is there.

A fixed set of runner tasks takes the next ready step from a deque, evaluates its input by closures, awaits an async
no-op, keeps an entry in a list for the start and the end of the step, and goes on with the step that became ready.
There is no flow, no store, no retry, no cancellation and no error: an engine can come near this, never reach it.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio

Evaluate = Callable[[list[Any], Any], Any]


def _field(source: Evaluate, name: str) -> Evaluate:
    return lambda outputs, item: source(outputs, item)[name]


def _object(fields: tuple[tuple[str, Evaluate], ...]) -> Evaluate:
    return lambda outputs, item: {name: part(outputs, item) for name, part in fields}


def _output_of(index: int) -> Evaluate:
    return lambda outputs, item: outputs[index]


def _the_item(outputs: list[Any], item: Any) -> Any:
    return item


def chain(steps: int) -> list[Evaluate]:
    """The inputs of the same chain of steps that `shape.chain` writes as a flow."""
    first = _object((("n", _field(_the_item, "n")),))
    return [first, *(_object((("n", _field(_output_of(index), "n")),)) for index in range(steps - 1))]


async def noop(input: Any) -> Any:
    return input


async def run(items: list[Any], steps: int, slots: int) -> list[Any]:
    inputs = chain(steps)
    ready = deque((index, 0) for index in range(len(items)))
    outputs: list[list[Any]] = [[None] * steps for _ in items]
    journal: list[tuple[Any, ...]] = []
    results: list[Any] = [None] * len(items)

    async def runner() -> None:
        while ready:
            index, step = ready.popleft()
            while step < steps:
                journal.append(("go", index, step))
                output = await noop(inputs[step](outputs[index], items[index]))
                outputs[index][step] = output
                journal.append(("ok", index, step, output))
                step += 1
            results[index] = output

    async with anyio.create_task_group() as group:
        for _ in range(slots):
            group.start_soon(runner)
    return results


def steps_per_s(items: int, steps: int, slots: int) -> float:
    inputs = [{"n": n} for n in range(items)]
    started = time.perf_counter()
    results = anyio.run(run, inputs, steps, slots)
    elapsed = time.perf_counter() - started
    assert results == inputs
    return items * steps / elapsed
