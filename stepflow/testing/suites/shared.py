"""What the suites need of a store that several engines share."""

from collections.abc import AsyncIterator

import pytest

from stepflow.protocols import Backend


class SharedSuite:
    """Its tests take `store` and `other`: one store, opened twice."""

    @pytest.fixture
    def another(self, backend: Backend) -> Backend:
        """The same store once more, not open yet. Give a second backend where engines of other processes have one."""
        return backend

    @pytest.fixture
    async def other(self, store: Backend, another: Backend) -> AsyncIterator[Backend]:
        async with another as opened:
            yield opened

    async def let_expire(self, store: Backend, owner: str) -> None:
        """Make the time to live of this engine run out, and of no other, without waiting for it."""
        pytest.fail(f"{type(self).__name__} has no `let_expire`: it makes the time of one engine run out")
