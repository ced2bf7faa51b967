"""A process with a worker's heart, and nothing of a worker besides, that does what it is told by its stdin.

`python heart_process.py WORKER_ID HOST:PORT` prints `ready` once a process beats for it. Then each line of stdin is a
command: `add ID` and `remove ID` begin and end a task that is beaten for by itself, `match` lets a thread hold the
interpreter's lock for years, `nap` lets the event loop sleep as long, `leave` ends in an orderly way. What servers do
not want to hear of any more is printed.
"""

import asyncio
import re
import sys
import threading
import time

from stepflow.clock import SystemClock
from stepflow.records import Task
from stepflow_grpc.address import read_address
from stepflow_grpc.credentials import Credentials
from stepflow_grpc.queues.records import WorkerReport
from stepflow_grpc.worker.heart import Heart
from stepflow_grpc.worker.link import Given

YEARS = 1e8


def say(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def given(task_id: str, url: str) -> Given:
    task = Task(
        run_id="run", root_run_id="run", flow_id="", item=0, step=0, step_id="s", component="/c", target="c", input=None
    )
    return Given(task_id, task, url, 0.5)


def match_for_years() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


def nap_for_years() -> None:
    time.sleep(YEARS)


async def main(worker_id: str, url: str) -> None:
    heart = Heart(
        worker_id,
        SystemClock(),
        unwanted=lambda given, is_claimed: say("unwanted", given.id, "claimed" if is_claimed else "unknown"),
        ask=lambda: WorkerReport(slots=3, busy=1, versions={"app": "1.2"}),
        credentials=Credentials(token="s3cret"),
    )
    async with heart:
        heart.connect(read_address(url))
        say("ready")
        while command := (await asyncio.to_thread(sys.stdin.readline)).split():
            match command:
                case ["add", task_id]:
                    heart.add(given(task_id, url))
                case ["remove", task_id]:
                    heart.remove(task_id)
                case ["match"]:
                    threading.Thread(target=match_for_years, name="matching").start()
                case ["nap"]:
                    nap_for_years()
                case ["leave"]:
                    return


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
