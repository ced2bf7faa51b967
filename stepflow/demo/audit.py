"""The two runs of the audit, one item a file and then one over what they gave, and all that they tell."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

import msgspec

from stepflow.demo.components import READERS, FileFacts, Report, data, ml, python
from stepflow.demo.inventory import Source
from stepflow.demo.watch import Pool, Span, Watch
from stepflow.engine import Engine
from stepflow.flow.model import Flow
from stepflow.flow.read import read_flow
from stepflow.records import ItemResult

REGISTRIES = {"/data": data, "/python": python, "/ml": ml}


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is to tell about one audit."""

    subject: str
    pace: str
    files: Sequence[str]  # by item
    results: Sequence[ItemResult]
    facts: Sequence[FileFacts]  # of the items that succeeded
    report: Report
    flows: tuple[Flow, Flow]
    work: Sequence[tuple[str, Span]]  # of the first flow: who did which step of which file when
    spans: Mapping[str, Sequence[Span]]  # of both, by the flow's name
    tolerated: int
    failed: int


def read_flows() -> tuple[Flow, Flow]:
    """`module.yaml` and `rank.yaml`."""
    here = Path(__file__).parent
    return read_flow(here / "module.yaml"), read_flow(here / "rank.yaml")


def processes() -> int:
    """How many processes work on it: one a processor that we may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pools(flow: Flow) -> list[Pool]:
    """Who works on the steps of a flow: each registry has threads or processes of its own."""
    steps: dict[str, list[int]] = {}
    for number, step in enumerate(flow.steps):
        steps.setdefault(step.component.split("/")[1], []).append(number)
    return [Pool(name, READERS if name == "data" else processes(), tuple(own)) for name, own in steps.items()]


async def run_audit(
    sources: Sequence[Source], *, watch: Watch, takers: Sequence[Callable[[ItemResult], None]] = ()
) -> tuple[list[ItemResult], Report]:
    """The result of each file, handed to each taker in item order as they come, and the report over all of them."""
    each_file, together = read_flows()
    results = []
    inputs = (msgspec.to_builtins(source) for source in sources)
    async with Engine(REGISTRIES, observers=[watch]) as engine:
        async with aclosing(engine.run_batch(each_file, inputs)) as ended:
            async for result in ended:
                for take in takers:
                    take(result)
                results.append(result)
        report = await engine.run(together, {"files": [result.output for result in results if result.ok]})
    return results, msgspec.convert(report, Report)
