"""What can be called."""

from typing import Any

from stepflow.engine import Engine
from stepflow_grpc.messages import new
from stepflow_grpc.plugin import QueuePlugin
from stepflow_grpc.wire import UnfitError, fill_struct


class ComponentsService:
    """The components that the engine's plugins list now."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ListRegisteredComponents(self, request: Any) -> Any:
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
        failed = self._engine.failed_plugins()
        for name, plugin in self._engine.plugins().items():
            if isinstance(plugin, QueuePlugin):
                routes = [params for _, params in self._engine.routes_to(name)] or [{}]
                silent = {plugin.queue_of(params): None for params in routes if plugin.components(params) is None}
                if silent:
                    queues = ", ".join(repr(queue) for queue in silent)
                    failed[name] = f"no worker has said yet which components it has: queue {queues}"
        return failed


def _fill(entry: Any, schema: Any, name: str) -> None:
    if not isinstance(schema, dict):
        return
    try:
        fill_struct(schema, getattr(entry, name))
    except UnfitError:
        entry.ClearField(name)  # one worker's schema hides nobody's components
