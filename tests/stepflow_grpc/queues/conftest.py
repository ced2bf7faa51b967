"""What the tests of queues share: a clock that is turned, and queues over it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from queue_bench import Bench, opened_bench

from stepflow.testing.clock import turned_backend


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return turned_backend(request.param)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with opened_bench() as made:
        yield made
