"""How long this engine is sure that its runs are its own."""

from collections.abc import Awaitable, Callable

from stepflow.protocols import Clock


class Term:
    """Where engines share a store: until when nobody takes this one's runs over. Whoever is heard of prolongs it."""

    def __init__(self, clock: Clock) -> None:
        self.until: float | None = None  # None: nobody else can have them
        self.confirmed: Callable[[], Awaitable[None]]  # set with it: wait until it is sure again
        self._clock = clock

    async def be_sure(self) -> None:
        """Wait where this engine may have been replaced: stopped for a while, its steps may be somebody else's."""
        if self.until is not None and self._clock.now() > self.until:
            await self.confirmed()
