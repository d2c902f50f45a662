"""What tests take from Airflow that another version has elsewhere, or not at all."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.serialization import serialized_objects

from async_triggers.deferral import compat

try:
    from airflow.dag_processing.dagbag import DagBag
except ModuleNotFoundError:
    from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

try:
    from airflow.executors.workloads.task import TaskInstanceDTO
    from airflow.executors.workloads.trigger import RunTrigger
except ModuleNotFoundError:
    from airflow.executors.workloads import RunTrigger  # type: ignore[attr-defined]
    from airflow.executors.workloads import TaskInstance as TaskInstanceDTO

try:
    from airflow.serialization.decoders import smart_decode_trigger_kwargs
except ImportError:
    from airflow.serialization.serialized_objects import (  # type: ignore[attr-defined, no-redef]
        smart_decode_trigger_kwargs,
    )

DagSerialization: Any = getattr(serialized_objects, "DagSerialization", None) or (
    serialized_objects.SerializedDAG  # type: ignore[attr-defined]
)

__all__ = [
    "DagBag",
    "DagSerialization",
    "RunTrigger",
    "TaskInstanceDTO",
    "needs_retry_policy",
    "needs_start_from_trigger",
    "needs_task_state_store",
    "needs_variables",
    "smart_decode_trigger_kwargs",
]

needs_task_state_store = pytest.mark.skipif(
    not compat.HAS_OWN_STORE, reason="this Airflow has no task state store"
)
needs_variables = pytest.mark.skipif(
    compat.HAS_OWN_STORE, reason="this Airflow has a task state store"
)
needs_start_from_trigger = pytest.mark.skipif(
    not compat.STARTS_FROM_TRIGGER,
    reason="this Airflow starts no task from its trigger",
)
needs_retry_policy = pytest.mark.skipif(
    not compat.HAS_RETRY_POLICY, reason="this Airflow's operators have no retry_policy"
)
