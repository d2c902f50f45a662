"""Whose answer is it? Look-alikes of each vendor's refusals, beside the real ones."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from async_triggers.airbyte.api.vendor import AIRBYTE
from async_triggers.dbt_cloud.api.vendor import DBT_CLOUD
from async_triggers.engine.answers import classify
from async_triggers.engine.errors import (
    AlreadyRunning,
    CredentialsRejected,
    EngineError,
    InBetween,
    JobNotFound,
    PermanentError,
    RateLimited,
    RequestRejected,
    VendorBroken,
)
from async_triggers.engine.http import HttpSession
from async_triggers.engine.limiter import Limiter
from async_triggers.engine.transport import Transport
from async_triggers.engine.wire import Lane, Reply, Request, Vendor
from tests.unit.engine.fake import an_account
from tests.vendors import VENDORS

JSON = {"content-type": "application/json"}
PROBLEM = {"content-type": "application/problem+json"}
HTML = {"content-type": "text/html"}
TEXT = {"content-type": "text/plain"}
POLL = Request(method="GET", path="/jobs/5", about="job 5")
START = Request(method="POST", path="/jobs", about="a sync", lane=Lane.START)
TOKEN = Request(
    method="POST",
    path="/token",
    about="an access token",
    authorized=False,
    note="token",
)
BY_NAME = {entry.name: entry.vendor for entry in VENDORS}
ERRORS = "https://reference.airbyte.com/reference/errors"


def answer(status: int, body: object, headers: dict[str, str] | None = None) -> Reply:
    text = body if isinstance(body, str) else json.dumps(body)
    kind = headers or (JSON if not isinstance(body, str) else TEXT)
    return Reply(status, kind, text.encode(), "https://host.test/api/jobs/5")


def envelope(code: object, **changes: Any) -> dict[str, Any]:
    status = {
        "code": code,
        "is_success": False,
        "user_message": "No.",
        "developer_message": "",
    }
    return {"status": {**status, **changes}, "data": None}


OWN: dict[str, list[tuple[Request, int, object, type[EngineError]]]] = {
    "airbyte": [
        (POLL, 401, {"type": f"{ERRORS}#invalid-api-key"}, CredentialsRejected),
        (POLL, 404, {"type": f"{ERRORS}#resource-not-found"}, JobNotFound),
        (POLL, 403, {"type": f"{ERRORS}#forbidden"}, JobNotFound),
        (POLL, 400, {"type": f"{ERRORS}#bad-request"}, RequestRejected),
        (POLL, 404, {"type": ERRORS}, JobNotFound),
        (START, 409, {"type": f"{ERRORS}#try-again-later"}, AlreadyRunning),
        (START, 403, {"type": "error:auth/sso-required"}, RequestRejected),
        (START, 422, {"type": "https://docs.airbyte.com/x#limits"}, RequestRejected),
        (
            TOKEN,
            401,
            {"error": "invalid_client", "error_description": "Invalid client"},
            CredentialsRejected,
        ),
        (POLL, 408, {"type": "error:request-timeout-exceeded"}, VendorBroken),
    ],
    "fivetran": [
        (POLL, 401, {"code": "AuthFailed", "message": "No."}, CredentialsRejected),
        (POLL, 404, {"code": "NotFound_Connector", "message": "No."}, JobNotFound),
        (POLL, 403, {"code": "Forbidden", "message": "No."}, RequestRejected),
        (START, 400, {"code": "InvalidInput", "message": "No."}, RequestRejected),
        (START, 409, {"code": "IllegalState", "message": "No."}, AlreadyRunning),
    ],
    "dbt_cloud": [
        (POLL, 401, envelope(401), CredentialsRejected),
        (POLL, 404, envelope(404), JobNotFound),
        (START, 403, envelope(403), RequestRejected),
        (START, 400, envelope(400), RequestRejected),
    ],
}


@pytest.mark.parametrize(
    ("name", "request_", "status", "body", "kind"),
    [(name, *row) for name, rows in OWN.items() for row in rows],
)
def test_the_vendors_own_refusals(
    name: str, request_: Request, status: int, body: object, kind: type[EngineError]
) -> None:
    error = classify(BY_NAME[name], request_, answer(status, body))
    assert type(error) is kind


# What gateways, ingresses, meshes, frameworks and other vendors answer by themselves.
FOREIGN: list[tuple[str, int, object, dict[str, str] | None]] = [
    ("Go's router", 404, "404 page not found\n", TEXT),
    ("nginx", 403, "<html><head><title>403 Forbidden</title></head></html>", HTML),
    ("a page without a type", 401, "  <!DOCTYPE html><h1>Log in</h1>", {}),
    ("nothing at all", 404, "", {}),
    ("an API gateway", 401, {"message": "Unauthorized"}, None),
    ("another gateway", 403, {"message": "no Route matched", "request_id": "1"}, None),
    (
        "RFC 7807",
        404,
        {"type": "about:blank", "title": "Not Found", "status": 404},
        PROBLEM,
    ),
    (
        "a framework's problem",
        401,
        {"type": "https://tools.ietf.org/html/rfc9110#section-15.5.2", "title": "No"},
        PROBLEM,
    ),
    (
        "a problem from another host",
        404,
        {"type": "https://errors.example.com/reference/errors#resource-not-found"},
        PROBLEM,
    ),
    (
        "Airbyte's words with another host in front",
        404,
        {"type": "https://proxy.example.com/?u=https://docs.airbyte.com/"},
        None,
    ),
    (
        "Kubernetes",
        404,
        {
            "kind": "Status",
            "status": "Failure",
            "message": "not found",
            "reason": "NotFound",
            "code": 404,
        },
        None,
    ),
    ("a code that is a number", 401, {"code": 401, "message": "Unauthorized"}, None),
    ("a code in capitals", 403, {"code": "ACCESS_DENIED", "message": "No."}, None),
    ("a code that is digits", 404, {"code": "404", "message": "Not found"}, None),
    ("a code without a message", 404, {"code": "NotFound"}, None),
    ("an envelope of another status", 404, envelope(200), None),
    ("an envelope that says success", 404, envelope(404, is_success=True), None),
    ("an envelope with a text", 401, {"status": "error", "message": "denied"}, None),
    (
        "Google",
        401,
        {"error": {"code": 401, "message": "No.", "status": "UNAUTHENTICATED"}},
        None,
    ),
    ("a list of errors", 403, {"error": ["denied"], "error_description": "x"}, None),
    ("an OAuth error without words", 401, {"error": "invalid_client"}, None),
    ("a list", 404, [{"type": f"{ERRORS}#forbidden"}], None),
    ("cut JSON", 404, '{"type": "https://reference.airbyte.com/ref', JSON),
    ("a timeout", 408, {"message": "Request Timeout"}, None),
    ("a misdirected request", 421, "Misdirected Request", TEXT),
    ("too early", 425, "Too Early", TEXT),
    ("a teapot", 418, "I'm a teapot", TEXT),
    ("proxy credentials", 407, "<html>proxy</html>", HTML),
    ("a payment page", 402, "<html>pay</html>", HTML),
    ("a log-in page", 302, "", {"location": "https://sso.example.com/login?next=x"}),
    ("the same host", 307, "", {"location": "/api/jobs/5/"}),
]


@pytest.mark.parametrize("vendor", BY_NAME.values(), ids=BY_NAME)
@pytest.mark.parametrize("asked", [POLL, START, TOKEN], ids=["poll", "start", "token"])
@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [row[1:] for row in FOREIGN],
    ids=[row[0] for row in FOREIGN],
)
def test_foreign_answers_are_in_between(
    vendor: Vendor,
    asked: Request,
    status: int,
    body: object,
    headers: dict[str, str] | None,
) -> None:
    error = classify(vendor, asked, answer(status, body, headers))

    assert type(error) is InBetween
    assert error.status == status
    assert str(status) in error.message or status == 407
    # A start behind it may have worked.
    assert error.ambiguous
    assert len(error.excerpt) <= 125


@pytest.mark.parametrize("vendor", BY_NAME.values(), ids=BY_NAME)
@pytest.mark.parametrize("body", [{"message": "slow down"}, "Too many", "<html>"])
def test_a_429_is_one_whoever_sent_it(vendor: Vendor, body: object) -> None:
    assert type(classify(vendor, POLL, answer(429, body))) is RateLimited


@pytest.mark.parametrize("vendor", BY_NAME.values(), ids=BY_NAME)
@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 599])
def test_a_5xx_is_an_outage_whoever_sent_it(vendor: Vendor, status: int) -> None:
    error = classify(vendor, POLL, answer(status, "<html>Bad Gateway</html>", HTML))
    assert type(error) is VendorBroken
    assert error.suspect is None


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("airbyte", {"jobId": 1, "status": "running"}),
        ("airbyte", {"previous": "", "next": "", "data": []}),
        ("airbyte", {"name": "x", "connectionId": "y", "status": "active"}),
        ("fivetran", {"code": "Success", "data": {"id": "x"}}),
        ("fivetran", {"data": {"items": []}, "code": "Success"}),
        ("dbt_cloud", {"status": {"code": 200, "is_success": True}, "data": []}),
        ("dbt_cloud", {"data": {"id": 1}, "status": {"code": 200}}),
    ],
)
def test_the_vendors_own_successes(name: str, body: object) -> None:
    assert BY_NAME[name].is_own_answer(POLL, answer(200, body))


@pytest.mark.parametrize("vendor", BY_NAME.values(), ids=BY_NAME)
@pytest.mark.parametrize(
    "body",
    [
        "OK",
        "",
        "[]",
        "null",
        "<html>Log in</html>",
        {"status": "ok"},
        {"message": "up"},
        {"data": None},
        {"data": {}},
        {"data": "x", "code": 200},
        {"code": 200, "data": {"id": 1}},
        {"jobId": None},
        {"connectionId": ""},
    ],
)
def test_a_success_of_something_else_proves_nothing(
    vendor: Vendor, body: object
) -> None:
    assert not vendor.is_own_answer(POLL, answer(200, body))


def test_a_long_answer_is_known_by_its_beginning() -> None:
    rows = {"data": [{"id": each} for each in range(2000)], "status": {"code": 200}}
    assert DBT_CLOUD.is_own_answer(POLL, answer(200, rows))
    assert not DBT_CLOUD.is_own_answer(POLL, answer(200, {"data": "x" * 10_000}))
    page = {"data": [{"jobId": each} for each in range(2000)]}
    assert AIRBYTE.is_own_answer(POLL, answer(200, page))


def test_an_artifact_has_no_envelope() -> None:
    asked = replace(POLL, path="/accounts/1/runs/5/artifacts/manifest.json")
    assert DBT_CLOUD.is_own_answer(asked, answer(200, {"nodes": {}}))
    assert not DBT_CLOUD.is_own_answer(asked, answer(200, "<html>"))


@pytest.mark.parametrize(
    ("body", "is_locked"),
    [
        ({"error": "invalid_client", "error_description": "x"}, True),
        ({"error": "invalid_grant", "error_description": "Account locked"}, True),
        ({"error": "invalid_grant", "error_description": "The user is locked"}, True),
        ({"error": "invalid_grant", "error_description": "Your IP is blocked"}, False),
        ({"error": "invalid_grant", "error_description": "unlocked"}, False),
    ],
)
def test_a_locked_client(body: object, *, is_locked: bool) -> None:
    error = classify(AIRBYTE, TOKEN, answer(401, body))
    assert isinstance(error, CredentialsRejected)
    assert error.is_locked is is_locked


@pytest.mark.parametrize("name", BY_NAME)
def test_one_vendors_refusal_is_not_anothers(name: str) -> None:
    for other, rows in OWN.items():
        for request_, status, body, _ in rows:
            if other == name:
                continue

            error = classify(BY_NAME[name], request_, answer(status, body))
            assert not isinstance(error, PermanentError), (other, body)


@pytest.mark.parametrize(
    ("status", "body", "headers", "said"),
    [
        (404, "404 page not found", TEXT, "answers 404 there"),
        (401, {"message": "no"}, None, "answers 401 there"),
        (403, "<html>", HTML, "there is a web page"),
        (302, "", {"location": "https://sso.test/login"}, "https://sso.test"),
        (301, "", {"location": "http://host.test/api/jobs/5"}, "http://host.test"),
        (
            400,
            "Client sent an HTTP request to an HTTPS server.",
            TEXT,
            "write https instead of http",
        ),
        (302, "", {"location": "/elsewhere"}, None),
        (302, "", {"location": "https://HOST.test:443/login"}, None),
        (302, "", {"location": "https://host.test:99999/login"}, None),
        (302, "", {"location": "https://host.test:8443/login"}, "host.test:8443"),
        (302, "", {}, None),
        (400, {"message": "Bad Request"}, None, None),
        (408, "Request Timeout", TEXT, None),
        (421, "Misdirected", TEXT, None),
    ],
)
def test_evidence_of_a_wrong_address(
    status: int, body: object, headers: dict[str, str] | None, said: str | None
) -> None:
    error = classify(AIRBYTE, POLL, answer(status, body, headers))

    if said is None:
        assert error.suspect is None
    else:
        assert error.suspect is not None
        assert error.suspect.field == "host"
        assert said in error.suspect.fix


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("\x1b[31mred\x1b[0m \x07 \r\n line\0", "[31mred[0m line"),
        ("\x9b31mred \x1b]0;title\x07 end", "31mred ]0;title end"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}evil\N{LINE SEPARATOR}line", "evil line"),
        ("a\tb\x85c \x7f \ue000 é\U0001f600", "a b c é\U0001f600"),
        ("\x1b" * 500 + "late", "late"),
    ],
    ids=range(5),
)
def test_an_excerpt_commands_no_terminal(body: str, said: str) -> None:
    error = classify(AIRBYTE, POLL, answer(403, body, TEXT))

    assert isinstance(error, InBetween)
    assert error.excerpt == said
    assert error.message.endswith(said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "<title>403 Gone</title>\r\n<hr><h1>403 Gone</h1><hr>nginx",
            "a page that says: 403 Gone nginx",
        ),
        ("<p>You don&#39;t have <b>access</b>", "You don't have access"),
        (
            "<style>p { top: 0 }</style><p>No<script>go()</script> entry",
            "says: No entry",
        ),
        ("<title>Denied</title><div class='a", "a page that says: Denied"),
        ("<title>Denied</title><!-- why", "a page that says: Denied"),
        ("</style></p><p>Denied</p>", "a page that says: Denied"),
        ("<html><body></body></html>", ", a page"),
        (f"<p>{'long ' * 2000}", "a page that says: long long"),
    ],
    ids=range(8),
)
def test_of_a_page_a_message_repeats_what_a_person_reads(body: str, said: str) -> None:
    error = classify(AIRBYTE, POLL, answer(403, body, HTML))

    assert isinstance(error, InBetween)
    assert said in error.message
    assert "<" not in error.message
    assert len(error.excerpt) <= 125


def test_a_page_that_wants_credentials_is_the_proxys() -> None:
    error = classify(AIRBYTE, POLL, answer(407, "<html>", HTML))

    assert error.suspect is not None
    assert error.suspect.field == "extra.proxies"


@pytest.mark.parametrize(
    ("location", "fix"),
    [
        (
            "http://host.test/api/jobs/5",
            "the server redirects to http: write http, and",
        ),
        ("http://gw.test/new/api/jobs/5", "write the address gw.test that"),
        ("http://user:secret@gw.test:81/", "write the address gw.test:81 that"),
        ("https://gw.test/api/jobs/5", "write the address https://gw.test that"),
    ],
)
def test_a_redirect_to_http_is_no_advice_to_write_what_is_read_as_https(
    location: str, fix: str
) -> None:
    reply = answer(302, "", {"location": location})

    suspect = classify(DBT_CLOUD, POLL, reply, is_always_https=True).suspect

    assert suspect is not None
    assert suspect.fix.startswith(fix)
    assert ("extra.insecure_http" in suspect.fix) == ("http://host.test" in location)


def test_a_redirect_to_a_login_page_is_no_advice_to_write_its_address() -> None:
    reply = answer(302, "", {"location": "https://sso.test/login?client_id=gateway"})

    suspect = classify(AIRBYTE, POLL, reply).suspect

    assert suspect is not None
    assert suspect.fix == (
        "requests are redirected to another page, at https://sso.test : enter the API's"
        " address, or let requests to the API pass without a login"
    )


def test_a_redirect_to_http_is_followed_by_hand_where_http_is_obeyed() -> None:
    reply = answer(302, "", {"location": "http://host.test/api/jobs/5"})

    suspect = classify(AIRBYTE, POLL, reply).suspect

    assert suspect is not None
    assert suspect.fix.startswith("write the address http://host.test that")


@pytest.mark.asyncio
async def test_the_transport_says_whether_http_is_obeyed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def redirected(_: object, request: Request, proof: object) -> Reply:
        return answer(302, "", {"location": "http://host.test/api/jobs/5"})

    monkeypatch.setattr(HttpSession, "exchange", redirected)
    account = an_account(base_url="https://host.test", is_always_https=True)
    transport = Transport(DBT_CLOUD, account, Limiter(account.budget))

    with pytest.raises(InBetween) as caught:
        await transport.send(POLL)

    assert caught.value.suspect is not None
    assert "extra.insecure_http" in caught.value.suspect.fix
