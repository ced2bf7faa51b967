"""What an engine answers to another whose task its worker did."""

import msgspec

from stepflow.records import Failed, Outcome, Succeeded


class _Times(msgspec.Struct):
    ran_ms: int | None = None


_OUTCOME = msgspec.json.Decoder(Succeeded | Failed)
_TIMES = msgspec.json.Decoder(_Times)


def pack_answer(outcome: Outcome, ran_s: float) -> bytes:
    """The outcome as it is stored, with one field more: how long a worker was at it."""
    return b'%s,"ran_ms":%d}' % (msgspec.json.encode(outcome)[:-1], int(ran_s * 1_000))


def unpack_answer(body: bytes) -> tuple[Outcome, float | None]:
    """The outcome, and how long a worker was at it; None: an older engine did not tell."""
    outcome: Outcome = _OUTCOME.decode(body)
    ran_ms = _TIMES.decode(body).ran_ms
    return outcome, None if ran_ms is None else ran_ms / 1_000
