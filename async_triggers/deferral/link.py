"""The link from a task to what the vendor shows of its job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class JobLink(BaseOperatorLink):
    """Opens the job at the vendor.

    Airflow computes a link in the worker, at the end of each segment of a task, and keeps
    it: it is there while the task is deferred.
    """

    def get_link(
        self, operator: BaseOperator, *, ti_key: TaskInstanceKey | None = None
    ) -> str:
        """Return the job's address, empty while there is no job."""
        return str(getattr(operator, "job_url", ""))
