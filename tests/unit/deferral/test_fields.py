from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Connection

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.deferral.fields import read_flag
from async_triggers.engine.errors import AccountMisconfigured
from async_triggers.fivetran.hooks import FivetranHook

if TYPE_CHECKING:
    from async_triggers.engine.wire import Account

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "airbyte": (
        AirbyteHook,
        {"host": "https://airbyte.example", "login": "id", "password": "s3cret"},
    ),
    "fivetran": (FivetranHook, {"login": "key", "password": "s3cret"}),
    "dbt_cloud": (
        DbtCloudHook,
        {"host": "ab123.us1.dbt.com", "login": "70403", "password": "s3cret"},
    ),
}
every_vendor = pytest.mark.parametrize("vendor", CASES)


def read(vendor: str, extra: dict[str, Any] | None = None, **fields: Any) -> Account:
    """Read a connection of a vendor, some fields of which are changed."""
    hook, given = CASES[vendor]
    text = None if extra is None else json.dumps(extra)
    connection = Connection(
        conn_id="conn", conn_type=vendor, extra=text, **{**given, **fields}
    )
    account: Account = hook().read(connection)
    return account


# Booleans -----------------------------------------------------------------------------

TRUE = [True, 1, "true", "True", "TRUE", " true\n", "yes", "on", "1", "T", "y"]
FALSE = [False, 0, "false", "False", "FALSE", " False ", "no", "off", "0", "f", "N"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [*((each, True) for each in TRUE), *((each, False) for each in FALSE)],
)
def test_a_boolean_may_be_a_text(value: object, *, expected: bool) -> None:
    assert read_flag({"flag": value}, "flag", default=not expected) is expected


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("extra", [{}, {"flag": None}, {"flag": ""}, {"flag": "  "}])
def test_an_empty_boolean_is_not_set(
    extra: dict[str, object], *, default: bool
) -> None:
    assert read_flag(extra, "flag", default=default) is default


@pytest.mark.parametrize("value", ["perhaps", 2, -1, 0.5, [], {}, "truee", "/etc/ca"])
def test_any_other_boolean_is_refused_and_not_repeated(value: object) -> None:
    with pytest.raises(
        AccountMisconfigured, match=r"extra.flag must be true or false$"
    ):
        read_flag({"flag": value}, "flag", default=True)


@every_vendor
@pytest.mark.parametrize("value", FALSE)
def test_the_check_of_certificates_is_switched_off_by_any_of_them(
    vendor: str, value: object
) -> None:
    route = read(vendor, {"verify": value}).route

    assert (route.verify, route.ca_bundle) == (False, "")


@every_vendor
@pytest.mark.parametrize("value", [*TRUE, None, ""])
def test_the_check_of_certificates_is_left_on_by_the_others(
    vendor: str, value: object
) -> None:
    route = read(vendor, {"verify": value, "ca_bundle": "/etc/own.pem"}).route

    assert (route.verify, route.ca_bundle) == (True, "/etc/own.pem")


@pytest.mark.parametrize("value", TRUE)
def test_a_trial_account_is_one_by_any_of_them(value: object) -> None:
    assert read("fivetran", {"trial": value}).budget.requests == 500
