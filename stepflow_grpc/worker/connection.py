"""The way to one orchestrator, made again whenever it breaks."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

from stepflow.protocols import Chance, Clock
from stepflow_grpc.absence import START, absence
from stepflow_grpc.address import Address
from stepflow_grpc.credentials import CredentialsError
from stepflow_grpc.worker.link import Link, LinkLostError, NotSpokenError
from stepflow_grpc.worker.pauses import Pauses
from stepflow_grpc.worker.running import RunningTasks

logger = logging.getLogger("stepflow.worker")

REMINDED_EVERY_S = 60.0
"""How often it is said again that an orchestrator is away, while nothing changes."""

LASTED_S = 5.0
"""A link that was there for so long is tried again at once when it breaks."""

MakeLink: TypeAlias = Callable[[Address, str | None], Link]
"""From an address, and the name that its certificate is for where the address was looked up."""


class Connection:
    """Keeps a link to one address, by the first protocol that is spoken there."""

    def __init__(
        self,
        address: Address,
        name: str | None,
        desk: RunningTasks,
        makers: Sequence[MakeLink],
        clock: Clock,
        chance: Chance,
    ) -> None:
        self.address = address
        self.link: Link | None = None
        self._name = name
        self._desk = desk
        self._makers = makers
        self._clock = clock
        self._chance = chance
        self._told = ("", 0.0)

    @property
    def is_live(self) -> bool:
        return self.link is not None and self.link.is_live

    @property
    def engine(self) -> str:
        """Which engine is there, as far as it is known."""
        return self.link.engine if self.link is not None and self.link.is_live else ""

    async def keep(self) -> None:
        """Return when the desk has drained."""
        pauses = Pauses(self._chance)
        while True:
            begun = self._clock.now()
            try:
                await self._connect()
                if self._desk.is_draining and not self._desk.has():
                    return
            except LinkLostError as error:
                self._tell(reason_of(error, self._desk.queue))
            except CredentialsError as error:  # a file may be on its way
                self._tell(str(error))
            if self._clock.now() - begun > LASTED_S:
                pauses.reset()
            await self._clock.sleep(pauses.next())

    async def _connect(self) -> None:
        """Raises: LinkLostError."""
        refusal: LinkLostError | None = None
        for make in self._makers:
            self.link = link = make(self.address, self._name)
            self._desk.attach(link)
            try:
                return await link.run(self._desk)
            except NotSpokenError as error:
                refusal = error
            finally:
                self._desk.detach(link)
        raise refusal or LinkLostError("there is no protocol to speak")

    def _tell(self, reason: str) -> None:
        """Say why there is no connection: at once, and then now and then."""
        told, at = self._told
        if reason != told or self._clock.now() - at > REMINDED_EVERY_S:
            self._told = reason, self._clock.now()
            logger.warning("no tasks from %s: %s; trying again", self.address, reason)


def reason_of(error: LinkLostError, queue: str) -> str:
    """Why there is no link, and what can be done about it."""
    text = str(error)
    match error.status:
        case "NOT_FOUND":
            return (
                f"the server has no queue {queue!r} yet: a route or a plugin of its configuration has to name it "
                f"(queueName: {queue}), or name another here with --queue"
            )
        case "UNAUTHENTICATED" | "PERMISSION_DENIED":
            is_told = "STEPFLOW_TOKEN" in text
            return text if is_told else f"{text}; give the token in STEPFLOW_TOKEN or STEPFLOW_TOKEN_FILE"
        case "UNAVAILABLE" if (found := absence(text)) is not None:
            return f"{found.reason}; {found.remedy}"
        case "UNAVAILABLE" if "onnect" in text:
            return f"{text}; {START}"
        case _:
            return text
