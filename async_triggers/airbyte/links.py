"""The link from a task to its job in Airbyte's web interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class AirbyteJobLink(BaseOperatorLink):
    """Opens the job's log in Airbyte."""

    name = "Airbyte job"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the job's address, empty while there is no job."""
        return str(getattr(operator, "job_url", ""))
