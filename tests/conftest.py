"""Fixtures that every test may use, and the two tiers."""

from collections import Counter

import pytest

_left_out: Counter[str] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-tiers", action="store_true", help="run the long tier too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all-tiers"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    for item in slow:
        _left_out[item.nodeid.split("::")[0]] += 1
    if slow:
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)


def pytest_terminal_summary(terminalreporter: "pytest.TerminalReporter") -> None:
    if _left_out:
        terminalreporter.section("left out of this tier (make test-all runs them)")
        for path, count in sorted(_left_out.items()):
            terminalreporter.line(f"{path}: {count}")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
