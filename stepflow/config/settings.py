"""The sections of a configuration beside its plugins and routes."""

from collections.abc import Mapping

from stepflow.config.model import BlobSettings, StorageSettings, StoreSettings
from stepflow.config.section import Section
from stepflow.execution.options import RecoverySettings, RetentionSettings
from stepflow.execution.sealing import SECRETS
from stepflow.execution.verdict import BackoffPolicy, RetrySettings

_STORE_TYPES = ("inMemory", "sqlite", "postgres", "filesystem")
_SCHEMES = ("sqlite:", "postgres://", "postgresql://")
_LIMITS = {"minDelayMs": "min_delay_ms", "maxDelayMs": "max_delay_ms"}
_BACKOFF_KEYS: Mapping[str, Mapping[str, str]] = {
    "fibonacci": _LIMITS,
    "exponential": {**_LIMITS, "factor": "factor"},
    "constant": {"delayMs": "delay_ms"},
}


def read_storage(section: Section | None) -> StorageSettings:
    """Both shapes: one store for everything (`type`), or `metadata` and what differs from it."""
    if section is None:
        return StorageSettings()
    if not section.has("metadata"):
        if not section.has("type"):
            section.problems.add(
                section.path,
                "storageConfig has neither type nor metadata",
                "write {type: sqlite, databaseUrl: …}, or metadata: {type: …} with blobs: {…} beside it",
            )
            return StorageSettings()
        store = _read_store(section)
        return StorageSettings(metadata=store, blobs=store)
    metadata = _read_part(section, "metadata", StoreSettings())
    blobs = _read_part(section, "blobs", metadata, may_be_files=True)
    journal = _read_part(section, "journal", metadata)
    if journal != metadata:
        section.problems.add(
            (*section.path, "journal"),
            "the journal has to stand in the same store as the metadata, because both are written in one transaction",
            "leave journal out; only blobs may live elsewhere",
        )
    if metadata.database_url is not None and blobs.database_url is None and blobs.directory is None:
        section.problems.add(
            (*section.path, "blobs"),
            "blobs would be gone when the process ends, and the runs that name them would not",
            "give them a directory or a databaseUrl, or leave blobs out",
        )
    section.warn_unknown()
    return StorageSettings(metadata=metadata, blobs=blobs)


def _read_part(section: Section, key: str, default: StoreSettings, *, may_be_files: bool = False) -> StoreSettings:
    part = section.section(key)
    if part is None:
        if key == "metadata":
            section.problems.add((*section.path, key), "metadata must not be null")
        return default
    return _read_store(part, may_be_files=may_be_files)


def _read_store(section: Section, *, may_be_files: bool = False) -> StoreSettings:
    type = section.text("type", required=True)
    if type in ("sqlite", "postgres"):
        store = StoreSettings(
            type=type,
            database_url=section.text("databaseUrl", required=True),
            max_connections=section.integer("maxConnections", 10, least=1, nullable=False),
            auto_migrate=section.flag("autoMigrate", True, nullable=False),
        )
        if store.database_url is not None and not store.database_url.startswith(_SCHEMES):
            at = (*section.path, "databaseUrl")
            section.problems.add(at, f"databaseUrl has to begin with {', '.join(_SCHEMES[:-1])} or {_SCHEMES[-1]}")
        if type == "sqlite" and not store.auto_migrate:
            text = "a SQLite file is brought up to date whenever it is opened, whatever autoMigrate says"
            section.problems.warn((*section.path, "autoMigrate"), text, "leave it out, or copy the file first")
    else:
        store = StoreSettings(
            type=type or "inMemory", directory=section.text("directory") if type == "filesystem" else None
        )
    if type == "filesystem" and not may_be_files:
        section.problems.add((*section.path, "type"), "a filesystem store can only hold blobs")
    if type is not None and type not in _STORE_TYPES:
        section.problems.add(
            (*section.path, "type"), f'there is no store of type "{type}"; there are {", ".join(_STORE_TYPES)}'
        )
        return StoreSettings()
    section.warn_unknown()
    return store


def read_lease_manager(section: Section | None) -> None:
    """Checked and left alone: runs are owned through their store."""
    if section is None:
        return
    type = section.text("type", required=True)
    if type == "etcd":
        if not section.texts("endpoints", required=True) and section.has("endpoints"):
            section.problems.add((*section.path, "endpoints"), "endpoints must not be empty")
        section.text("key_prefix")
    elif type not in (None, "noOp", "none"):
        section.problems.add(
            (*section.path, "type"), f'there is no lease manager of type "{type}"; there are noOp and etcd'
        )
    section.problems.warn(
        section.path, "leaseManager is ignored: who owns a run is kept in the store", "remove the section"
    )
    section.warn_unknown()


def read_recovery(section: Section | None) -> RecoverySettings:
    if section is None:
        return RecoverySettings()
    settings = RecoverySettings(
        enabled=section.flag("enabled", True),
        check_interval_s=section.integer("checkIntervalSecs", 1, least=1),
        lease_ttl_s=section.integer("leaseTtlSecs", 6, least=3),
        max_startup_recovery=section.integer("maxStartupRecovery", 100),
        max_claims_per_check=section.integer("maxClaimsPerCheck", 10, least=1),
        checkpoint_interval=section.integer("checkpointInterval", 10_000),
    )
    section.warn_unknown()
    return settings


def read_retention(section: Section | None) -> RetentionSettings | None:
    """How long runs that have ended are kept; None: for ever."""
    if section is None:
        return None
    keep = section.integer("keep", -1)
    age_s = section.number("ageSecs", -1.0)
    settings = RetentionSettings(
        age_s=None if age_s < 0 else age_s,
        keep=None if keep < 0 else keep,
        longest_deadline_s=section.number("longestDeadlineSecs", 86_400.0),
        every_s=section.number("everySecs", 60.0, above=0),
    )
    if settings.age_s is None and settings.keep is None and not section.is_empty:
        section.problems.warn(section.path, "nothing is deleted", "write ageSecs, keep or both")
    section.warn_unknown()
    return settings


def read_blobs(section: Section | None) -> BlobSettings:
    if section is None:
        return BlobSettings()
    if not section.flag("enabled", True):
        section.problems.warn((*section.path, "enabled"), "blobs are served in any case", "remove it")
    if section.text("url") is not None:
        message = "url is ignored: workers ask the server that gives them tasks for blobs"
        section.problems.warn((*section.path, "url"), message, "set STEPFLOW_BLOB_URL for workers that shall not")
    threshold = section.integer("blobThreshold", -1)
    section.warn_unknown()
    return BlobSettings(threshold=None if threshold < 0 else threshold)


def read_retry(section: Section | None) -> RetrySettings:
    if section is None:
        return RetrySettings()
    settings = RetrySettings(
        transport_max_retries=section.integer("transportMaxRetries", 3),
        backoff=_read_backoff(section.section("backoff")),
    )
    section.warn_unknown()
    return settings


def read_secrets(root: Section) -> str | None:
    """What `Engine(secrets=…)` takes. `strict` is another word for `refuse`."""
    written = root.text("secrets")
    if written not in (None, "strict", *SECRETS):
        root.problems.add(("secrets",), f'secrets has to be strict, {", ".join(SECRETS)}, not "{written}"')
        return None
    return "refuse" if written == "strict" else written


def _read_backoff(section: Section | None) -> BackoffPolicy:
    if section is None:
        return BackoffPolicy()
    type = section.text("type") or "fibonacci"
    if type not in _BACKOFF_KEYS:
        section.problems.add(
            (*section.path, "type"), f'there is no backoff of type "{type}"; there are {", ".join(_BACKOFF_KEYS)}'
        )
        return BackoffPolicy()
    default = BackoffPolicy(type=type)
    written = {
        field: section.number(key, getattr(default, field), above=0 if key == "factor" else None)
        for key, field in _BACKOFF_KEYS[type].items()
    }
    section.warn_unknown()
    return BackoffPolicy(type=type, **written)
