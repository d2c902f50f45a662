"""What only some versions of Airflow can do for a task."""

from __future__ import annotations

import inspect
from typing import Any

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger

STARTS_FROM_TRIGGER = hasattr(BaseTrigger, "render_template_fields")
"""Whether the scheduler honours ``start_from_trigger``. It renders the trigger's templates
on the triggerer then; other versions ignore the argument and run the task on a worker."""
HAS_RETRY_POLICY = "retry_policy" in inspect.signature(BaseOperator.__init__).parameters
"""Whether operators take a ``retry_policy``."""


def has_retry_policy(task: Any) -> bool:
    """Return whether a policy decides what Airflow does about a failure of the task."""
    return getattr(task, "retry_policy", None) is not None


def returns_dag_result(task: Any) -> bool:
    """Return whether what the task returns is the result of its DAG."""
    return bool(getattr(task, "returns_dag_result", False))
