from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Connection

from async_triggers.airbyte.hooks import AirbyteHook
from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.deferral.fields import read_flag
from async_triggers.engine.address import is_loopback
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


# Encryption ---------------------------------------------------------------------------

https_vendor = pytest.mark.parametrize("vendor", ["fivetran", "dbt_cloud"])
CLEAR: list[dict[str, Any]] = [
    {"host": "http://gw.example"},
    {"host": " HTTP://gw.example/ "},
    {"host": "http://gw.example:80"},
    {"host": "gw.example", "schema": "http"},
    {"host": "gw.example", "schema": " HTTP "},
    {"host": "gw.example", "schema": "http", "port": 80},
    {"host": "gw.example", "schema": "http", "port": 8080},
]


@https_vendor
@pytest.mark.parametrize("fields", CLEAR)
def test_http_is_read_as_https(vendor: str, fields: dict[str, Any]) -> None:
    assert read(vendor, **fields).base_url == "https://gw.example"


@https_vendor
@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "gw.example", "port": 80}, "https://gw.example"),
        ({"host": "gw.example", "port": 8443}, "https://gw.example:8443"),
        ({"host": "https://gw.example:8443"}, "https://gw.example:8443"),
        ({"host": "http://gw.example:8443"}, "https://gw.example:8443"),
        ({"host": "https://gw.example", "schema": "http"}, "https://gw.example"),
        ({"host": "gw.example", "schema": "https", "port": 80}, "https://gw.example"),
    ],
)
def test_a_port_decides_nothing_about_the_scheme(
    vendor: str, fields: dict[str, Any], url: str
) -> None:
    assert read(vendor, **fields).base_url == url


@https_vendor
@pytest.mark.parametrize("flag", [True, "true", "True"])
def test_http_stays_where_the_connection_insists(vendor: str, flag: object) -> None:
    extra = {"insecure_http": flag}

    account = read(vendor, extra, host="gw.example", schema="http", port=8080)

    assert account.base_url == "http://gw.example:8080"
    plain = read(vendor, extra, host="gw.example")
    assert plain.base_url == "https://gw.example"


@https_vendor
@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.0.0.53", "[::1]", "airflow.localhost"]
)
def test_this_machine_may_be_asked_by_http(vendor: str, host: str) -> None:
    url = f"http://{host}:8000"

    assert read(vendor, host=url).base_url == url


@pytest.mark.parametrize("host", ["localhost.example", "127.example", "10.0.0.1", ""])
def test_no_other_machine_is_this_one(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("schema", [None, "http"])
def test_airbyte_is_asked_as_its_host_says(schema: str | None) -> None:
    host = "http://gw.example" if schema is None else "gw.example"

    assert read("airbyte", host=host, schema=schema).base_url.startswith("http://gw.")


@https_vendor
def test_what_became_of_http_is_logged_with_the_key(
    vendor: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hook, fields = CASES[vendor]
    clear = {**fields, "conn_id": "conn", "conn_type": vendor, "host": "http://gw.test"}

    def warned(**more: Any) -> str:
        caplog.clear()
        found = Connection(**{**clear, **more})
        monkeypatch.setattr(hook, "look_up", lambda _: found)
        hook().account()
        return caplog.text

    assert "says http: https is used. Set extra.insecure_http" in warned()
    insecure = warned(extra='{"insecure_http": true}')
    assert "to gw.test unencrypted: remove extra.insecure_http" in insecure
    assert "s3cret" not in insecure
    assert "insecure_http" not in warned(host="http://localhost:8000")
    assert "insecure_http" not in warned(host="https://gw.test")


# What was pasted around a value ---------------------------------------------------------


@every_vendor
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
def test_the_end_of_a_line_is_no_part_of_a_secret(vendor: str, end: str) -> None:
    account = read(vendor, password=f"s3cret{end}")

    assert account.credentials.secret == "s3cret"
    assert account == read(vendor)


@every_vendor
@pytest.mark.parametrize("secret", [" s3cret", "s3cret ", "\ts3 cret\t", " s3cret \n"])
def test_blanks_may_be_a_part_of_a_secret(vendor: str, secret: str) -> None:
    assert read(vendor, password=secret).credentials.secret == secret.rstrip("\n")


@every_vendor
@pytest.mark.parametrize("secret", [" ", "\n", " \r\n"])
def test_blanks_alone_are_no_secret(vendor: str, secret: str) -> None:
    with pytest.raises(AccountMisconfigured, match="password is empty"):
        read(vendor, password=secret)


@every_vendor
@pytest.mark.parametrize("around", [" {} ", "{}\n", "\r\n{}", "\t{}\r\n"])
def test_blanks_are_no_part_of_a_login_or_a_host(vendor: str, around: str) -> None:
    _, fields = CASES[vendor]
    given = {"host": "https://gw.example/", "login": fields["login"]}

    changes: dict[str, Any] = {
        name: around.format(value) for name, value in given.items()
    }
    pasted = read(vendor, **changes)

    assert pasted == read(vendor, **given)


def test_blanks_are_no_part_of_other_addresses() -> None:
    proxies = {"https": " http://proxy.example:3128\n"}
    extra = {"ui_url": " https://ui.example\n", "proxies": proxies}
    account = read("airbyte", extra, schema=" /oauth/token\n")

    assert account.ui_url == "https://ui.example"
    assert account.route.proxies == (("https", "http://proxy.example:3128"),)
    assert account.credentials.token_url.endswith("/oauth/token")


@pytest.mark.parametrize("account_id", [" 5\n", "5", 5])
def test_blanks_are_no_part_of_an_account_s_id(account_id: int | str) -> None:
    hook, fields = CASES["dbt_cloud"]
    found = Connection(conn_id="c", conn_type="dbt_cloud", **fields)

    assert hook(account_id=account_id).read(found).account_id == "5"


@pytest.mark.parametrize("field", ["login", "password"])
def test_blanks_are_no_part_of_an_encoded_key(field: str) -> None:
    key = b64encode(b"key:s3cret").decode()
    fields: dict[str, Any] = {"login": "", "password": "", field: f" {key} \n"}

    assert read("fivetran", **fields).credentials.secret == key
