"""Components that are hard on the worker that runs them. Each writes a line into a file when it begins."""

import asyncio
import ctypes
import os
import re
import time
from pathlib import Path

from stepflow.components import Components

app = Components()


def note(name: str) -> None:
    with Path(os.environ["STEPFLOW_TEST_LEDGER"]).open("a") as file:
        file.write(f"{name} {os.environ['STEPFLOW_TEST_WORKER']}\n")


@app.component("/match")
def match(size: int) -> str:
    """Holds the interpreter's lock, and a processor: twice as long for each one more, about ten seconds for 28."""
    note("match")
    re.match(r"(a+)+$", "a" * size + "b")
    return "matched"


@app.component("/sit")
def sit(seconds: int) -> str:
    """Holds the interpreter's lock, and sleeps."""
    note("sit")
    ctypes.PyDLL(None).sleep(seconds)
    return "sat"


@app.component("/block")
async def block(seconds: float) -> str:
    """Holds the event loop."""
    note("block")
    time.sleep(seconds)
    return "blocked"


@app.component("/hold")
def hold(seconds: float) -> str:
    """Holds its thread."""
    note("hold")
    time.sleep(seconds)
    return "held"


@app.component("/pooled", process=True)
def pooled(size: int) -> str:
    """Holds the lock of a process of its own."""
    note("pooled")
    re.match(r"(a+)+$", "a" * size + "b")
    return "pooled"


@app.component("/quick")
async def quick(number: int) -> int:
    note(f"quick-{number}")
    return number


@app.component("/wait")
async def wait(place: str) -> str:
    """Until there is something at a place."""
    note("wait")
    while not Path(place).exists():
        await asyncio.sleep(0.02)
    return os.environ["STEPFLOW_TEST_WORKER"]
