"""`stepflow queues`: how the queues of a server are."""

from collections.abc import Sequence

import anyio
import click
import msgspec

from stepflow.cli.failure import say, tell
from stepflow.cli.options import examples
from stepflow.cli.tables import tell_table
from stepflow.history.words import duration
from stepflow_grpc.address import DEFAULT, VARIABLE, Address, read_address
from stepflow_grpc.client.client import Client
from stepflow_grpc.flags import address_text
from stepflow_grpc.questions import QueueState

_HEADS = ("QUEUE", "ROUTES", "WORKERS", "SLOTS", "BUSY", "WAITING", "OLDEST", "")


@click.command("queues", epilog=examples("stepflow queues --url 127.0.0.1:7840", "stepflow queues --json"))
@click.option(
    "--url",
    envvar=VARIABLE,
    callback=address_text,
    metavar="URL",
    help=f"The server: host:port, or https://host:port for TLS. Not given: {VARIABLE}, else {DEFAULT}.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line instead of a table.")
def command(url: str | None, as_json: bool) -> None:
    """Show the queues of a server, and of those that share its store: who serves them, and how much waits in them.

    SLOTS is how many tasks their workers can be at, BUSY at how many they are; WAITING counts tasks that no worker has
    taken, and OLDEST is how long the first of them has waited. Of several servers on one store, each has queues of its
    own: all are shown, with their SERVER. A worker that is connected to several of them is counted at each.
    """
    address = read_address(url)
    found = anyio.run(_asked, address, backend="asyncio")
    if as_json:
        for state in found:
            tell(msgspec.json.encode(state).decode())
        return
    if not found:
        say(f"the server at {address} has no queues: no route leads to one, and no worker is connected")
        return
    is_one = len({state.server for state in found}) == 1
    heads = _HEADS if is_one else ("SERVER", *_HEADS)
    rows = [_row(state) if is_one else (state.server, *_row(state)) for state in found]
    tell_table(heads, rows, numbers=_HEADS[3:7], texts=(_HEADS[1], _HEADS[7]))


async def _asked(address: Address) -> Sequence[QueueState]:
    async with Client(str(address)) as client:
        return await client.queues(everywhere=True)


def _row(state: QueueState) -> Sequence[str]:
    if not state.queue:
        return ("", "", "", "", "", "", "", state.remark)
    return (
        state.queue,
        " ".join(state.routes) or "none",
        f"{state.workers} of {state.expected}" if state.expected else str(state.workers),
        f"{state.slots:,}",
        f"{state.busy:,}",
        f"{state.waiting:,}",
        duration(state.oldest_s) if state.waiting else "",
        state.remark,
    )
