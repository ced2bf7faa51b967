"""For users' own tests and for writers of backends.

`ScriptedEngine` runs flows whose components are played by scripts, on a clock that turns by itself; the pytest
fixtures `stepflow_engine` and `stepflow_async_engine` give one. `stepflow.testing.suites` says what every store and
every plugin must do. `simulate` plays a flow on engines that die over a store that fails, on a seed.
`stepflow.testing.flowtests` runs the test cases that flows carry.

The names below load on first use, so that the pytest plugin costs nothing in tests that do not ask for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepflow.testing.application import Application, read_application
    from stepflow.testing.async_engine import AsyncScriptedEngine
    from stepflow.testing.clock import TurnedClock, turned_backend
    from stepflow.testing.engine import ClockStoppedError, ScriptedEngine
    from stepflow.testing.host import LoneHost
    from stepflow.testing.loop import VirtualLoop
    from stepflow.testing.script import UnscriptedError
    from stepflow.testing.simulation import Faults, Simulated, SimulationError, simulate

_HOMES = {
    "Application": "application",
    "AsyncScriptedEngine": "async_engine",
    "ClockStoppedError": "engine",
    "Faults": "simulation",
    "LoneHost": "host",
    "ScriptedEngine": "engine",
    "Simulated": "simulation",
    "SimulationError": "simulation",
    "TurnedClock": "clock",
    "UnscriptedError": "script",
    "VirtualLoop": "loop",
    "read_application": "application",
    "simulate": "simulation",
    "turned_backend": "clock",
}

__all__ = [
    "Application",
    "AsyncScriptedEngine",
    "ClockStoppedError",
    "Faults",
    "LoneHost",
    "ScriptedEngine",
    "Simulated",
    "SimulationError",
    "TurnedClock",
    "UnscriptedError",
    "VirtualLoop",
    "read_application",
    "simulate",
    "turned_backend",
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
