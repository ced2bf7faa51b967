"""Where `stepflow runs` turns with `--url`."""

import anyio

from stepflow.cli.failure import say
from stepflow.cli.progress import is_wanted
from stepflow.cli.results import open_results
from stepflow.clock import SystemClock
from stepflow.records import RunId
from stepflow_grpc.address import read_address
from stepflow_grpc.client.client import Client
from stepflow_grpc.client.remote_run import RemoteRun
from stepflow_grpc.operating.store import ServerBackend
from stepflow_grpc.submitting.watching import Watch


class ServerDesk:
    """A server, as the commands on runs see it.

    Raises:
        AddressError: the url is none.
    """

    def __init__(self, url: str) -> None:
        self._address = read_address(url)
        self.name = str(self._address)

    def reader(self) -> ServerBackend:
        """Its runs. Open it with `async with`."""
        return ServerBackend(self._address)

    def retry(self, run_id: RunId, output: str | None, *, place: str) -> int:
        async def begin(client: Client) -> RemoteRun:
            say(f"retrying {run_id}")
            return await client.retry(run_id)

        with open_results(output, batch=True) as results:
            watch = Watch(
                Client(str(self._address)),
                begin,
                results,
                SystemClock(),
                place=place,
                shows_progress=is_wanted(results_on_stdout=output is None),
            )
            return anyio.run(watch.run, backend="asyncio")
