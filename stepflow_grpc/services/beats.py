"""Hears that workers live."""

from typing import Any

import msgspec

from stepflow_grpc.frames import Beat, BeatAnswer, frame
from stepflow_grpc.held_up import HeldUpWorkers
from stepflow_grpc.plugin import Hub
from stepflow_grpc.refusals import invalid

_BEAT = msgspec.json.Decoder(Beat)

LONGEST_STACK = 20_000
"""Characters of a worker's stack that are kept."""

MOST_BEGUN = 5_000
"""Tasks that one beat may say to have begun."""


class BeatService:
    """What a process beside a worker says of it."""

    def __init__(self, hub: Hub, held_up: HeldUpWorkers | None = None) -> None:
        self._hub = hub
        self._held_up = held_up

    async def Beat(self, request: Any) -> Any:
        try:
            beat = _BEAT.decode(request.json)
        except msgspec.DecodeError as error:
            raise invalid(f"this is no beat: {error}") from None
        for begun in beat.begun[:MOST_BEGUN]:
            self._hub.queues.began(begun.id, beat.worker_id, attempt=begun.attempt)
        stack = None if beat.stack is None else beat.stack[:LONGEST_STACK]
        is_known = self._hub.queues.beat(beat.worker_id, beat.report, held_up_s=beat.held_up_s, stack=stack)
        if self._held_up is not None:
            self._held_up.look(beat.worker_id)
        return frame(BeatAnswer(is_known=is_known))
