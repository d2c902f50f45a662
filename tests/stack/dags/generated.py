"""Loads YAML for Airflow: one DAG that can be built, and one that cannot."""

from __future__ import annotations

from async_triggers.generators import load_yaml_dags

load_yaml_dags(globals(), "generated.yml")
