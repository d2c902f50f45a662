"""The link from a task to its job in Airbyte's web interface."""

from __future__ import annotations

from async_triggers.deferral.link import JobLink


class AirbyteJobLink(JobLink):
    """Opens the job's log in Airbyte."""

    name = "Airbyte job"
