"""The link from a task to what the vendor shows of its job."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class JobLink(BaseOperatorLink):
    """Opens the job at the vendor.

    Airflow computes a link in the worker, at the end of each segment of a task, and keeps
    it: it is there while the task is deferred.
    """

    is_start_xcom: ClassVar[bool] = False
    """Whether its XCom is one of those that every start pushes in any case."""

    def get_link(
        self, operator: BaseOperator, *, ti_key: TaskInstanceKey | None = None
    ) -> str:
        """Return the job's address, empty while there is no job."""
        return str(getattr(operator, "job_url", ""))
