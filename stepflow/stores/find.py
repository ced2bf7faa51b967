"""From what people write of a run to its id."""

from stepflow.errors import AmbiguousRunError, RunNotFoundError
from stepflow.protocols import Runs
from stepflow.records import RunId


async def find_run(runs: Runs, text: str) -> RunId:
    """The root run that an id, the beginning of one, or `last` stands for.

    Raises:
        RunNotFoundError: there is none.
        AmbiguousRunError: several ids begin so.
    """
    found = await runs.find(text)
    if not found:
        raise RunNotFoundError(text)
    if len(found) > 1 and text not in found:
        raise AmbiguousRunError(text, found)
    return text if text in found else found[0]
