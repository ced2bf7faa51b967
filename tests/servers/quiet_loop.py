"""An event loop for tests that speak gRPC."""

import asyncio
from typing import Any

from stepflow_grpc.noise import is_noise


class QuietLoop(asyncio.SelectorEventLoop):
    """Takes no failure of a test from what gRPC has left to say to the loop of a test before."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not is_noise(context.get("message", ""), context.get("exception")):
            super().call_exception_handler(context)
