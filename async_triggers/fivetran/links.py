"""The link from a task to its connection in Fivetran's dashboard."""

from __future__ import annotations

from async_triggers.deferral.link import JobLink


class FivetranConnectionLink(JobLink):
    """Opens the connection's status in Fivetran."""

    name = "Fivetran connection"
