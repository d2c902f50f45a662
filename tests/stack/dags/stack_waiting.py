"""DAGs that wait with Airflow's own trigger, to test the deployment itself."""

from __future__ import annotations

import logging
import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, Param, task

if TYPE_CHECKING:
    from airflow.sdk import Context

logger = logging.getLogger(__name__)


class WaitDeferred(BaseOperator):
    """Wait in the triggerer for as many seconds as the run asks for."""

    def execute(self, context: Context) -> None:
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        seconds = context["params"]["seconds"]
        context["task_state_store"].set("seconds", seconds)
        self.defer(
            trigger=TimeDeltaTrigger(timedelta(seconds=seconds)),
            method_name="resume",
        )

    def resume(self, context: Context, event: Any) -> str:
        return f"resumed on attempt {context['ti'].try_number}"


with DAG("stack_waiting", schedule=None, params={"seconds": Param(1, type="number")}):
    WaitDeferred(task_id="wait")

with DAG("stack_working", schedule=None):

    @task(retries=1, retry_delay=timedelta(seconds=0))
    def work(**context: Any) -> int:
        """Hold a worker until it is killed; the next attempt ends at once."""
        attempt: int = context["ti"].try_number
        if attempt == 1:
            logger.info("holding a worker")
            signal.pause()
        return os.getpid()

    work()
