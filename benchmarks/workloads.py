"""What Airflow hands to its runner of triggers: it moved from one version to the next."""

from __future__ import annotations

try:
    from airflow.executors.workloads.task import TaskInstanceDTO
    from airflow.executors.workloads.trigger import RunTrigger
except ModuleNotFoundError:
    from airflow.executors.workloads import RunTrigger  # type: ignore[attr-defined]
    from airflow.executors.workloads import TaskInstance as TaskInstanceDTO

__all__ = ["RunTrigger", "TaskInstanceDTO"]
