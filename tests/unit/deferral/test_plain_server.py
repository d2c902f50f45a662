"""What is proposed where a server does not speak TLS."""

from __future__ import annotations

import ssl
from typing import Any, cast

import aiohttp
import pytest
from airflow.sdk import Connection
from yarl import URL

from async_triggers.engine.http import HttpSession
from tests.vendors import AIRBYTE, DBT_CLOUD, FIVETRAN
from tests.vendors import Entry as Case


def proposal(case: Case, **fields: Any) -> str:
    """Return the fix for a server that answers a TLS handshake with something else."""
    given = {"host": "http://gw.corp.test:8080", **case.static, **fields}
    connection = Connection(conn_id="conn", conn_type=case.name, **given)
    account = case.hook_class("conn").read(connection)
    no_tls = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    no_tls.reason = "WRONG_VERSION_NUMBER"
    error = aiohttp.ClientConnectorError(cast("Any", None), no_tls)
    suspect = HttpSession(account)._suspect(URL(account.base_url), error)
    assert suspect is not None
    assert suspect.field == "host"
    return suspect.fix


@pytest.mark.parametrize("case", [FIVETRAN, DBT_CLOUD], ids=lambda case: case.name)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_http_takes_a_key_where_it_is_read_as_https(case: Case, scheme: str) -> None:
    fix = proposal(case, host=f"{scheme}://gw.corp.test:8080")

    assert "set extra.insecure_http to true" in fix
    assert "instead of https" not in fix


def test_http_is_enough_where_the_host_has_the_scheme() -> None:
    fix = proposal(AIRBYTE, host="https://gw.corp.test:8080")

    assert fix.endswith("write http instead of https")
