"""Connections to a server, as every client and worker opens them."""

import ipaddress
import logging
from collections.abc import Callable
from typing import Any, cast

import grpc
import grpc.aio

from stepflow_grpc.address import Address
from stepflow_grpc.credentials import Credentials, TokenFile, read_credentials
from stepflow_grpc.noise import leave_out_noise

logger = logging.getLogger("stepflow.credentials")

LONGEST_MESSAGE = 64 * 1024 * 1024
"""Bytes of one message that is taken from a server; what is sent has to fit into the server's limit."""

OPTIONS = (
    ("grpc.max_receive_message_length", LONGEST_MESSAGE),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),  # else gRPC waits a minute for the answer, whatever it is told
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
)


def open_channel(
    address: Address, credentials: Credentials | None = None, *, name: str | None = None
) -> grpc.aio.Channel:
    """A channel of asyncio, to be closed by whoever asked for it. TLS is spoken where the address or the credentials
    mean it.

    Args:
        credentials: None takes them from the environment; `Credentials()` is none at all.
        name: what the server's certificate has to be for, where the address is one of several that a name led to.

    Raises:
        CredentialsError: a file of theirs can't be read.
    """
    leave_out_noise()
    credentials = read_credentials() if credentials is None else credentials
    tls, options = _security(address, credentials, name)
    channel = (
        grpc.aio.insecure_channel(address.target, options=options)
        if tls is None
        else grpc.aio.secure_channel(address.target, tls, options=options)
    )
    return cast("grpc.aio.Channel", _shown(channel, address, credentials, is_secure=tls is not None))


def open_sync_channel(
    address: Address, credentials: Credentials | None = None, *, name: str | None = None
) -> grpc.Channel:
    """As `open_channel`, for threads."""
    leave_out_noise()
    credentials = read_credentials() if credentials is None else credentials
    tls, options = _security(address, credentials, name)
    channel = (
        grpc.insecure_channel(address.target, options=options)
        if tls is None
        else grpc.secure_channel(address.target, tls, options=options)
    )
    return cast("grpc.Channel", _shown(channel, address, credentials, is_secure=tls is not None))


def _security(
    address: Address, credentials: Credentials, name: str | None
) -> tuple[grpc.ChannelCredentials | None, tuple[tuple[str, Any], ...]]:
    if not (address.is_secure or credentials.means_tls):
        return None, OPTIONS
    tls = grpc.ssl_channel_credentials(credentials.pem("ca"), credentials.pem("key"), credentials.pem("cert"))
    named = () if name is None else (("grpc.ssl_target_name_override", name), ("grpc.default_authority", name))
    return tls, (*OPTIONS, *named)


def _shown(channel: Any, address: Address, credentials: Credentials, *, is_secure: bool) -> Any:
    """The channel, whose calls show the token if there is one."""
    if credentials.token_file is None and credentials.token is None:
        return channel
    if not is_secure and not is_loopback(address.host):
        logger.warning("the token goes to %s in clear: use TLS, with an address that begins with https://", address)
    if credentials.token_file is None:
        shown = (("authorization", f"Bearer {credentials.token}"),)
        return _TokenChannel(channel, lambda: shown)
    file = TokenFile(credentials.token_file)
    return _TokenChannel(channel, lambda: (("authorization", f"Bearer {file.tokens()[0]}"),))


def is_loopback(host: str) -> bool:
    """Whether only this machine can be there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _TokenChannel:
    """A channel whose every call shows a token.

    gRPC's own credentials of calls need TLS, and its interceptors cost a task a call.
    """

    def __init__(self, channel: Any, metadata: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        self._channel = channel
        self._metadata = metadata

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    async def __aenter__(self) -> "_TokenChannel":
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._channel.__aexit__(*error)

    def __enter__(self) -> "_TokenChannel":
        self._channel.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._channel.__exit__(*error)

    def unary_unary(self, *shape: Any, **more: Any) -> Any:
        return _TokenCall(self._channel.unary_unary(*shape, **more), self._metadata)

    def unary_stream(self, *shape: Any, **more: Any) -> Any:
        return _TokenCall(self._channel.unary_stream(*shape, **more), self._metadata)

    def stream_unary(self, *shape: Any, **more: Any) -> Any:
        return _TokenCall(self._channel.stream_unary(*shape, **more), self._metadata)

    def stream_stream(self, *shape: Any, **more: Any) -> Any:
        return _TokenCall(self._channel.stream_stream(*shape, **more), self._metadata)


class _TokenCall:
    def __init__(self, call: Any, metadata: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        self._call = call
        self._metadata = metadata

    def __call__(self, *request: Any, metadata: Any = None, **more: Any) -> Any:
        return self._call(*request, metadata=(*(metadata or ()), *self._metadata()), **more)

    def with_call(self, *request: Any, metadata: Any = None, **more: Any) -> Any:
        return self._call.with_call(*request, metadata=(*(metadata or ()), *self._metadata()), **more)

    def future(self, *request: Any, metadata: Any = None, **more: Any) -> Any:
        return self._call.future(*request, metadata=(*(metadata or ()), *self._metadata()), **more)
