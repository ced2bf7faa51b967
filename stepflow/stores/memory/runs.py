"""Questions about the runs of a memory store."""

from collections.abc import Sequence
from itertools import islice

from msgspec import to_builtins
from msgspec.structs import replace

from stepflow.protocols import PAGE
from stepflow.records import Failed, ItemResult, ParentLink, RunId, RunRecord, RunStatus, Succeeded
from stepflow.stores.memory.tables import Tables


class MemoryRuns:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def get(self, run_id: RunId) -> RunRecord | None:
        run = self._tables.runs.get(run_id)
        return run.record if run is not None else None

    async def find(self, prefix: str) -> Sequence[RunId]:
        roots = self._tables.roots
        if prefix == "last":
            return roots[-1:]
        return [run_id for run_id in roots if run_id.startswith(prefix)][:2]

    async def find_child(self, parent: ParentLink) -> RunRecord | None:
        run_id = self._tables.children.get(parent)
        return None if run_id is None else self._tables.runs[run_id].record

    async def find_key(self, key: str) -> RunRecord | None:
        same = self._tables.keys.get(key)
        return None if same is None else self._tables.runs[same[-1]].record

    async def list(
        self,
        *,
        status: RunStatus | None = None,
        flow_name: str | None = None,
        root_id: RunId | None = None,
        parent_id: RunId | None = None,
        roots_only: bool = False,
        limit: int = 100,
        before: RunId | None = None,
    ) -> Sequence[RunRecord]:
        found = [
            run.record
            for run in self._tables.runs.values()
            if (status is None or run.record.status is status)
            and (flow_name is None or run.record.flow_name == flow_name)
            and (root_id is None or run.record.root_id == root_id)
            and (parent_id is None or (run.record.parent is not None and run.record.parent.run_id == parent_id))
            and (not roots_only or run.record.parent is None)
            and (before is None or run.record.id < before)
        ]
        return sorted(found, key=lambda record: record.id, reverse=True)[:limit]

    async def results(self, run_id: RunId, *, after: int = -1, limit: int = PAGE) -> Sequence[ItemResult]:
        run = self._tables.runs.get(run_id)
        if run is None:
            return []
        found: list[ItemResult] = []
        index = after + 1
        while len(found) < limit and (result := run.results.get(index)) is not None:
            found.append(_own(result))
            index += 1
        if len(found) < limit and len(run.results) > len(found):
            beyond = sorted(place for place in run.results if place > index)
            found += [_own(run.results[place]) for place in beyond[: limit - len(found)]]
        return found

    async def completed(self, run_id: RunId, *, after: int = 0, limit: int = PAGE) -> Sequence[tuple[int, ItemResult]]:
        run = self._tables.runs.get(run_id)
        if run is None:
            return []
        begin = max(0, after - run.forgotten)
        items = list(islice(run.order, begin, begin + limit))
        return [(run.forgotten + begin + place, _own(run.results[item])) for place, item in enumerate(items, 1)]

    async def forget_results(self, run_id: RunId, *, through: int) -> None:
        run = self._tables.runs.get(run_id)
        if run is None:
            return
        for index in [index for index in run.results if index <= through]:
            del run.results[index]
        kept = [index for index in run.order if index > through]
        run.forgotten += len(run.order) - len(kept)
        run.order.clear()
        run.order.extend(kept)


def _own(result: ItemResult) -> ItemResult:
    """The result with containers of its own: the reader may change them, and what is stored stays as it is."""
    outcome = result.outcome
    if isinstance(outcome, Failed):
        return ItemResult(result.index, replace(outcome, data=to_builtins(outcome.data)))
    if isinstance(outcome.output, (dict, list)):
        return ItemResult(result.index, Succeeded(to_builtins(outcome.output)))
    return result
