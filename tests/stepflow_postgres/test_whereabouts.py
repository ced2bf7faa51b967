"""Engines that share the runs and not the blobs."""

import re
from pathlib import Path

import anyio
import pytest

from stepflow.engine import Engine
from stepflow.errors import StoreError

pytestmark = pytest.mark.anyio


async def test_an_engine_whose_blobs_are_elsewhere_than_those_of_the_others_is_refused_by_name(
    empty_postgres_url: str, tmp_path: Path
):
    here, refusal = tmp_path / "here", r"first at .*, second at .* in .*/here \(.*give all of them the same"
    async with (
        Engine(store=empty_postgres_url, blobs=here, name="first"),
        Engine(store=empty_postgres_url, blobs=here, name="second") as second,
    ):
        for blobs in (tmp_path / "there", None):
            with pytest.raises(StoreError, match=refusal):
                async with Engine(store=empty_postgres_url, blobs=blobs, name="third"):
                    pass

        assert [engine.name for engine in await second.backend.owners.engines()] == ["first", "second"]

    async with Engine(store=empty_postgres_url, blobs=tmp_path / "there", name="third"):
        pass


async def test_the_first_engine_that_keeps_blobs_elsewhere_warns_of_those_that_may_not_by_name(
    empty_postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with (
        Engine(store=empty_postgres_url, name="first"),
        Engine(store=empty_postgres_url, name="second"),
        Engine(store=empty_postgres_url, blobs=tmp_path / "blobs", name="third"),
    ):
        pass

    [warning] = [record.getMessage() for record in caplog.records if record.name == "stepflow.engine"]
    assert re.search(
        r"blobs are kept in .*/blobs .*: give the other engines \(first at .*, second at .*\) the same", warning
    )


async def test_engines_that_begin_at_once_and_have_the_same_blobs_are_all_opened(
    empty_postgres_url: str, tmp_path: Path
):
    async with Engine(store=empty_postgres_url, group="other"):  # which makes the schema
        pass
    opened: list[Engine] = []
    all_opened = anyio.Event()

    async def open_one() -> None:
        async with Engine(store=empty_postgres_url, blobs=tmp_path / "blobs") as engine:
            opened.append(engine)
            if len(opened) == 4:
                all_opened.set()
            await all_opened.wait()

    with anyio.fail_after(120):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(open_one)

    assert len(opened) == 4
    assert len(list((tmp_path / "blobs").rglob("*.blob"))) == 1


async def test_engines_of_another_group_may_have_theirs_elsewhere(empty_postgres_url: str, tmp_path: Path):
    async with (
        Engine(store=empty_postgres_url, blobs=tmp_path / "here", name="first"),
        Engine(store=empty_postgres_url, name="other", group="other"),
        Engine(store=empty_postgres_url, blobs=tmp_path / "there", name="third", group="a third"),
        Engine(store=empty_postgres_url, blobs=tmp_path / "here", name="second") as second,
    ):
        assert len(await second.backend.owners.engines()) == 4
