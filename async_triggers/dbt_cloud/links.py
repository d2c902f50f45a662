"""The link from a task to its run in dbt Cloud."""

from __future__ import annotations

from async_triggers.deferral.link import JobLink


class DbtCloudRunJobOperatorLink(JobLink):
    """Opens the run in dbt Cloud."""

    name = "Monitor Job Run"
