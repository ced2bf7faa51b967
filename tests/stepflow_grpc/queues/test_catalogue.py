"""Which components the workers of a queue are said to have."""

from typing import Any

import anyio
import pytest
from queue_site import DOUBLE

from stepflow.records import ComponentInfo, ErrorCode
from stepflow.testing.clock import TurnedClock
from stepflow_grpc.plugin import make_hub
from stepflow_grpc.queues.catalogue import Catalogue

pytestmark = pytest.mark.anyio


async def test_what_several_workers_have_is_offered_together_until_one_that_left_is_replaced() -> None:
    catalogue = make_hub(TurnedClock()).catalogue
    other = ComponentInfo(id="other")

    catalogue.learn("q", "a", DOUBLE, ["a"])
    catalogue.learn("q", "b", [other], ["a", "b"])
    both = catalogue.components("q")
    catalogue.learn("q", "c", [other], ["b", "c"])

    assert both == (*DOUBLE, other)
    assert catalogue.components("q") == (other,)


async def test_what_workers_say_here_comes_before_what_is_said_elsewhere_and_outlives_it() -> None:
    told: list[tuple[str, Any]] = []
    catalogue = Catalogue(lambda queue, listed: told.append((queue, listed)))
    other, mine = ComponentInfo(id="other"), ComponentInfo(id="double", description="mine")

    catalogue.learn_elsewhere("q", [[other], DOUBLE])
    first = catalogue.components("q")
    catalogue.learn("q", "a", [mine], ["a"])
    second = catalogue.components("q")
    catalogue.learn_elsewhere("q", [])

    assert first == (other, *DOUBLE)
    assert second == (other, mine)
    assert catalogue.components("q") is second
    assert told == [("q", (mine,))]


def test_what_is_said_again_is_no_news() -> None:
    catalogue = Catalogue()

    news = [catalogue.learn("q", "a", DOUBLE, ["a"]) for _ in range(2)]
    listed = catalogue.components("q")
    catalogue.learn_elsewhere("q", [DOUBLE])

    assert news == [True, False]
    assert catalogue.components("q") is listed


def test_a_worker_lacks_what_it_did_not_say_and_nobody_is_held_to_what_it_has_not_said() -> None:
    catalogue = Catalogue()
    below, any_path = ComponentInfo(id="big", path="/big/one"), ComponentInfo(id="any", path="/{*path}")
    catalogue.learn("q", "a", [below], ["a"])
    catalogue.learn("q", "b", [any_path], ["a", "b"])

    lacked = catalogue.lacks("q", "a", "double")

    assert lacked is not None
    assert lacked.code is ErrorCode.COMPONENT_NOT_FOUND
    assert "worker 'a' has no component 'double'" in lacked.message
    assert [catalogue.lacks("q", "a", name) for name in ("big", "/big/one")] == [None, None]
    assert catalogue.lacks("q", "b", "double") is None
    assert catalogue.lacks("q", "unknown", "double") is None


async def test_who_waits_for_a_list_is_told_once_it_is_there_or_to_look_why_not() -> None:
    catalogue = Catalogue()
    woken: list[str] = []

    async def wait(name: str) -> None:
        await catalogue.wait("q")
        woken.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "rung")
        await anyio.wait_all_tasks_blocked()
        catalogue.ring("other")
        await anyio.wait_all_tasks_blocked()
        before = list(woken)
        catalogue.ring("q")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(wait, "known")
        await anyio.wait_all_tasks_blocked()
        between = list(woken)
        catalogue.learn("q", "a", DOUBLE, ["a"])
    await catalogue.wait("q")

    assert before == []
    assert between == ["rung"]
    assert woken == ["rung", "known"]
