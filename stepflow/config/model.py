"""A configuration, read and checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec

from stepflow.errors import Problem
from stepflow.execution.options import RecoverySettings, RetentionSettings
from stepflow.execution.verdict import RetrySettings
from stepflow.records import Json


class PluginSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin of a configuration. It is made when a step first needs it."""

    name: str
    type: str
    options: Mapping[str, Json] = {}  # every key but `type`, checked for the types that are known

    def __repr__(self) -> str:  # options may hold secrets
        return f"PluginSettings(name={self.name!r}, type={self.type!r})"


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    type: str = "inMemory"
    database_url: str | None = None
    max_connections: int = 10
    auto_migrate: bool = True
    directory: str | None = None

    @property
    def url(self) -> str | None:
        """The URL with the settings that stand beside it, unless it says them itself; None: no database."""
        url = self.database_url
        if url is None or not url.startswith(("postgres://", "postgresql://")):
            return url
        written = {"pool_size": str(self.max_connections), "auto_migrate": "1" if self.auto_migrate else "0"}
        names = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        more = "&".join(f"{name}={value}" for name, value in written.items() if name not in names)
        return f"{url}{'&' if names else '' if '?' in url else '?'}{more}" if more else url

    def __repr__(self) -> str:  # the URL may hold a password
        return f"StoreSettings(type={self.type!r})"


class StorageSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where runs are kept; the journal always stands beside the metadata."""

    metadata: StoreSettings = StoreSettings()
    blobs: StoreSettings = StoreSettings()

    @property
    def url(self) -> str | None:
        """What `Engine(store=…)` takes; None is memory."""
        return self.metadata.url

    @property
    def blobs_url(self) -> str | None:
        """What `Engine(blobs=…)` takes; None: they are kept beside the runs."""
        if self.blobs.url == self.metadata.url and self.blobs.type in (self.metadata.type, "inMemory"):
            return None
        if self.blobs.type == "filesystem":
            return self.blobs.directory or "file:"
        return self.blobs.url or "memory:"


class BlobSettings(msgspec.Struct, frozen=True, kw_only=True):
    threshold: int | None = None  # bytes from which on workers put values into blobs; None: as they are set up


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Workers of one queue that a server starts itself: either our own, which serve `app`, or those of `command`."""

    queue: str
    app: str | None = None
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    replicas: int = 1
    max_concurrent: int | Literal["auto"] | None = None  # tasks that each does at the same time

    def __repr__(self) -> str:  # arguments and variables may hold secrets
        return f"PoolSettings(queue={self.queue!r}, replicas={self.replicas!r})"


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a server listens. None: it was not written. Files are absolute."""

    host: str | None = None
    port: int | None = None
    http_port: int | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    token_file: str | None = None
    max_message_bytes: int | None = None
    max_connections: int | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a configuration says."""

    source: str | None = None  # the file; None: a mapping, or the built-in default
    working_directory: Path
    has_working_directory: bool = False  # it was written, not taken from where the file stands
    plugins: Mapping[str, PluginSettings]
    routes: Mapping[str, Json]
    storage: StorageSettings = StorageSettings()
    recovery: RecoverySettings = RecoverySettings()
    retention: RetentionSettings | None = None
    blobs: BlobSettings = BlobSettings()
    retry: RetrySettings = RetrySettings()
    pools: tuple[PoolSettings, ...] = ()
    server: ServerSettings = ServerSettings()
    secrets: str | None = None  # of `Engine`; None: its default, or the server's
    warnings: tuple[Problem, ...] = ()

    def __repr__(self) -> str:  # routes may hold secrets
        return f"Config(source={self.source!r}, plugins={list(self.plugins)!r}, routes={list(self.routes)!r})"
