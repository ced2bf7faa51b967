"""From a configuration file to an engine: the only place that looks up plugins by their type."""

from stepflow.config.open import open_engine

__all__ = ["open_engine"]
