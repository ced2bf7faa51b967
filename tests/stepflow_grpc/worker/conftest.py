"""What the tests of the worker share: an engine whose steps go to a queue, and its server."""

from collections.abc import AsyncIterator

import pytest

from stepflow.engine import Engine
from stepflow_grpc.plugin import QueuePlugin

ROUTES = {"/w": [{"plugin": "workers"}], "/gpu": [{"plugin": "workers", "queueName": "gpu"}]}


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """Steps at `/w` go to the queue `python`, those at `/gpu` to `gpu`."""
    async with Engine(plugins={"workers": QueuePlugin(name="workers", queue="python")}, routes=ROUTES) as opened:
        yield opened
