"""Whether calls are taken, as gRPC's own probes ask."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio

from stepflow_grpc.details import missing, short
from stepflow_grpc.messages import message
from stepflow_grpc.refusals import CallError, Code

PACKAGE = "grpc.health.v1"

_Response = message(f"{PACKAGE}.HealthCheckResponse")
_ListResponse = message(f"{PACKAGE}.HealthListResponse")


class Probes:
    """The service `grpc.health.v1.Health`: all services of a server are well together."""

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset({""})
        self._serves = False
        self._is_over = False
        self._changed = anyio.Event()

    def know(self, services: Sequence[str]) -> None:
        self._known = frozenset({"", *services})

    def say(self, *, serves: bool, is_over: bool = False) -> None:
        """Tell everybody who asks or watches. `is_over`: nothing will change any more."""
        self._serves = serves
        self._is_over = is_over
        self._changed.set()
        self._changed = anyio.Event()

    async def Check(self, request: Any) -> Any:
        if request.service not in self._known:
            name = short(request.service)
            raise CallError(Code.NOT_FOUND, f"service '{name}' not found", detail=missing("service", name))
        return _Response(status=self._status())

    async def List(self, request: Any) -> Any:
        return _ListResponse(statuses={name: _Response(status=self._status()) for name in sorted(self._known)})

    async def Watch(self, request: Any) -> AsyncIterator[Any]:
        told: str | None = None
        while True:
            changed = self._changed
            status = self._status() if request.service in self._known else "SERVICE_UNKNOWN"
            if status != told:
                told = status
                yield _Response(status=status)  # which takes its time: all may have changed by then
            elif self._is_over:
                return
            else:
                await changed.wait()

    def _status(self) -> str:
        return "SERVING" if self._serves else "NOT_SERVING"
