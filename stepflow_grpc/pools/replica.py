"""One worker of a pool: started, started again when it dies, and stopped."""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from stepflow.protocols import Chance, Clock
from stepflow_grpc.pools.guard import Guard
from stepflow_grpc.pools.pool import Pool
from stepflow_grpc.pools.process import GroupProcess
from stepflow_grpc.pools.restarts import HEALTHY_S, Death, reason_of, restart_delay

logger = logging.getLogger("stepflow.pools")

_SHOWN = 8
"""How many of its last lines are told again when a worker dies."""


class Surroundings(msgspec.Struct, frozen=True, eq=False):
    """What the workers of one server share."""

    tasks_url: str  # host:port, where they find the server
    env: Mapping[str, str]
    clock: Clock
    chance: Chance
    guard: Guard
    say: Callable[[str], Awaitable[None]]  # takes a line for people, or several


class Replica:
    """Keeps one worker running. `run` is to be called once, and ends after `stop` or `kill`."""

    def __init__(self, pool: Pool, number: int, around: Surroundings) -> None:
        self._pool = pool
        self._around = around
        self._name = f"{pool.queue}/{number}"
        self._process: GroupProcess | None = None
        self._stopped = asyncio.Event()
        self._started_at = 0.0
        self._was_connected = False
        self.worker_id = ""
        """How the worker that runs now calls itself, if it is one of ours."""
        self.deaths = 0
        self.in_a_row = 0
        """How many times it died soon after it was started, up to now."""
        self.last_death: Death | None = None
        self.restarts_at: float | None = None

    @property
    def pid(self) -> int | None:
        """None: it does not run now."""
        return None if self._process is None else self._process.pid

    @property
    def is_crashing(self) -> bool:
        """Whether it has died soon after its last starts, and nothing says yet that this is over."""
        return self.in_a_row > 0 and not self._is_proven(self.lived_s())

    def lived_s(self) -> float:
        """How long it has been running; 0: it does not."""
        return self._around.clock.now() - self._started_at if self._process is not None else 0.0

    def connected(self) -> None:
        """The worker that runs now is connected."""
        self._was_connected = True

    def _is_proven(self, lived_s: float) -> bool:
        """A start may take minutes, and fail then: of ours it is known when they have come so far."""
        return lived_s >= HEALTHY_S and (self._was_connected or self._pool.app is None)

    async def run(self) -> None:
        while not self._stopped.is_set():
            death = await self._live()
            if self._stopped.is_set():
                return
            delay_s = self._note(death)
            with self._around.clock.timeout(delay_s):
                await self._stopped.wait()

    def stop(self) -> None:
        """Ask the worker to end, and start no other."""
        self._stopped.set()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the worker now, and start no other."""
        self._stopped.set()
        self._signal(signal.SIGKILL)

    async def _live(self) -> Death:
        """Start it, and wait until it ends."""
        around, pool = self._around, self._pool
        self._started_at = around.clock.now()
        self.restarts_at = None
        self._was_connected = False
        env = pool.environment(around.tasks_url, around.env, self._new_id())
        self.worker_id = env["STEPFLOW_WORKER_ID"]
        try:
            process = await GroupProcess.start(pool.arguments(), env=env, directory=pool.directory, say=self._say)
        except OSError as error:
            where = f"{error.filename}: " if error.filename is not None else ""
            return Death(f"{where}{error.strerror or error}", self._started_at, 0.0, is_start=True)
        self._process = process
        await around.guard.began(process.pid)
        if self._stopped.is_set():
            process.signal(signal.SIGTERM)
        try:
            code = await process.ended(around.clock)
        finally:
            self._process = None
            around.guard.ended(process.pid)
        now = around.clock.now()
        return Death(reason_of(code), now, now - self._started_at, process.said)

    def _note(self, death: Death) -> float:
        """Tell that it died. Returns: after how many seconds it is started again."""
        self.deaths += 1
        self.in_a_row = 0 if self._is_proven(death.lived_s) else self.in_a_row + 1
        self.last_death = death
        delay_s = restart_delay(self.in_a_row, self._around.chance.random())
        self.restarts_at = self._around.clock.now() + delay_s
        often = f" ({self.in_a_row} times in a row)" if self.in_a_row > 1 else ""
        again = f"starts again in {delay_s:.1f} s" if delay_s else "starts again"
        said = "".join(f"\n    {line}" for line in death.said[-_SHOWN:])
        logger.warning(
            "worker %s (%s) %s%s; it %s%s",
            *(self._name, self._pool.shown, death, often, again),
            f". It said last:{said}" if said else "",
        )
        return delay_s

    def _new_id(self) -> str:
        chance = self._around.chance.run_id(self._started_at)[-12:]
        return f"{socket.gethostname()}-{self._name.replace('/', '-')}-{chance}"

    async def _say(self, lines: Sequence[str]) -> None:
        await self._around.say("\n".join(f"[{self._name}] {line}" for line in lines))

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.signal(number)
