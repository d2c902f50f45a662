"""Requests that no vendor expects: refused in the vendor's shape, never a traceback."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.simulator import (
    AirbyteSettings,
    AirbyteSimulator,
    DbtCloudSettings,
    DbtCloudSimulator,
    FivetranSettings,
    FivetranSimulator,
    SimRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from async_triggers.simulator.vendor import VendorSimulator

KEY = base64.b64encode(b"simulator-key:simulator-secret").decode()
CREDENTIALS = {
    "airbyte": "Bearer simulator-token",
    "fivetran": f"Basic {KEY}",
    "dbt_cloud": "Bearer simulator-token",
}
FIELDS = {
    "airbyte": ("connectionId", "jobType", "client_id", "client_secret"),
    "fivetran": (
        *("force", "scope", "paused", "schedule_type", "sync_frequency"),
        *("is_historical_sync", "run_setup_tests", "trust_certificates"),
    ),
    "dbt_cloud": (
        *("cause", "git_sha", "git_branch", "schema_override", "threads_override"),
        *("steps_override", "generate_docs_override", "timeout_seconds_override"),
    ),
}
PROPER: dict[str, dict[str, Any]] = {
    "airbyte": {"connectionId": "orders", "jobType": "sync"},
    "fivetran": {"paused": False},
    "dbt_cloud": {"cause": "nightly"},
}
PARAMETERS = {
    "airbyte": (
        *("limit", "offset", "orderBy", "status", "jobType", "workspaceIds"),
        *("connectionId", "createdAtStart", "updatedAtEnd", "includeDeleted"),
    ),
    "fivetran": ("limit", "cursor", "group_id", "schema", "start_time", "end_time"),
    "dbt_cloud": (
        *("limit", "offset", "order_by", "pk", "pk__in", "status__in", "id__gt"),
        *("finished_at__range", "created_at__range", "project_id", "state"),
        *("name__icontains", "include_related", "step", "environment_id"),
    ),
}
TEXTS = (
    *("", "0", "-1", "1.5", "None", "☃", "\x00", "[1", "[]", "[1e999]", "[NaN]"),
    *("[[1]]", "[null]", "[" * 2000, "9" * 30, "9" * 6000, "0001-01-01T00:00+23:59"),
    *('["0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59"]', "x" * 3000),
)
VALUES: tuple[Any, ...] = (
    *(None, "", "☃", "None", 0, -1, 1.5, 10**30, float("inf"), True),
    *([], [1], ["sync"], [[]], {}, {"a": [1]}, {"a": {}}, "x" * 3000),
)
HEADERS = ("", "☃", "\x00", "Basic", "Basic ☃", "Basic é==", "Bearer ☃", "Token")


@pytest.fixture(params=["airbyte", "fivetran", "dbt_cloud"])
def vendor(
    request: pytest.FixtureRequest, clock: Callable[[], float]
) -> VendorSimulator[Any]:
    if request.param == "airbyte":
        return AirbyteSimulator(AirbyteSettings(accept_unknown=True), clock=clock)
    if request.param == "fivetran":
        return FivetranSimulator(FivetranSettings(accept_unknown=True), clock=clock)
    return DbtCloudSimulator(DbtCloudSettings(accept_unknown=True), clock=clock)


def paths(vendor: VendorSimulator[Any]) -> Iterator[tuple[str, str]]:
    """Return the method and the path of each operation."""
    root = "/api/public/v1" if vendor.name == "airbyte" else ""
    for route in vendor.routes():
        path = route.template.replace("{account}", "70403103916001")
        for name in ("job", "run", "project", "environment", "path+", "job_id"):
            path = path.replace(f"{{{name}}}", "5")
        for name in ("connection_id", "group_id", "endpoint_id", "workspace_id"):
            path = path.replace(f"{{{name}}}", "orders")
        yield route.method, f"{root}{path}"


def check(vendor: VendorSimulator[Any], request: SimRequest) -> None:
    reply = vendor.respond(request)
    assert reply.status < 500, (request.method, request.path, request.query)
    if reply.status >= 400:
        assert reply.headers["Content-Type"] == "application/json"
        assert isinstance(reply.json(), dict)


def sent(vendor: VendorSimulator[Any], **headers: str) -> dict[str, str]:
    return {
        "Authorization": CREDENTIALS[vendor.name],
        "Content-Type": "application/json",
        **headers,
    }


def test_no_value_in_a_body_breaks_it(vendor: VendorSimulator[Any]) -> None:
    changing = [(m, p) for m, p in paths(vendor) if m != "GET"]
    fields = FIELDS[vendor.name]
    for (method, path), name, value in itertools.product(changing, fields, VALUES):
        body = json.dumps(PROPER[vendor.name] | {name: value}).encode()
        check(vendor, SimRequest(method, path, [], sent(vendor), body))


def test_no_query_breaks_it(vendor: VendorSimulator[Any]) -> None:
    reading = [p for m, p in paths(vendor) if m == "GET"]
    names = PARAMETERS[vendor.name]
    for path, name, text in itertools.product(reading, names, TEXTS):
        check(vendor, SimRequest("GET", path, [(name, text)], sent(vendor)))


def test_no_header_breaks_it(vendor: VendorSimulator[Any]) -> None:
    names = ("Authorization", "Accept", "Content-Type")
    for (method, path), name, text in itertools.product(paths(vendor), names, HEADERS):
        check(vendor, SimRequest(method, path, [], sent(vendor, **{name: text}), b"{}"))


def test_head_is_answered_as_get(vendor: VendorSimulator[Any]) -> None:
    reading = [p for m, p in paths(vendor) if m == "GET"]
    for path in reading:
        got = vendor.respond(SimRequest("GET", path, [], sent(vendor)))
        head = vendor.respond(SimRequest("HEAD", path, [], sent(vendor)))
        assert head.status == got.status, path


@pytest.mark.parametrize("arranged", [{"conections": []}, {"planets": [{}]}])
def test_what_cannot_be_arranged_is_refused_even_if_empty(
    vendor: VendorSimulator[Any], arranged: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="to arrange; it has: settings"):
        vendor.arrange(**arranged)


@pytest.mark.parametrize("number", ["5", 0, -5, 2**63, True, 5.0, [5]])
@pytest.mark.parametrize(
    "kind", ["accounts", "projects", "environments", "jobs", "account of a job"]
)
def test_an_id_that_no_request_can_name_is_not_arranged_at_dbt_cloud(
    clock: Callable[[], float], kind: str, number: Any
) -> None:
    dbt = DbtCloudSimulator(clock=clock)
    arranged: dict[str, Any] = {f"{kind.removesuffix('s')}_id": number, "name": "x"}
    if kind == "account of a job":
        kind, arranged = "jobs", {"job_id": 5, "account_id": number}

    with pytest.raises(ValueError, match=r"must be an integer above zero|unhashable"):
        dbt.arrange(**{kind: [arranged]})

    assert not dbt.all_jobs


@pytest.mark.parametrize("named", ["", 5, True, ["orders"]])
@pytest.mark.parametrize("simulator", [AirbyteSimulator, FivetranSimulator])
def test_an_id_that_no_request_can_name_is_not_arranged(
    clock: Callable[[], float],
    simulator: type[AirbyteSimulator | FivetranSimulator],
    named: Any,
) -> None:
    scene = simulator(clock=clock)

    with pytest.raises(ValueError, match="connection_id must be a text"):
        scene.arrange(connections=[{"connection_id": named}])

    assert not scene.connections
