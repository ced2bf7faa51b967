"""A process that has entered a store as an engine would, and does what it is told by its stdin.

`python engine_process.py URL OWNER TTL_S [forked]` prints `entered` once it beats from a process of its own. Then each
line of stdin is a command: `match` holds the interpreter's lock for years, `leave` ends in an orderly way. A file named
by STEPFLOW_TEST_TICKS grows for as long as the interpreter's other threads get turns.
"""

import asyncio
import os
import re
import signal
import sys
import threading
from pathlib import Path

from stepflow.protocols import Backend
from stepflow.records import EngineRecord
from stepflow.stores.open import open_store


async def main(url: str, owner: str, ttl_s: float) -> None:
    async with open_store(url) as store:
        await store.owners.enter(EngineRecord(owner=owner, name=owner), ttl_s=ttl_s)
        async with store.owners.keep_alive(owner):
            await until_beaten(store, owner)
            if "forked" in sys.argv and os.fork() == 0:
                signal.pause()  # with all files of its parent open
            sys.stdout.write("entered\n")
            sys.stdout.flush()
            command = await asyncio.to_thread(sys.stdin.readline)
            if command == "match\n":
                threading.Thread(target=tick, daemon=True).start()
                re.match(r"(a+)+$", "a" * 60 + "b")
        await store.owners.leave(owner)


async def until_beaten(store: Backend, owner: str) -> None:
    """Return once somebody else has said that this engine lives."""
    entered = await store.owners.engines()
    while await store.owners.engines() in (entered, []):
        await asyncio.sleep(0.01)


def tick() -> None:
    ticks = Path(os.environ["STEPFLOW_TEST_TICKS"])
    pause = threading.Event()
    while True:
        with ticks.open("ab") as file:
            file.write(b".")
        pause.wait(0.01)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
