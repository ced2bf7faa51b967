"""Engine: what a program embeds. It wires the executor, the plugins and the store, and owns their tasks.

`setup` is what it was told, `parts` what it has while it is open and who of them knows whom, `opening` opens and closes
it, `serving` is for servers around it, `engine` for everybody.
"""

from stepflow.engine.engine import AUTO_CONCURRENCY, Engine
from stepflow.engine.listing import ListedComponent
from stepflow.engine.opening import CLOSING_S
from stepflow.execution.options import SubmitOptions

__all__ = ["AUTO_CONCURRENCY", "CLOSING_S", "Engine", "ListedComponent", "SubmitOptions"]
