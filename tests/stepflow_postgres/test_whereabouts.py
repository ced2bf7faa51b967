"""Engines that share the runs and not the blobs."""

from pathlib import Path

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


async def test_engines_that_keep_blobs_beside_the_runs_are_missed_by_none_that_keeps_them_elsewhere(
    empty_postgres_url: str, tmp_path: Path
):
    async with Engine(store=empty_postgres_url, name="first"):
        async with Engine(store=empty_postgres_url, name="second"):
            pass

        with pytest.raises(StoreError, match="first at .* have them beside the runs"):
            async with Engine(store=empty_postgres_url, blobs=tmp_path / "blobs"):
                pass


async def test_engines_of_another_group_may_have_theirs_elsewhere(empty_postgres_url: str, tmp_path: Path):
    async with (
        Engine(store=empty_postgres_url, blobs=tmp_path / "here", name="first"),
        Engine(store=empty_postgres_url, name="other", group="other"),
        Engine(store=empty_postgres_url, blobs=tmp_path / "there", name="third", group="a third"),
        Engine(store=empty_postgres_url, blobs=tmp_path / "here", name="second") as second,
    ):
        assert len(await second.backend.owners.engines()) == 4
        with pytest.raises(StoreError, match=r"other engines of its group \(other at "):
            async with Engine(store=empty_postgres_url, blobs=tmp_path / "here", group="other"):
                pass
