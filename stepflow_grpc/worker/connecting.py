"""A connection to every orchestrator behind a name."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import msgspec

from stepflow.protocols import Chance, Clock
from stepflow_grpc.address import Address
from stepflow_grpc.worker.connection import Connection, MakeLink
from stepflow_grpc.worker.running import RunningTasks

logger = logging.getLogger("stepflow.worker")

LOOKED_UP_EVERY_S = 10.0
"""For orchestrators that came or went; once a second while there is none."""

TICK_S = 0.5


class WholeHeart(Protocol):
    """Says of the worker as a whole that it lives, for servers to which that is enough."""

    def connect(self, address: Address, *, name: str | None = None) -> None: ...

    def disconnect(self, address: Address) -> None: ...


LookUp: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]


async def look_up(host: str) -> Sequence[str]:
    """The numeric addresses behind a name. Those of IPv4 alone where there are both kinds, since they are mostly two
    ways to the same place.

    Raises:
        OSError: the name is not known.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    by_family: dict[int, set[str]] = {}
    for family, _, _, _, place in found:
        by_family.setdefault(family, set()).add(str(place[0]))
    return sorted(by_family.get(socket.AF_INET) or by_family.get(socket.AF_INET6) or ())


class Connecting:
    """Keeps a connection to each address behind a name, and one only to each engine."""

    def __init__(
        self,
        address: Address,
        desk: RunningTasks,
        makers: Sequence[MakeLink],
        clock: Clock,
        chance: Chance,
        *,
        heart: WholeHeart,
        look_up: LookUp = look_up,
    ) -> None:
        """
        Args:
            makers: of links, the best one first; the next is tried where a server doesn't speak it.
        """
        self._address = address
        self._desk = desk
        self._makers = makers
        self._clock = clock
        self._chance = chance
        self._heart = heart
        self._look_up = look_up
        self._kept: dict[Address, tuple[Connection, asyncio.Task[None]]] = {}
        self._doubles: dict[Address, Connection] = {}  # addresses that lead to an engine that is connected already
        self._looked_up_at = 0.0
        self._told = ""

    def live(self) -> Sequence[Address]:
        """The orchestrators whose streams are open, longest connected first."""
        return [address for address, (connection, _) in self._kept.items() if connection.is_live]

    async def run(self) -> None:
        """Until it is cancelled, or a link fails in a way that no other try would mend."""
        try:
            while True:
                every_s = LOOKED_UP_EVERY_S if self.live() else 1.0
                if self._clock.now() - self._looked_up_at >= every_s and not self._desk.is_draining:
                    self._looked_up_at = self._clock.now()
                    await self._follow(await self._places())
                await self._drop_doubles()
                for _, keeping in self._kept.values():
                    if keeping.done():
                        keeping.result()
                await self._clock.sleep(TICK_S)
        finally:
            for address in list(self._kept):
                await self._drop(address)

    async def _places(self) -> Mapping[Address, str | None]:
        """Where to connect, each with the name that it was looked up by."""
        host = self._address.host
        if host == "localhost" or _is_numeric(host):
            return {self._address: None}
        try:
            found = await self._look_up(host)
        except OSError as error:
            if self._told != str(error):
                self._told = str(error)
                logger.warning("there is no host %r: %s; trying again", host, error.strerror or error)
            return dict.fromkeys(self._kept, host)
        self._told = ""
        return {msgspec.structs.replace(self._address, host=each): host for each in found}

    async def _follow(self, places: Mapping[Address, str | None]) -> None:
        for address, (connection, _) in list(self._kept.items()):
            if address not in places and not connection.is_live:
                await self._drop(address)
        for address, name in places.items():
            double = self._doubles.get(address)
            if address in self._kept or (double is not None and double.is_live):
                continue
            connection = Connection(address, name, self._desk, self._makers, self._clock, self._chance)
            self._heart.connect(address, name=name)
            self._kept[address] = connection, asyncio.create_task(connection.keep())

    async def _drop_doubles(self) -> None:
        first: dict[str, Connection] = {}
        for address, (connection, _) in list(self._kept.items()):
            engine = connection.engine
            known = first.setdefault(engine, connection) if engine else connection
            if known is not connection:
                self._doubles[address] = known
                await self._drop(address)

    async def _drop(self, address: Address) -> None:
        self._heart.disconnect(address)
        _, keeping = self._kept.pop(address)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
