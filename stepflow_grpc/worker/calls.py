"""Calls to orchestrators: one channel an address, used again for as long as it is needed now and then."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
import grpc.aio
import msgspec

from stepflow.records import RunId
from stepflow_grpc.address import Address, read_address
from stepflow_grpc.cancellation import answer_of
from stepflow_grpc.channel import open_channel
from stepflow_grpc.credentials import Credentials
from stepflow_grpc.messages import methods, new

MOST_CHANNELS = 16
ANSWERED_WITHIN_S = 20.0

CallFailed = grpc.aio.AioRpcError
Code = grpc.StatusCode

PASSING = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.ABORTED, Code.UNKNOWN})
"""Statuses of calls that are worth another try: nobody said that the call itself is wrong."""

_TOO_LARGE = "larger than max"
"""gRPC's words for a message that the other side does not take; the status is that of a server at its limits."""


def is_too_large(error: grpc.aio.AioRpcError) -> bool:
    """Whether the other side does not take a message of such a size."""
    is_refused = error.code() is Code.RESOURCE_EXHAUSTED and _TOO_LARGE in (error.details() or "")
    return is_refused or error.code() is Code.OUT_OF_RANGE


def is_passing(error: grpc.aio.AioRpcError) -> bool:
    """Whether a call is worth another try, as where the server says that it has enough to do."""
    return error.code() in PASSING or (error.code() is Code.RESOURCE_EXHAUSTED and not is_too_large(error))


class _Connected:
    __slots__ = ("channel", "stubs", "users")

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.stubs: dict[tuple[str, str], Any] = {}
        self.users = 0

    def stub(self, service: str, name: str) -> Any:
        key = service, name
        if key not in self.stubs:
            method = methods(service)[name]
            serialize = method.request.SerializeToString
            self.stubs[key] = self.channel.unary_unary(method.path, serialize, method.response.FromString)
        return self.stubs[key]


class Calls:
    """Unary calls to any orchestrator, by its address. To be closed by whoever made it."""

    def __init__(self, home: Address, credentials: Credentials | None = None) -> None:
        """
        Args:
            home: where the worker was told to go; addresses that say nothing else are spoken to as this one is.
        """
        self.home = home
        self._credentials = credentials
        self._connected: OrderedDict[Address, _Connected] = OrderedDict()

    def address(self, url: str) -> Address:
        """Raises: AddressError."""
        address = read_address(url)
        if "://" in url:
            return address
        return msgspec.structs.replace(address, is_secure=self.home.is_secure)

    async def call(
        self,
        url: str,
        service: str,
        name: str,
        request: Any,
        *,
        timeout_s: float = ANSWERED_WITHIN_S,
        metadata: Sequence[tuple[str, str]] | None = None,
        waits: bool = False,
    ) -> Any:
        """
        Args:
            waits: for the server to come back, as long as the call may take.

        Raises:
            CallFailed: with the status.
        """
        connected = self._of(self.address(url))
        connected.users += 1
        try:
            stub = connected.stub(service, name)
            return await answer_of(stub(request, timeout=timeout_s, metadata=metadata, wait_for_ready=waits or None))
        finally:
            connected.users -= 1
            await self._close_idle()

    def _of(self, address: Address) -> _Connected:
        if address not in self._connected:
            self._connected[address] = _Connected(open_channel(address, self._credentials))
        self._connected.move_to_end(address)
        return self._connected[address]

    async def _close_idle(self) -> None:
        while len(self._connected) > MOST_CHANNELS:
            idle = next((address for address, found in self._connected.items() if not found.users), None)
            if idle is None:
                return
            await self._connected.pop(idle).channel.close()

    async def owner_of(self, run_id: RunId, *, asked: Iterable[str]) -> str | None:
        """Where the owner of a run is reached, as any of these orchestrators knows; None: none of them does."""
        request = new("GetOrchestratorForRunRequest", run_id=run_id)
        for url in dict.fromkeys(asked):
            try:
                found = await self.call(url, "TasksService", "GetOrchestratorForRun", request, timeout_s=5.0)
            except CallFailed:
                continue
            if found.orchestrator_service_url:
                return str(found.orchestrator_service_url)
        return None

    async def close(self) -> None:
        while self._connected:
            await self._connected.popitem()[1].channel.close()
