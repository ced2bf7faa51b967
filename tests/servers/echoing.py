"""A component that gives back what it is given."""

from typing import Any

from stepflow.components import Components


def echo() -> Components:
    app = Components()

    @app.component("/echo")
    async def echo(value: Any) -> Any:
        return value

    return app
