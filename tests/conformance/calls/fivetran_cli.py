"""The HTTP client of fivetran-cli, Fivetran's own command.

Its requests are those of its commands; what it reports about its use stays off.
"""

from __future__ import annotations

from fivetran_cli.http.client import ClientConfig, FivetranClient

from tests.conformance.calls.reporting import Calls

calls = Calls()
given = calls.given
client = FivetranClient(ClientConfig(api_key=given["key"], base_url=given["url"]))
CONNECTION, GROUP = given["connection"], given["group"]
ONE = f"/v1/connections/{CONNECTION}"


def is_success(found: dict[str, object]) -> bool:
    return found["code"] == "Success"


calls.check(
    "account info", lambda: client.request("GET", "/v1/account/info"), is_success
)
calls.check(
    "connection list",
    lambda: client.paginated_request("GET", "/v1/connections", query={"limit": 1}),
    lambda found: len(found["data"]["items"]) == given["connections"],
)
calls.check(
    "connection get",
    lambda: client.request("GET", ONE),
    lambda found: found["data"]["id"] == CONNECTION,
)
calls.check(
    "connection sync (no body)",
    lambda: client.request("POST", f"{ONE}/sync"),
    is_success,
)
calls.check(
    "connection sync --payload",
    lambda: client.request("POST", f"{ONE}/sync", payload={"force": True}),
    is_success,
)
calls.check(
    "connection test --payload '{}'",
    lambda: client.request("POST", f"{ONE}/test", payload={}),
    lambda found: found["data"]["setup_tests"][0]["status"] == "PASSED",
)
calls.refuses(
    "connection test (no body)", lambda: client.request("POST", f"{ONE}/test"), "400"
)
calls.check(
    "connection update --payload",
    lambda: client.request("PATCH", ONE, payload={"paused": True}),
    lambda found: found["data"]["paused"],
)
calls.check(
    "connection resync (no body)",
    lambda: client.request("POST", f"{ONE}/resync"),
    is_success,
)
calls.check(
    "connection-schema get",
    lambda: client.request("GET", f"{ONE}/schemas"),
    lambda found: "schemas" in found["data"],
)
calls.check(
    "group list",
    lambda: client.paginated_request("GET", "/v1/groups"),
    lambda found: GROUP in [one["id"] for one in found["data"]["items"]],
)
calls.check(
    "group get", lambda: client.request("GET", f"/v1/groups/{GROUP}"), is_success
)
calls.check(
    "group connection list",
    lambda: client.paginated_request("GET", f"/v1/groups/{GROUP}/connections"),
    lambda found: CONNECTION in [one["id"] for one in found["data"]["items"]],
)
calls.check(
    "destination get",
    lambda: client.request("GET", f"/v1/destinations/{GROUP}"),
    lambda found: found["data"]["id"] == GROUP,
)
calls.check(
    "user list",
    lambda: client.paginated_request("GET", "/v1/users"),
    lambda found: found["data"]["items"],
)
calls.refuses(
    "connection get of an unknown id",
    lambda: client.request("GET", "/v1/connections/unknown"),
    "NotFound_Connector",
)
