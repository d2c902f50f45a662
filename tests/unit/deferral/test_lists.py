"""Lists that people ask a hook for: whole, or an error, and never without end."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.deferral import paging as module
from async_triggers.deferral.errors import VendorUnavailable
from async_triggers.fivetran.hooks import FivetranHook
from async_triggers.simulator.exchange import SimReply, SimRequest
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import VENDORS

if TYPE_CHECKING:
    from async_triggers.deferral.hook import VendorHook

FEW = 7


@dataclass(frozen=True, slots=True)
class Listing:
    """One list of a vendor: how it is asked for, and a page of rows of certain numbers."""

    vendor: str
    name: str
    hook: type[VendorHook]
    ask: Callable[[Any, Any], Any]
    page: Callable[[list[int]], dict[str, Any]]
    size: int


def _airbyte(numbers: list[int]) -> dict[str, Any]:
    rows = [{"connectionId": f"c{number}", "name": "n"} for number in numbers]
    return {"data": rows, "next": "", "previous": ""}


def _fivetran(numbers: list[int]) -> dict[str, Any]:
    rows = [
        {"id": f"c{number}", "name": "other", "schema": "s", "status": {}}
        for number in numbers
    ]
    cursor = f"after-{numbers[-1] if numbers else next(_cursors)}"
    return {"code": "Success", "data": {"items": rows, "next_cursor": cursor}}


_cursors = itertools.count()


def _dbt_cloud(numbers: list[int]) -> dict[str, Any]:
    rows = [{"id": number, "name": "other", "status": 3} for number in numbers]
    return {"data": rows, "status": {"code": 200, "is_success": True}}


LISTS = [
    *(
        Listing("airbyte", name, AirbyteHook, ask, _airbyte, 100)
        for name, ask in (
            ("connections", lambda hook, leased: hook.list_replications(leased)),
            ("sources", lambda hook, leased: hook.list_sources(leased)),
            ("destinations", lambda hook, leased: hook.list_destinations(leased)),
        )
    ),
    *(
        Listing("fivetran", name, FivetranHook, ask, _fivetran, 1000)
        for name, ask in (
            (
                "connections",
                lambda hook, leased: hook.list_fivetran_connections(leased),
            ),
            ("groups", lambda hook, leased: hook.list_groups(leased)),
            ("by name", lambda hook, leased: hook.find_connector_id(leased, "a", "b")),
        )
    ),
    *(
        Listing("dbt_cloud", name, DbtCloudHook, ask, _dbt_cloud, 100)
        for name, ask in (
            ("runs", lambda hook, leased: hook.list_runs(leased)),
            (
                "the latest run of a status",
                lambda hook, leased: hook.list_runs(
                    leased, statuses=[20], latest_only=True
                ),
            ),
            ("jobs", lambda hook, leased: hook.list_job_definitions(leased)),
            (
                "a job by name",
                lambda hook, leased: hook.find_job(
                    leased, project_name="a", environment_name="b", job_name="c"
                ),
            ),
        )
    ),
]
every_list = pytest.mark.parametrize(
    "listing", LISTS, ids=lambda each: f"{each.vendor}-{each.name}"
)


def a_world(
    monkeypatch: pytest.MonkeyPatch,
    listing: Listing,
    answer: Callable[[int], dict[str, Any]],
) -> VendorWorld:
    """Make a world whose vendor answers each question for a list with the next page."""
    case = next(each for each in VENDORS if each.name == listing.vendor)
    world = make_vendor_world(monkeypatch, case)
    respond, numbers = world.vendor.respond, itertools.count()

    def paged(asked: SimRequest) -> SimReply:
        if asked.method != "GET":
            reply: SimReply = respond(asked)
            return reply

        return SimReply(200, {}, json.dumps(answer(next(numbers))).encode())

    monkeypatch.setattr(world.vendor, "respond", paged)
    return world


def pages(world: VendorWorld) -> int:
    """Tell how many pages were asked for."""
    return sum(each.method == "GET" for each in world.requests)


@every_list
def test_a_list_without_end_is_an_error(
    monkeypatch: pytest.MonkeyPatch, listing: Listing
) -> None:
    monkeypatch.setattr(module, "MOST_PAGES", FEW)

    def answer(number: int) -> dict[str, Any]:
        first = number * listing.size
        return listing.page([*range(first, first + listing.size)])

    world = a_world(monkeypatch, listing, answer)
    hook = listing.hook(f"{listing.vendor}_default")

    with pytest.raises(VendorUnavailable, match="does not end after 7 pages"):
        hook.run(lambda leased: listing.ask(hook, leased))

    assert pages(world) == FEW


@every_list
def test_a_page_that_comes_again_is_an_error(
    monkeypatch: pytest.MonkeyPatch, listing: Listing
) -> None:
    """As from a proxy that knows one answer for all pages."""

    def answer(number: int) -> dict[str, Any]:
        page = listing.page([*range(listing.size)])
        if "next_cursor" in page["data"]:
            page["data"]["next_cursor"] = str(number)

        return page

    world = a_world(monkeypatch, listing, answer)
    hook = listing.hook(f"{listing.vendor}_default")

    with pytest.raises(VendorUnavailable, match="the same as the one before it"):
        hook.run(lambda leased: listing.ask(hook, leased))

    assert pages(world) == 2


@pytest.mark.parametrize("listing", LISTS[3:5], ids=["connections", "groups"])
def test_empty_pages_without_end_are_an_error(
    monkeypatch: pytest.MonkeyPatch, listing: Listing
) -> None:
    monkeypatch.setattr(module, "MOST_PAGES", FEW)
    a_world(monkeypatch, listing, lambda _: listing.page([]))
    hook = listing.hook("fivetran_default")

    with pytest.raises(VendorUnavailable, match="does not end after 7 pages"):
        hook.run(lambda leased: listing.ask(hook, leased))


@pytest.mark.parametrize(
    "listing", [LISTS[1], LISTS[8]], ids=["airbyte-sources", "dbt_cloud-jobs"]
)
def test_a_list_of_as_many_pages_as_may_be_is_whole(
    monkeypatch: pytest.MonkeyPatch, listing: Listing
) -> None:
    monkeypatch.setattr(module, "MOST_PAGES", FEW)
    count = (FEW - 1) * listing.size

    def answer(number: int) -> dict[str, Any]:
        first = number * listing.size
        return listing.page([*range(first, min(count, first + listing.size))])

    a_world(monkeypatch, listing, answer)
    hook = listing.hook(f"{listing.vendor}_default")

    assert len(hook.run(lambda leased: listing.ask(hook, leased))) == count
