"""The ports of a server, and who may come in through them."""

import logging
import re
import ssl
from collections.abc import Sequence

import grpc
import grpc.aio

from stepflow.errors import StepflowError
from stepflow.protocols import Clock
from stepflow_grpc.channel import is_loopback
from stepflow_grpc.doors.front import Front
from stepflow_grpc.doors.guard import Guard, Tokens
from stepflow_grpc.doors.http import HttpSide
from stepflow_grpc.doors.limits import Limits
from stepflow_grpc.doors.tls import Certificates, TlsFiles
from stepflow_grpc.messages import POOL
from stepflow_grpc.noise import leave_out_noise
from stepflow_grpc.services.calls import handlers
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
        self.local_port = 0  # of 127.0.0.1, where gRPC is spoken without the front; 0: `port` has none

    @property
    def url(self) -> str:
        """Where workers on this machine, or those that know its address, come in."""
        host = "127.0.0.1" if self.host in _ANY else self.host
        host = f"[{host}]" if ":" in host else host
        return f"{'https://' if self._tls is not None else ''}{host}:{self.port}"

    async def open(
        self, services: Sequence[grpc.ServiceRpcHandler], host: str, port: int, http_port: int | None = None
    ) -> None:
        """Listen. Nobody is told that calls are taken before `welcome`.

        Raises:
            ServerError: a port can't be had.
            CredentialsError: the certificate can't be used.
        """
        leave_out_noise()
        self.host = host
        certificates = None if self._tls is None else Certificates(self._tls)
        self._grpc = grpc.aio.server(options=self._limits.options(), maximum_concurrent_rpcs=self._limits.calls)
        self._grpc.add_generic_rpc_handlers([self._guard(services)])
        try:
            await self._listen(host, port, certificates)
            if http_port is not None:
                context = None if certificates is None else certificates.http_context()
                self.http_port = await self._open_front(None, host, http_port, "--http-port", context)
        except BaseException:
            await self.close()
            raise
        self._warn()

    async def _listen(self, host: str, port: int, certificates: Certificates | None) -> None:
        if certificates is not None:
            at = f"[{host}]" if ":" in host else host or "0.0.0.0"
            try:
                self.port = self._grpc.add_secure_port(f"{at}:{port}", certificates.grpc_credentials())
            except RuntimeError as error:
                raise _taken(port, host, "--port", _reason(error)) from None
            await self._grpc.start()
            return
        self.local_port = self._grpc.add_insecure_port("127.0.0.1:0")
        await self._grpc.start()
        self.port = await self._open_front(("127.0.0.1", self.local_port), host, port, "--port")

    async def _open_front(
        self, behind: tuple[str, int] | None, host: str, port: int, flag: str, tls: ssl.SSLContext | None = None
    ) -> int:
        front = Front(behind, self._http, self._clock, self._limits)
        try:
            bound = await front.open(host, port, tls)
        except OSError as error:
            raise _taken(port, host, flag, error.strerror or str(error)) from error
        self._fronts.append(front)
        return bound

    def _guard(self, services: Sequence[grpc.ServiceRpcHandler]) -> Guard:
        names = [service.service_name() for service in services]
        about = [handlers("Health", self._probes, PACKAGE)]
        served = [*names, f"{PACKAGE}.Health", *(f"{package}.ServerReflection" for package in PACKAGES)]
        about += [handlers("ServerReflection", Reflection(package, served), package) for package in PACKAGES]
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

    async def close(self, grace_s: float | None = None) -> None:
        """Close every connection, once its calls are answered or the time is over."""
        self.stop()
        await self._grpc.stop(grace_s)
        for front in self._fronts:
            await front.close()


def _taken(port: int, host: str, flag: str, why: str) -> ServerError:
    remedy = f"take another with {flag}, 0 for a free one"
    return ServerError(f"port {port} of {host} can't be had: {why}; {remedy}")


def _reason(error: RuntimeError) -> str:
    """The system's word for it, out of gRPC's many."""
    found = re.search(r"(Address already in use|Permission denied|Cannot assign requested address)", str(error))
    return found[1] if found is not None else "gRPC can't listen there"
