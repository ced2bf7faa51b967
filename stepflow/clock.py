"""The system's clock and chance. Nothing else in the core reads the time, sleeps, or draws."""

import os
import random
import time
from contextlib import nullcontext
from uuid import UUID

import anyio


class SystemClock:
    """Real time. Inside a virtual-time loop only `now` differs: see `stepflow.testing`."""

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def timeout(self, seconds: float, *, shield: bool = False) -> anyio.CancelScope:
        return anyio.move_on_after(seconds, shield=shield)

    def busy(self) -> nullcontext[None]:
        return nullcontext()


class SystemChance:
    """Random numbers and ids from the operating system's entropy, or from a seed."""

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(os.urandom(16) if seed is None else seed)
        self._last = 0

    def random(self) -> float:
        return self._random.random()

    def run_id(self, now: float) -> str:
        """UUID version 7 (RFC 9562, section 5.7), increasing even within a millisecond.

        The twelve bits beside the version count up when the millisecond did not change (method 1 of section 6.2).
        """
        stamp = (int(now * 1000) << 12) | self._random.getrandbits(10)
        self._last = stamp = max(stamp, self._last + 1)
        value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | self._random.getrandbits(62)
        return str(UUID(int=value))
