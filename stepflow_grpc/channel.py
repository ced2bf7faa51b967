"""Connections to a server, as every client and worker opens them."""

import grpc.aio

from stepflow_grpc.address import Address

LONGEST_MESSAGE = 64 * 1024 * 1024
"""Bytes of one message that is taken from a server; what is sent has to fit into the server's limit."""

OPTIONS = (
    ("grpc.max_receive_message_length", LONGEST_MESSAGE),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
)


def open_channel(address: Address) -> grpc.aio.Channel:
    """A channel, to be closed by whoever asked for it."""
    return grpc.aio.insecure_channel(address.target, options=OPTIONS)
