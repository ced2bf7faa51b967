"""A task as a run gives it out."""

from typing import Any

from stepflow.records import Task

RUN = "019a0000-0000-7000-8000-000000000001"


def task_of(item: int, run: str = RUN, **more: Any) -> Task:
    """The first attempt of an item's one step, whose input is the item."""
    fields = {"component": "/w/c", "target": "c", "input": item, **more}
    return Task(run_id=run, root_run_id=run, flow_id="f", item=item, step=0, step_id="s", **fields)
