"""Tasks from YAML: which connections load what a dbt selection reads."""

from __future__ import annotations

from async_triggers.generators.errors import GeneratorError
from async_triggers.generators.loading import expand_generators, load_yaml_dags

__all__ = ["GeneratorError", "expand_generators", "load_yaml_dags"]
