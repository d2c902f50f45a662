"""Starts a crossing of Ferry."""

from __future__ import annotations

from typing import Any

from async_triggers.deferral.arguments import identifier, text
from async_triggers.deferral.ids import Ids
from async_triggers.deferral.link import JobLink
from async_triggers.deferral.plain_task import PlainOperator
from ferry_provider.jobs import CrossingRequest


class FerryLink(JobLink):
    """Opens the crossing at Ferry."""

    name = "Ferry crossing"


class FerryOperator(PlainOperator):
    """Starts a crossing of a route and waits until it has ended.

    :param route: the route (templated)
    """

    template_fields = ("route", "conn_id")
    operator_extra_links = (FerryLink(),)
    ids = Ids(required={"route": identifier, "conn_id": text})
    statistics_key = "ferry_crossing"

    def __init__(
        self, *, route: str, conn_id: str = "ferry_default", **kwargs: Any
    ) -> None:
        super().__init__(conn_id=conn_id, **kwargs)
        self.route = route
        self.note_ids(kwargs)

    def make_request(self) -> CrossingRequest:
        """Return what the rendered arguments ask for."""
        return CrossingRequest(route=self.route, **self.policy)
