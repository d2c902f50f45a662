"""What only some versions of Airflow can do for a task."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger

from async_triggers.deferral.compat.names import conf

if TYPE_CHECKING:
    from airflow.sdk import Context

STARTS_FROM_TRIGGER = hasattr(BaseTrigger, "render_template_fields")
"""Whether the scheduler honours ``start_from_trigger``. It renders the trigger's templates
on the triggerer then; other versions ignore the argument and run the task on a worker."""
HAS_RETRY_POLICY = "retry_policy" in inspect.signature(BaseOperator.__init__).parameters
"""Whether operators take a ``retry_policy``."""


def has_setting(section: str, name: str) -> bool:
    """Return whether this Airflow has a setting, be it set or not."""
    described = conf.configuration_description or {}
    return name in described.get(section, {}).get("options", {})


def has_retry_policy(task: Any) -> bool:
    """Return whether a policy decides what Airflow does about a failure of the task."""
    return getattr(task, "retry_policy", None) is not None


def is_resumed(context: Context) -> bool:
    """Return whether a task goes on after a deferral, as its server has it.

    False where this Airflow does not show it.
    """
    known = getattr(context.get("ti"), "_ti_context_from_server", None)
    return bool(getattr(known, "next_method", None))


def wants_lineage(task: Any) -> bool:
    """Return whether OpenLineage's listener requests what a task knows of its data."""
    try:
        # The provider has policies for single tasks from 2.19 on.
        from airflow.providers.openlineage.api import (  # noqa: PLC0415
            is_openlineage_active,
        )
        from airflow.providers.openlineage.utils.emission_policy import (  # noqa: PLC0415
            resolve_task_emission_policy,
        )
    except ImportError:
        return False

    if not is_openlineage_active():
        return False

    policy = resolve_task_emission_policy(
        operator=task, dag_id=task.dag_id, task_id=task.task_id
    )
    return bool(policy.emit and policy.extract_operator_metadata)


def no_lineage() -> Any:
    """Return what a task shows OpenLineage's listener that has nothing to show."""
    from airflow.providers.openlineage.extractors import (  # noqa: PLC0415
        OperatorLineage,
    )

    return OperatorLineage()


def returns_dag_result(task: Any) -> bool:
    """Return whether what the task returns is the result of its DAG."""
    return bool(getattr(task, "returns_dag_result", False))
