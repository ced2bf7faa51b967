"""`stepflow runs`."""

from stepflow.cli.lazy import LazyGroup
from stepflow.cli.options import examples

_HERE = "stepflow.cli.runs"

COMMANDS = {
    "list": ("List runs, the newest first.", f"{_HERE}.listing:command"),
    "show": ("Show a run: by step what came of it, and its failures.", f"{_HERE}.showing:command"),
    "events": ("Print the events of a run.", f"{_HERE}.telling:command"),
    "explain": ("Say what keeps a run from going on.", f"{_HERE}.explaining:command"),
    "report": ("Write a run as one HTML page.", f"{_HERE}.reporting:command"),
    "cancel": ("End runs that go on.", f"{_HERE}.asking:cancel"),
    "pause": ("Let no more steps of runs begin.", f"{_HERE}.asking:pause"),
    "resume": ("Let paused runs go on.", f"{_HERE}.asking:resume"),
    "retry": ("Run the failed items of a run again, as a new run.", f"{_HERE}.retrying:command"),
    "delete": ("Delete runs that have ended.", f"{_HERE}.deleting:command"),
}

command = LazyGroup(
    name="runs",
    commands_by_place=COMMANDS,
    help="""Look at the runs in a store, and tell them what to do.

    A RUN is an id, the beginning of one that no other run shares, or `last`. The store may be one that an engine is
    working on.
    """,
    epilog=examples("stepflow runs list --store runs.db", "stepflow runs explain last --store runs.db"),
)
