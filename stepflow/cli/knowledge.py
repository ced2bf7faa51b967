"""Which components can be called, as far as that is known before a run."""

from collections.abc import Sequence

from stepflow.cli.opening import engine_for
from stepflow.engine import ListedComponent
from stepflow.records import ComponentInfo


async def listed_components(config: str | None, flow: str | None, apps: Sequence[str]) -> list[ListedComponent]:
    async with engine_for(config, flow, apps) as engine:
        return await engine.list_components()


def by_path(listed: Sequence[ListedComponent]) -> dict[str, ComponentInfo]:
    """Each component by every path that a flow can name it by."""
    return {path: each.info for each in listed for path in each.routes}
