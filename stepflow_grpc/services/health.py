"""Whether the server is well."""

import platform
from collections.abc import Callable

import stepflow
from stepflow.protocols import Clock
from stepflow_grpc.batches import FEATURE
from stepflow_grpc.proto.stepflow_v1 import BuildInfo, HealthCheckRequest, HealthCheckResponse
from stepflow_grpc.wire import timestamp


class HealthService:
    """The protocol's own health check.

    Args:
        is_ready: whether calls are taken; a server that drains is not.
    """

    def __init__(self, clock: Clock, is_ready: Callable[[], bool]) -> None:
        self._clock = clock
        self._is_ready = is_ready

    def status(self) -> str:
        return "healthy" if self._is_ready() else "draining"

    async def HealthCheck(self, request: HealthCheckRequest) -> HealthCheckResponse:
        build = BuildInfo(
            git_version=stepflow.__version__,
            rustc_version="",
            profile="python",
            features=["grpc", FEATURE],
            target=f"{platform.system().lower()}-{platform.machine()}-python{platform.python_version()}",
        )
        return HealthCheckResponse(status=self.status(), timestamp=timestamp(self._clock.now()), build=build)
