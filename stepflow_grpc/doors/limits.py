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

    def options(self) -> list[tuple[str, int]]:
        """As gRPC's server takes them."""
        return [
            ("grpc.so_reuseport", 0),  # a port that another server has is refused, not shared
            ("grpc.max_receive_message_length", self.message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_concurrent_streams", self.streams),
            ("grpc.max_allowed_incoming_connections", self.connections),
            ("grpc.max_connection_idle_ms", _ms(self.idle_s)),
            ("grpc.server_handshake_timeout_ms", _ms(self.greeting_s)),
            ("grpc.keepalive_time_ms", _ms(self.keepalive_s)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_answer_s)),
            (
                "grpc.http2.ping_timeout_ms",
                _ms(self.keepalive_answer_s),
            ),  # else gRPC waits a minute whatever it is told
            ("grpc.http2.settings_timeout", _ms(self.greeting_s)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.http2.max_pings_without_data", 0),
        ]


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1_000))
