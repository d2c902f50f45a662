"""The DAGs of a YAML file, for Airflow.

Airflow looks into files that have the words "airflow" and "dag" in them, and no others.
"""

from __future__ import annotations

from async_triggers.generators import load_yaml_dags

load_yaml_dags(globals(), "loans.yml")
