from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Connection

from async_triggers.dbt_cloud.hooks import DbtCloudHook
from async_triggers.deferral.fields import read_flag
from async_triggers.engine.address import is_loopback
from async_triggers.engine.errors import AccountMisconfigured
from tests.vendors import AIRBYTE, DBT_CLOUD, FIVETRAN, VENDORS, every_vendor
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from async_triggers.engine.wire import Account


def fields_of(case: Case) -> dict[str, Any]:
    """Return the fields of a good connection, whose secret is ``s3cret``."""
    (proof, *_) = case.proofs("id", "s3cret", "s3cret").values()
    return {"conn_type": case.name, "host": "https://vendor.example", **proof}


def read(case: Case, extra: dict[str, Any] | None = None, **fields: Any) -> Account:
    """Read a connection of a vendor, some fields of which are changed."""
    text = None if extra is None else json.dumps(extra)
    given = {**fields_of(case), "extra": text, **fields}
    return case.hook_class("conn").read(Connection(conn_id="conn", **given))


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
    case: Case, value: object
) -> None:
    route = read(case, {"verify": value}).route

    assert (route.verify, route.ca_bundle) == (False, "")


@every_vendor
@pytest.mark.parametrize("value", [*TRUE, None, ""])
def test_the_check_of_certificates_is_left_on_by_the_others(
    case: Case, value: object
) -> None:
    route = read(case, {"verify": value, "ca_bundle": "/etc/own.pem"}).route

    assert (route.verify, route.ca_bundle) == (True, "/etc/own.pem")


@every_vendor
@pytest.mark.parametrize("value", ["maybe", "falsee", "none of it"])
def test_a_word_that_is_none_of_them_is_no_file(case: Case, value: str) -> None:
    with pytest.raises(
        AccountMisconfigured, match=r"extra\.verify must be true, false"
    ):
        read(case, {"verify": value})

    assert read(case, {"verify": "ca.pem"}).route.ca_bundle == "ca.pem"


@every_vendor
@pytest.mark.parametrize("field", ["verify", "ca_bundle"])
def test_a_pasted_certificate_is_no_file(case: Case, field: str) -> None:
    pasted = "-----BEGIN CERTIFICATE-----\nMIIC/pasted\n-----END CERTIFICATE-----"

    with pytest.raises(
        AccountMisconfigured, match=rf"extra\.{field} must be"
    ) as caught:
        read(case, {field: pasted})

    assert "MIIC" not in str(caught.value)


@pytest.mark.parametrize("value", TRUE)
def test_a_trial_account_is_one_by_any_of_them(value: object) -> None:
    assert read(FIVETRAN, {"trial": value}).budget.requests == 500


# Encryption ---------------------------------------------------------------------------

https_vendor = pytest.mark.parametrize(
    "case",
    [case for case in VENDORS if case.only_https],
    ids=lambda case: case.name,
)
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
def test_http_is_read_as_https(case: Case, fields: dict[str, Any]) -> None:
    assert read(case, **fields).base_url == "https://gw.example"


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
    case: Case, fields: dict[str, Any], url: str
) -> None:
    assert read(case, **fields).base_url == url


@https_vendor
@pytest.mark.parametrize("flag", [True, "true", "True"])
def test_http_stays_where_the_connection_insists(case: Case, flag: object) -> None:
    extra = {"insecure_http": flag}

    account = read(case, extra, host="gw.example", schema="http", port=8080)

    assert account.base_url == "http://gw.example:8080"
    plain = read(case, extra, host="gw.example")
    assert plain.base_url == "https://gw.example"


@https_vendor
@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.0.0.53", "[::1]", "airflow.localhost"]
)
def test_this_machine_may_be_asked_by_http(case: Case, host: str) -> None:
    url = f"http://{host}:8000"

    assert read(case, host=url).base_url == url


@pytest.mark.parametrize("host", ["localhost.example", "127.example", "10.0.0.1", ""])
def test_no_other_machine_is_this_one(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("schema", [None, "http"])
def test_airbyte_is_asked_as_its_host_says(schema: str | None) -> None:
    host = "http://gw.example" if schema is None else "gw.example"

    assert read(AIRBYTE, host=host, schema=schema).base_url.startswith("http://gw.")


@https_vendor
def test_what_became_of_http_is_logged_with_the_key(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hook = case.hook_class
    clear = {**fields_of(case), "conn_id": "conn", "host": "http://gw.test"}

    def warned(**more: Any) -> str:
        caplog.clear()
        found = Connection(**{**clear, **more})
        monkeypatch.setattr(hook, "look_up", lambda _: found)
        hook("conn").account()
        return caplog.text

    assert "says http, and https is used: set extra.insecure_http" in warned()
    insecure = warned(extra='{"insecure_http": true}')
    assert "to gw.test unencrypted: remove extra.insecure_http" in insecure
    assert "s3cret" not in insecure
    assert "insecure_http" not in warned(host="http://localhost:8000")
    assert "insecure_http" not in warned(host="https://gw.test")


# What was pasted around a value ---------------------------------------------------------


@every_vendor
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
def test_the_end_of_a_line_is_no_part_of_a_secret(case: Case, end: str) -> None:
    account = read(case, password=f"s3cret{end}")

    assert account.credentials.secret == "s3cret"
    assert account == read(case)


@every_vendor
@pytest.mark.parametrize("secret", [" s3cret", "s3cret ", "\ts3 cret\t", " s3cret \n"])
def test_blanks_may_be_a_part_of_a_secret(case: Case, secret: str) -> None:
    assert read(case, password=secret).credentials.secret == secret.rstrip("\n")


@every_vendor
@pytest.mark.parametrize("secret", [" ", "\n", " \r\n"])
def test_blanks_alone_are_no_secret(case: Case, secret: str) -> None:
    with pytest.raises(AccountMisconfigured, match="password is empty"):
        read(case, password=secret)


@every_vendor
@pytest.mark.parametrize("around", [" {} ", "{}\n", "\r\n{}", "\t{}\r\n"])
def test_blanks_are_no_part_of_a_login_or_a_host(case: Case, around: str) -> None:
    given = {"host": "https://gw.example/", "login": fields_of(case)["login"]}

    changes: dict[str, Any] = {
        name: around.format(value) for name, value in given.items()
    }
    pasted = read(case, **changes)

    assert pasted == read(case, **given)


def test_blanks_are_no_part_of_other_addresses() -> None:
    proxies = {"https": " http://proxy.example:3128\n"}
    extra = {"ui_url": " https://ui.example\n", "proxies": proxies}
    account = read(AIRBYTE, extra, schema=" /oauth/token\n")

    assert account.ui_url == "https://ui.example"
    assert account.route.proxies == (("https", "http://proxy.example:3128"),)
    assert account.credentials.token_url.endswith("/oauth/token")


@pytest.mark.parametrize("account_id", [" 5\n", "5", 5])
def test_blanks_are_no_part_of_an_account_s_id(account_id: int | str) -> None:
    found = Connection(conn_id="c", **fields_of(DBT_CLOUD))

    assert DbtCloudHook(account_id=account_id).read(found).account_id == "5"


@pytest.mark.parametrize("field", ["login", "password"])
def test_blanks_are_no_part_of_an_encoded_key(field: str) -> None:
    key = b64encode(b"key:s3cret").decode()
    fields: dict[str, Any] = {"login": "", "password": "", field: f" {key} \n"}

    assert read(FIVETRAN, **fields).credentials.secret == key
