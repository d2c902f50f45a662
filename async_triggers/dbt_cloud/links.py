"""The link from a task to its run in dbt Cloud."""

from __future__ import annotations

from async_triggers.deferral.link import JobLink


class DbtCloudRunJobOperatorLink(JobLink):
    """Opens the run in dbt Cloud."""

    name = "Monitor Job Run"
    is_start_xcom = True

    @property
    def xcom_key(self) -> str:
        """The XCom that holds the run's address."""
        return "job_run_url"
