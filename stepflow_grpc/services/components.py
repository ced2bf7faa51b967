"""What can be called."""

from collections.abc import Callable, Collection
from typing import Any

from stepflow.engine import Engine
from stepflow.protocols import Clock
from stepflow_grpc.messages import new
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.queues.catalogue import Catalogue
from stepflow_grpc.wire import UnfitError, fill_struct

LISTED_WITHIN_S = 10.0
"""How long workers are waited for that start, or are connected and have not said yet what they have."""


class ComponentsService:
    """The components that the engine's plugins list now.

    Programs ask as soon as they have started a server with workers of its own: those are waited for.

    Args:
        coming: the queues whose workers are connected, or on their way.
    """

    def __init__(
        self, engine: Engine, catalogue: Catalogue, clock: Clock, coming: Callable[[], Collection[str]]
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._clock = clock
        self._coming = coming

    async def ListRegisteredComponents(self, request: Any) -> Any:
        with self._clock.timeout(LISTED_WITHIN_S):
            for queue, _ in self._silent():
                while self._catalogue.components(queue) is None and queue in self._coming():
                    await self._catalogue.wait(queue)
        failed = self._failed()
        response: Any = new("ListRegisteredComponentsResponse", complete=not failed)
        for plugin in sorted(failed):
            response.failed_plugins.add(plugin=plugin, error=failed[plugin])
        listed = sorted(await self._engine.list_components(), key=lambda each: (each.info.id, each.plugin))
        for each in listed:
            entry = response.components.add(component_id=each.info.id, plugin=each.plugin)
            entry.path = each.routes[0] if each.routes else each.info.path or f"/{each.info.id}"
            if each.info.description:
                entry.description = each.info.description
            if not request.exclude_schemas:
                _fill(entry, each.info.input_schema, "input_schema")
                _fill(entry, each.info.output_schema, "output_schema")
        return response

    def _failed(self) -> dict[str, str]:
        """Plugins whose lists are not known, or not whole, and why."""
        silent: dict[str, list[str]] = {}
        for queue, plugin in self._silent():
            silent.setdefault(plugin, []).append(repr(queue))
        said = "no worker has said yet which components it has: queue"
        return {
            **self._engine.failed_plugins(),
            **{plugin: f"{said} {', '.join(queues)}" for plugin, queues in silent.items()},
        }

    def _silent(self) -> list[tuple[str, str]]:
        """The queues of which no worker has said anything, with their plugins."""
        found: list[tuple[str, str]] = []
        for name, plugin in self._engine.plugins().items():
            if isinstance(plugin, QueuePlugin):
                routes = [params for _, params in self._engine.routes_to(name)] or [{}]
                queues = {plugin.queue_of(params): None for params in routes if plugin.components(params) is None}
                found += [(queue, name) for queue in queues]
        return found


def _fill(entry: Any, schema: Any, name: str) -> None:
    if not isinstance(schema, dict):
        return
    try:
        fill_struct(schema, getattr(entry, name))
    except UnfitError:
        entry.ClearField(name)  # one worker's schema hides nobody's components
