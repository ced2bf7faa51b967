"""A store seen through faults: calls take time, fail, or do their work and lose the answer, until their engine dies."""

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, Self

import anyio

from stepflow.errors import StoreUnavailableError
from stepflow.protocols import Backend, Clock, Signals
from stepflow.records import Verdict, Write

_CLAIM = "claim"
_BEYOND_DEATH_S = (6.5, 12.0)
"""How long an engine hears nothing from its store when it stalls: longer than it may be silent."""


class Rates(Protocol):
    @property
    def delay_s(self) -> float: ...
    @property
    def lost_rate(self) -> float: ...
    @property
    def torn_rate(self) -> float: ...
    @property
    def stall_rate(self) -> float: ...
    @property
    def refusal_rate(self) -> float: ...
    @property
    def refusal_s(self) -> float: ...


class FaultyBackend:
    """A backend of one engine, over one that others share. After `die` it answers nothing more."""

    def __init__(self, inner: Backend, faults: Rates, draw: random.Random, clock: Clock) -> None:
        self._inner = inner
        self._faults = faults
        self._draw = draw
        self._clock = clock
        self._stalled_until = 0.0
        self._refused_until = 0.0
        self._is_dead = False
        self._is_healed = False
        self.journal: Any = FaultyJournal(inner.journal, self)
        self.runs: Any = _Faulty(inner.runs, self)
        self.blobs: Any = _Faulty(inner.blobs, self)
        self.owners: Any = _FaultyOwners(inner.owners, self)
        self.inbox: Any = _Faulty(inner.inbox, self)
        self.dispatch: Any = _Faulty(inner.dispatch, self)
        self.retention: Any = _Faulty(inner.retention, self)

    @property
    def signals(self) -> Signals:
        return self._inner.signals

    @property
    def is_durable(self) -> bool:
        return True  # to whoever is killed

    @property
    def is_shared(self) -> bool:
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return None

    def die(self) -> None:
        self._is_dead = True

    def stall(self, seconds: float) -> None:
        """Answer nothing for so long; what was asked meanwhile is done then."""
        self._stalled_until = self._clock.now() + seconds

    def heal(self) -> None:
        """From now on nothing goes wrong."""
        self._is_healed = True

    async def call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do a call with whatever befalls it."""
        await self._pass(self._draw.uniform(0, self._faults.delay_s))
        if not self._is_healed and self._draw.random() < self._faults.stall_rate:
            self.stall(self._draw.uniform(*_BEYOND_DEATH_S))
            await self._pass(0.0)
        if not self._is_healed and self._draw.random() < self._faults.lost_rate:
            raise StoreUnavailableError("the connection was lost before the call arrived")
        answer = await work()
        await self._pass(self._draw.uniform(0, self._faults.delay_s))
        if not self._is_healed and self._draw.random() < self._faults.torn_rate:
            raise StoreUnavailableError("the connection was lost before the answer came")
        return answer

    async def may_write(self) -> None:
        """Raises: StoreUnavailableError, as a database that takes no writes for a while answers."""
        faults = self._faults
        if self._is_healed or not faults.refusal_rate:
            return
        await self._pass(self._draw.uniform(0, faults.delay_s))
        if self._draw.random() < faults.refusal_rate:
            self._refused_until = self._clock.now() + self._draw.uniform(0, faults.refusal_s)
        if self._clock.now() < self._refused_until:
            raise StoreUnavailableError("the database takes no writes now")

    async def _pass(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        while (left_s := self._stalled_until - self._clock.now()) > 0:
            await self._clock.sleep(left_s)
        if self._is_dead:
            await anyio.sleep_forever()


class _Faulty:
    """One protocol of the store, each call with its faults."""

    def __init__(self, inner: Any, backend: FaultyBackend) -> None:
        self._inner = inner
        self._backend = backend

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._backend.call(lambda: method(*args, **kwargs))

        return call


class FaultyJournal(_Faulty):
    """From time to time nothing can be written, again and again, while everything else is as it was."""

    async def commit(self, writes: Sequence[Write]) -> Sequence[Verdict]:
        await self._backend.may_write()
        verdicts: Sequence[Verdict] = await self._backend.call(lambda: self._inner.commit(writes))
        return verdicts


class _FaultyOwners(_Faulty):
    """What was claimed by a call whose answer was lost is given by the next."""

    def __init__(self, inner: Any, backend: FaultyBackend) -> None:
        super().__init__(inner, backend)
        self._untold: list[Any] = []

    def keep_alive(self, owner: str) -> AbstractAsyncContextManager[None]:
        found: AbstractAsyncContextManager[None] = self._inner.keep_alive(owner)
        return found

    async def claim(self, owner: str, **kwargs: Any) -> Any:
        async def work() -> None:
            self._untold += await self._inner.claim(owner, **kwargs)

        await self._backend.call(work)
        told, self._untold = self._untold, []
        return [(record, lease) for record, lease in told if lease.owner == owner]
