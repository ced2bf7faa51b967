"""Which database and schema a store's URL means, and how it is to be used."""

import re
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from stepflow.errors import StoreError

SCHEMA = "stepflow"

_OURS = ("schema", "prepare", "auto_migrate", "pool_size", "listen", "listen_host", "listen_port")
_DEFAULTS = {
    "connect_timeout": "10",
    "application_name": "stepflow",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""A peer that is gone without a word is noticed within about 10 s. What the URL says of these stands."""
_SCHEMA = re.compile(r"[^\W\d]\w*")
_PORTS = re.compile(r"[0-9,]*")
_SHOWN = ("host", "dbname")
_ON, _OFF = ("1", "true", "on", "yes"), ("0", "false", "off", "no")


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """A store's database, read from its URL."""

    conninfo: str  # as libpq reads it; it may hold a password
    listen_conninfo: str | None  # to listen past a pooler in transaction mode, which can't serve that; None: don't
    schema: str
    is_prepared: bool  # statements are prepared, which some poolers can't have
    auto_migrate: bool  # the schema is brought up to date when the store is opened
    pool_size: int
    shown: str  # for messages: the URL without what may be secret


def read_location(url: str, *, listen_url: str | None = None) -> Location:
    """What a `postgresql:` URL means. All that is not ours goes to libpq as it is.

    Raises:
        StoreError: the URL can't be read; its text, which may hold a password, is not in the message.
    """
    ours, given = _split(url)
    conninfo = _conninfo(given)
    schema = ours.get("schema", SCHEMA)
    if _SCHEMA.fullmatch(schema) is None or len(schema.encode()) > 63 or schema.startswith("pg_"):
        raise StoreError(f"?schema={schema}: take letters, digits and underscores, 63 at most, as in ?schema={SCHEMA}")
    shown = _shown(given, schema)
    return Location(
        conninfo=_with_defaults(conninfo),
        listen_conninfo=_listening(ours, conninfo, listen_url or ours.get("listen", "1")),
        schema=schema,
        is_prepared=_flag("prepare", ours.get("prepare", "1")),
        auto_migrate=_flag("auto_migrate", ours.get("auto_migrate", "1")),
        pool_size=_number("pool_size", ours.get("pool_size", "10")),
        shown=shown,
    )


def _split(url: str) -> tuple[dict[str, str], str]:
    """Our parameters, and the URL without them."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise StoreError("a PostgreSQL store is named by a URL such as postgresql://USER@HOST/DATABASE")
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        raise _unreadable() from None
    ours = {name: value for name, value in pairs if name in _OURS}
    rest = urlencode([pair for pair in pairs if pair[0] not in _OURS], quote_via=quote)
    return ours, parts._replace(query=rest).geturl()


def _listening(ours: dict[str, str], conninfo: dict[str, str | int | None], listen: str) -> str | None:
    """Where to listen: at a URL of its own, or at the store's with another host or port; None: nowhere."""
    if "://" in listen:
        return _with_defaults(_conninfo(_split(listen)[1]))
    if listen.lower() not in (*_ON, *_OFF):
        raise StoreError("?listen= is a URL, 1 or 0")  # not shown: it may be a URL that was cut off
    if not _flag("listen", listen):
        return None
    other = {"host": ours.get("listen_host"), "port": ours.get("listen_port")}
    return _with_defaults(conninfo | {name: value for name, value in other.items() if value})


def _conninfo(url: str) -> dict[str, str | int | None]:
    try:
        found = conninfo_to_dict(url)
    except ProgrammingError:
        raise _unreadable() from None
    if not _PORTS.fullmatch(str(found.get("port", ""))) or any("@" in str(found.get(part, "")) for part in _SHOWN):
        raise _unreadable()  # a password with such a character: what follows it is taken for what would be shown
    return dict(found)


def _with_defaults(conninfo: dict[str, str | int | None]) -> str:
    return make_conninfo("", **(_DEFAULTS | conninfo))


def _shown(url: str, schema: str) -> str:
    found = _conninfo(url)
    user = f"{quote(str(found['user']))}@" if "user" in found else ""
    port = f":{found['port']}" if "port" in found else ""
    host = str(found.get("host", ""))
    shown = f"postgresql://{user}{quote(host, safe=',') if '/' in host else host}{port}/{found.get('dbname', '')}"
    return shown if schema == SCHEMA else f"{shown}?schema={schema}"


def _unreadable() -> StoreError:
    return StoreError(
        "the URL of the PostgreSQL store can't be read (it is not shown, since it may hold a password): write "
        "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with other characters than letters, digits and -._~ in its "
        "parts as %XX, and only parameters that libpq or this store knows"
    )


def _flag(name: str, value: str) -> bool:
    if value.lower() not in (*_ON, *_OFF):
        raise StoreError(f"?{name}={value} is neither 1 nor 0")
    return value.lower() in _ON


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 1_000):
        raise StoreError(f"?{name}={value} is no number from 1 to 1000")
    return int(value)
