"""Work waits in named queues and workers pull it: the gRPC server, worker and client.

The names below load on first use (PEP 562), so that a worker loads no server and a client neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepflow_grpc.client.blocking import SyncClient, SyncRemoteRun
    from stepflow_grpc.client.client import Client
    from stepflow_grpc.client.errors import (
        CallFailedError,
        CallTimeoutError,
        FlowNotFoundError,
        NotAllowedError,
        NotServedError,
        ServerBusyError,
        ServerStoreError,
        ServerUnavailableError,
        TooLargeError,
    )
    from stepflow_grpc.client.remote_run import RemoteRun
    from stepflow_grpc.credentials import Credentials, CredentialsError, TokenFile
    from stepflow_grpc.doors.guard import FixedTokens
    from stepflow_grpc.doors.limits import Limits
    from stepflow_grpc.doors.tls import TlsFiles
    from stepflow_grpc.pools.pool import Pool
    from stepflow_grpc.ports import ServerError
    from stepflow_grpc.questions import QueueState
    from stepflow_grpc.server import Server, serve
    from stepflow_grpc.worker.blocking import run_worker
    from stepflow_grpc.worker.udf.records import UdfLimits
    from stepflow_grpc.worker.worker import Worker

_HOMES = {
    "CallFailedError": "client.errors",
    "CallTimeoutError": "client.errors",
    "Client": "client.client",
    "Credentials": "credentials",
    "CredentialsError": "credentials",
    "FixedTokens": "doors.guard",
    "FlowNotFoundError": "client.errors",
    "Limits": "doors.limits",
    "NotAllowedError": "client.errors",
    "NotServedError": "client.errors",
    "Pool": "pools.pool",
    "QueueState": "questions",
    "RemoteRun": "client.remote_run",
    "Server": "server",
    "ServerBusyError": "client.errors",
    "ServerError": "ports",
    "ServerStoreError": "client.errors",
    "ServerUnavailableError": "client.errors",
    "SyncClient": "client.blocking",
    "SyncRemoteRun": "client.blocking",
    "TlsFiles": "doors.tls",
    "TokenFile": "credentials",
    "TooLargeError": "client.errors",
    "UdfLimits": "worker.udf.records",
    "Worker": "worker.worker",
    "run_worker": "worker.blocking",
    "serve": "server",
}

__all__ = [
    "CallFailedError",
    "CallTimeoutError",
    "Client",
    "Credentials",
    "CredentialsError",
    "FixedTokens",
    "FlowNotFoundError",
    "Limits",
    "NotAllowedError",
    "NotServedError",
    "Pool",
    "QueueState",
    "RemoteRun",
    "Server",
    "ServerBusyError",
    "ServerError",
    "ServerStoreError",
    "ServerUnavailableError",
    "SyncClient",
    "SyncRemoteRun",
    "TlsFiles",
    "TokenFile",
    "TooLargeError",
    "UdfLimits",
    "Worker",
    "run_worker",
    "serve",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
