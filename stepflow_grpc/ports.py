"""The ports of a server, and who may come in through them."""

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

from stepflow.errors import StepflowError
from stepflow.protocols import Clock
from stepflow_grpc.channel import is_loopback
from stepflow_grpc.doors.front import Front
from stepflow_grpc.doors.guard import Guard, Service, Tokens
from stepflow_grpc.doors.http import HttpSide
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.doors.tls import Certificates, TlsFiles
from stepflow_grpc.messages import POOL
from stepflow_grpc.services.calls import service_of
from stepflow_grpc.services.probes import PACKAGE, Probes
from stepflow_grpc.services.reflection import PACKAGES, Reflection

logger = logging.getLogger("stepflow.server")

GRACE_S = 5.0
"""How long calls that are under way may take when the doors close."""

_ANY = ("0.0.0.0", "::", "")


class ServerError(StepflowError):
    """The server could not be started."""


class Doors:
    """gRPC and HTTP/1.1 on one port; with TLS gRPC alone, and HTTP on a port of its own.

    Args:
        tls: None speaks in clear.
        tokens: of which callers have to show one; None lets everybody in.
    """

    def __init__(
        self, http: HttpSide, clock: Clock, limits: Limits, *, tls: TlsFiles | None = None, tokens: Tokens | None = None
    ) -> None:
        self._http = http
        self._clock = clock
        self._limits = limits
        self._tls = tls
        self._tokens = tokens
        self._probes = Probes()
        self._fronts: list[Front] = []
        self.host = ""
        self.port = 0
        self.http_port: int | None = None  # that of HTTP, where it has one of its own

    @property
    def url(self) -> str:
        """Where workers on this machine, or those that know its address, come in."""
        host = "127.0.0.1" if self.host in _ANY else self.host
        host = f"[{host}]" if ":" in host else host
        return f"{'https://' if self._tls is not None else ''}{host}:{self.port}"

    async def open(self, services: Sequence[Service], host: str, port: int, http_port: int | None = None) -> None:
        """Listen. Nobody is told that calls are taken before `welcome`.

        Raises:
            ServerError: a port can't be had.
            CredentialsError: the certificate can't be used.
        """
        self.host = host
        find = self._guard(services).find
        certificates = None if self._tls is None else Certificates(self._tls)
        try:
            if certificates is None:
                self.port = await self._listen(port, "--port", http=self._http, find=find)
            else:
                self.port = await self._listen(port, "--port", find=find, tls=certificates.of_grpc)
            if http_port is not None:
                tls = None if certificates is None else certificates.of_http
                self.http_port = await self._listen(http_port, "--http-port", http=self._http, tls=tls)
        except BaseException:
            await self.close()
            raise
        self._warn()

    async def _listen(self, port: int, flag: str, **speaks: Any) -> int:
        front = Front(self._clock, self._limits, **speaks)
        try:
            bound = await front.open(self.host, port)
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else error.strerror or str(error)
            remedy = f"take another with {flag}, 0 for a free one"
            raise ServerError(f"port {port} of {self.host} can't be had: {why}; {remedy}") from error
        self._fronts.append(front)
        return bound

    def _guard(self, services: Sequence[Service]) -> Guard:
        names = [service.name for service in services]
        about = [service_of("Health", self._probes, PACKAGE)]
        served = [*names, f"{PACKAGE}.Health", *(f"{package}.ServerReflection" for package in PACKAGES)]
        about += [service_of("ServerReflection", Reflection(package, served), package) for package in PACKAGES]
        self._probes.know(served)
        assert all(POOL.FindServiceByName(name) for name in served)
        return Guard([*services, *about], self._tokens)

    def _warn(self) -> None:
        if is_loopback(self.host):
            return
        where = f"{self.host or '0.0.0.0'}:{self.port}"
        if self._tokens is None and (self._tls is None or self._tls.client_ca is None):
            logger.warning(
                "EVERYBODY who reaches %s may run flows, take tasks and read blobs: "
                "ask for a token with --token-file FILE, or listen on --host 127.0.0.1",
                where,
            )
        if self._tls is None:
            logger.warning(
                "what goes through %s can be read on its way%s: give --tls-cert FILE and --tls-key FILE",
                where,
                ", the tokens too" if self._tokens is not None else "",
            )

    def welcome(self) -> None:
        """Say that calls are taken."""
        self._probes.say(serves=True)

    def stop(self) -> None:
        """Take no more connections, and say so; calls that are under way go on."""
        self._probes.say(serves=False, is_over=True)
        for front in self._fronts:
            front.stop()

    async def close(self, grace_s: float = 0.0) -> None:
        """Close every connection, once its calls are answered or the time is over."""
        self.stop()
        await asyncio.gather(*(front.close(grace_s) for front in self._fronts))
