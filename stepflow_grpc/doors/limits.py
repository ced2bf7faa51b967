"""How much a server takes at once."""

import msgspec

from stepflow_grpc.channel import LONGEST_MESSAGE

MIB = 1024 * 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a server takes before it refuses. Refused calls are RESOURCE_EXHAUSTED, and may be made again later."""

    message_bytes: int = LONGEST_MESSAGE  # of one request; larger values go through blobs
    in_flight_bytes: int = 4 * LONGEST_MESSAGE  # of the larger requests that are being answered
    connections: int = 10_000  # on a port; more are closed as they come
    streams: int = 4_096  # calls at a time on one connection; more wait at the caller
    calls: int = 32_768  # at a time in all
    http_body_bytes: int = MIB
    idle_s: float = 600.0  # a connection without calls is closed; callers connect again without a word
    keepalive_s: float = 20.0  # a connection that is silent for so long is asked whether it lives
    keepalive_answer_s: float = 10.0  # and is closed when it does not say so within this
    greeting_s: float = 10.0  # for a connection to say what it speaks, and for one HTTP request to be whole
