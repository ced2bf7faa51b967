"""Fixtures that every test may use, and the two tiers."""

import faulthandler
import os
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "servers"))

from postgres_server import PostgresServer, empty_tables, fresh_schema, running_server, server_url  # noqa: E402

_left_out: Counter[str] = Counter()
_schemas = count(1)
_STDERR = pytest.StashKey[int]()
_MORE_S = 120  # for a test that hangs again while it is taken down


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-tiers", action="store_true", help="run the long tier too")


def pytest_configure(config: pytest.Config) -> None:
    """Draw the same examples every time in the fast tier, which judges a change; the long one looks for new ones."""
    is_searching = config.getoption("--all-tiers")
    settings.register_profile("stepflow", derandomize=not is_searching, deadline=None)
    settings.load_profile("stepflow")
    config.stash[_STDERR] = os.dup(sys.__stderr__.fileno() if sys.__stderr__ else 2)  # before output is captured


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = [item for item in items if item.get_closest_marker("slow")]
    if config.getoption("--all-tiers"):
        for item in slow:
            item.add_marker(pytest.mark.timeout(900))
        return
    for item in slow:
        _left_out[item.nodeid.split("::")[0]] += 1
    if slow:
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:  # one of several processes, which all collect the same
        output["left_out"] = dict(_left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for path, number in getattr(node, "workeroutput", {}).get("left_out", {}).items():
        _left_out[path] = number


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End a process whose test hangs in spite of its timeout, with the stacks of all threads."""
    _end_later(item)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Pytest lets go of the end that is to come when a test fails, though it is still to be taken down."""
    if isinstance(node, pytest.Item):
        _end_later(node)


def _end_later(item: pytest.Item) -> None:
    if not item.config.getoption("usepdb"):
        marker = item.get_closest_marker("timeout")
        limit = float(marker.args[0] if marker else item.config.getini("timeout"))
        faulthandler.dump_traceback_later(limit + _MORE_S, exit=True, file=item.config.stash[_STDERR])


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """A thread that keeps the interpreter from exiting is shown, and the exit is a failure."""
    faulthandler.dump_traceback_later(_MORE_S, exit=True, file=config.stash[_STDERR])


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    if _left_out:
        terminalreporter.section("left out of this tier (make test-all runs them)")
        for path, count in sorted(_left_out.items()):
            terminalreporter.line(f"{path}: {count}")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """A server that is shared by all tests of a session: not to be stopped. See `tests/servers/postgres_server.py`."""
    with server_url() as url:
        yield url


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """The URL of a store that is still to be made, which takes a while; see `empty_postgres_url`."""
    with fresh_schema(postgres_server_url, f"test_{os.getpid()}_{next(_schemas)}") as url:
        yield url


@pytest.fixture(scope="session")
def _kept_schema(postgres_server_url: str) -> Iterator[str]:
    with fresh_schema(postgres_server_url, f"kept_{os.getpid()}") as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres_server_url: str, _kept_schema: str) -> str:
    """The URL of a store in which nothing is; whoever opens it first makes its schema, and the next test keeps that."""
    empty_tables(postgres_server_url, _kept_schema.rpartition("schema=")[2])
    return _kept_schema


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server for one test, which may stop and start it."""
    with running_server() as server:
        yield server
