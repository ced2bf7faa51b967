"""What PostgreSQL's errors mean for whoever called, and what can be done about them."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from stepflow.errors import StoreError, StoreUnavailableError

_PASSING = ("08", "57P", "40", "25006", "53300", "53400", "55P03", "57014", "58000", "58030")
"""Beginnings of the codes of what may be over when the same is tried again: the connection was lost, the server goes
down or comes up, another transaction was in the way, a limit of time was reached."""

_FACTS = {
    "28": "the server refused the user; see to the name and password in the URL, and to pg_hba.conf",
    "3D000": "there is no such database; create it, or name another in the URL",
    "3F000": "the schema is missing; run `stepflow migrate`",
    "42P01": "a table is missing; run `stepflow migrate`",
    "42703": "a column is missing; run `stepflow migrate`",
    "42883": "a function is missing; run `stepflow migrate`",
    "42501": "the user may not do this; grant it the rights on the schema and its tables",
    "42P05": "a prepared statement is another session's: a pooler shares connections; add ?prepare=0 to the URL",
    "26000": "a prepared statement is another session's: a pooler shares connections; add ?prepare=0 to the URL",
    "53100": "the server's disk is full, and nothing of this write was stored; free some space and start again",
    "53200": "the server is out of memory, and nothing of this write was stored",
    "54": "a value is larger than PostgreSQL can keep; hand it over as a file",
    "XX001": "the server found damaged data; restore the database from a copy",
    "XX002": "the server found a damaged index; run REINDEX, or restore the database from a copy",
}


@contextmanager
def in_our_words(shown: str) -> Iterator[None]:
    """Turn the driver's errors into the package's. `shown` is the location, without secrets."""
    try:
        yield
    except (psycopg.Error, OSError) as error:
        raise store_error(error, shown) from error


def is_lost(error: BaseException) -> bool:
    """Whether the connection is of no use any more."""
    code = _code(error)
    if code is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OSError)
    return code.startswith(("08", "57P"))


def store_error(error: Exception, shown: str) -> StoreError:
    """The same failure in the package's words."""
    if isinstance(error, PoolClosed):
        return StoreError(f"{shown}: the store is not open; use it inside `async with`")
    code = _code(error)
    text = _text(error)
    fact = next((fact for begin, fact in _FACTS.items() if code is not None and code.startswith(begin)), None)
    if fact is not None:
        return StoreError(f"{shown}: {fact} ({text})")
    if isinstance(error, PoolTimeout | TooManyRequests):
        return StoreUnavailableError(f"{shown}: no connection was free or could be made in time")
    if code is None and is_lost(error):
        return StoreUnavailableError(
            f"{shown}: the server does not answer; see that it runs and can be reached ({text})"
        )
    if code is not None and code.startswith(_PASSING):
        return StoreUnavailableError(f"{shown}: {text}")
    return StoreError(f"{shown}: {text}")


def _code(error: BaseException) -> str | None:
    return error.sqlstate if isinstance(error, psycopg.Error) else None


def _text(error: Exception) -> str:
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary  # the rest may hold values
    return " ".join(str(error).split())
