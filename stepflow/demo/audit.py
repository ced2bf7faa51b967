"""The two runs of the audit, one item a file and then one over what they gave, and all that they tell."""

import os
from collections.abc import Mapping, Sequence
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

FLOWS = (Path(__file__).with_name("module.yaml"), Path(__file__).with_name("rank.yaml"))
REGISTRIES = {"/data": data, "/python": python, "/ml": ml}


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A kill in the middle of the batch, and what came of it: counted in the store, and timed."""

    at: int  # files whose results were stored
    total: int
    resumed_s: float  # from typing the same line again until it went on
    lost: int  # files without a result, or with another than the one that was stored at the kill
    repeated: int  # steps that were worked on at the kill, and once more after it
    in_flight: Sequence[int]  # items with a step under way at the kill
    compared: int = 0  # files that were audited once more, without a cut
    is_as_uncut: bool = False  # whether all of those gave the same results


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
    cut: Cut | None = None  # None: all files were done before the kill could come


def read_flows() -> tuple[Flow, Flow]:
    return read_flow(FLOWS[0]), read_flow(FLOWS[1])


def processes() -> int:
    """How many processes work on it: one a processor that we may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pools(flow: Flow) -> list[Pool]:
    """Who works on the steps of a flow: each registry has threads or processes of its own."""
    steps: dict[str, list[int]] = {}
    for number, step in enumerate(flow.steps):
        steps.setdefault(step.component.split("/")[1], []).append(number)
    return [Pool(name, READERS if name == "data" else processes(), tuple(own)) for name, own in steps.items()]


async def rank(results: Sequence[ItemResult], *, watch: Watch) -> Report:
    """What all files together tell."""
    async with Engine(REGISTRIES, observers=[watch]) as engine:
        report = await engine.run(read_flow(FLOWS[1]), {"files": [result.output for result in results if result.ok]})
    return msgspec.convert(report, Report)


async def is_as_uncut(sources: Sequence[Source], results: Sequence[ItemResult]) -> bool:
    """Whether these files give these results where nothing is cut and nothing stored."""
    inputs = (msgspec.to_builtins(source) for source in sources)
    async with Engine(REGISTRIES) as engine, aclosing(engine.run_batch(read_flow(FLOWS[0]), inputs)) as ended:
        outcomes = [result.outcome async for result in ended]
    return outcomes == [result.outcome for result in results]
