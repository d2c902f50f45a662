"""What a task has met of its vendor, as a value."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from async_triggers.deferral.contact import (
    SAY_AGAIN,
    Endpoint,
    FirstContact,
    address_of,
)
from async_triggers.deferral.errors import ConnectionUnusable, VendorRefused
from async_triggers.engine.errors import (
    InBetween,
    Suspect,
    TransientError,
    Unreachable,
    VendorBroken,
)
from async_triggers.engine.wire import (
    Account,
    Belief,
    Budget,
    CredentialKind,
    Credentials,
    Route,
)
from async_triggers.provider_info import field_label

ACCOUNT = Account(
    vendor="Airbyte",
    base_url="http://airbyte.test/api/public/v1",
    credentials=Credentials(kind=CredentialKind.NONE),
    budget=Budget(requests=600, per=60.0),
)
ENDPOINT = Endpoint(
    vendor="Airbyte", conn_id="conn", conn_type="airbyte", account=ACCOUNT
)
KNOWN = address_of(ACCOUNT)
FRESH = FirstContact(known="")


def evidence(field: str = "host") -> TransientError:
    error = Unreachable("airbyte.test cannot be reached: Connection refused")
    error.suspect = Suspect(field, "nothing listens there")
    error.url = "http://airbyte.test/api/public/v1/connections/c"
    return error


def foreign() -> InBetween:
    return InBetween("no", status=418, excerpt="I am a teapot")


OUTAGE = VendorBroken("502")


def after(
    *tries: tuple[float, TransientError], of: FirstContact = FRESH
) -> FirstContact:
    for moment, error in tries:
        of = of.failed(error, ACCOUNT, since=moment, now=moment)

    return of


def verdict(contact: FirstContact, error: TransientError, now: float) -> Any:
    return ENDPOINT.verdict(contact, error, now=now)


def test_evidence_is_believed_after_its_time() -> None:
    contact = after((1000, evidence()), (1299, evidence()))

    assert verdict(contact, evidence(), 1299) is None
    failure = verdict(contact, evidence(), 1300)
    assert isinstance(failure, ConnectionUnusable)
    assert str(failure).endswith(
        "(connection 'conn'). Server URL (host): nothing listens there. Requested:"
        " http://airbyte.test/api/public/v1/connections/c"
    )


@pytest.mark.parametrize("breaking", [OUTAGE, foreign()])
def test_anything_else_is_a_break(breaking: TransientError) -> None:
    contact = after((0, evidence()), (200, breaking), (210, evidence()))

    assert verdict(contact, evidence(), 509) is None
    assert verdict(contact, evidence(), 510) is not None


def test_an_outage_is_never_believed() -> None:
    contact = after(*((moment, OUTAGE) for moment in range(0, 100_000, 60)))

    assert verdict(contact, OUTAGE, 100_000) is None
    assert contact.believed_at(ACCOUNT) is None


@pytest.mark.parametrize(
    ("known", "is_believed"),
    [("", True), ("another", True), (KNOWN, False), (None, False)],
)
def test_what_has_worked_is_an_outage(known: str | None, *, is_believed: bool) -> None:
    contact = after((0, evidence()), (900, evidence()), of=FirstContact(known=known))

    assert (verdict(contact, evidence(), 900) is not None) is is_believed


def test_a_host_that_nobody_has_typed_is_not_wrong() -> None:
    account = replace(ACCOUNT, host_is_typed=False)
    contact = FRESH.failed(evidence(), account, since=0, now=0)

    assert contact.evidence_since is None


@pytest.mark.parametrize("is_typed", [True, False])
def test_a_proxy_is_as_typed_as_its_field(*, is_typed: bool) -> None:
    route = Route(proxies=(("https", "http://proxy.test"),) if is_typed else ())
    account = replace(ACCOUNT, host_is_typed=not is_typed, route=route)
    contact = FRESH.failed(evidence("extra.proxies"), account, since=0, now=0)

    assert (contact.evidence_since == 0) is is_typed


def test_only_the_time_between_foreign_answers_counts() -> None:
    account = replace(ACCOUNT, belief=Belief(in_between=100))
    contact = after(
        (0, foreign()),
        (60, foreign()),
        (70, OUTAGE),
        (5000, foreign()),
        (5030, foreign()),
    )

    assert contact.in_between == 90
    assert not contact.is_cut_off(account)
    contact = after((5040, foreign()), of=contact)
    assert contact.is_cut_off(account)
    assert not after((6000, OUTAGE), of=contact).is_cut_off(account)
    assert not contact.is_cut_off(replace(ACCOUNT, belief=Belief(in_between=0)))
    assert contact.answered(account).in_between == 0


def test_the_end_of_foreign_answers_is_told_in_their_words() -> None:
    contact = after((0, foreign()), (21_600, foreign()))
    failure = verdict(contact, foreign(), 21_600)

    assert type(failure) is VendorRefused
    assert str(failure) == (
        "Something between Airflow and Airbyte refuses every request: 418,"
        " I am a teapot (connection 'conn'). Search for this answer at the proxies,"
        " gateways and firewalls on the way"
    )


def test_a_refusal_is_believed_after_its_time_and_three_checks() -> None:
    once = FRESH.refused(since=0, is_of_account=False)
    twice, thrice = (
        once.refused(since=200, is_of_account=False),
        once.refused(since=1, is_of_account=False).refused(
            since=2, is_of_account=False
        ),
    )

    assert not once.believes(ACCOUNT, now=1000)
    assert not twice.believes(ACCOUNT, now=1000)
    assert not thrice.believes(ACCOUNT, now=299)
    assert thrice.believes(ACCOUNT, now=300)
    assert thrice.answered(ACCOUNT).believes(ACCOUNT, now=300)
    assert not thrice.settled().believes(ACCOUNT, now=300)


@pytest.mark.parametrize("error", [OUTAGE, foreign(), evidence()])
def test_the_time_before_a_try_without_an_answer_is_no_doubt(
    error: TransientError,
) -> None:
    contact = FRESH
    for moment in (0, 60, 120):
        contact = contact.refused(since=moment, is_of_account=False)

    contact = after(*((moment, error) for moment in range(180, 4000, 60)), of=contact)
    assert contact.believed_at(ACCOUNT) == 3960 + 180
    contact = contact.refused(since=4020, is_of_account=False)
    assert not contact.believes(ACCOUNT, now=4020)
    assert not contact.believes(ACCOUNT, now=4139)
    assert contact.believes(ACCOUNT, now=4140)
    assert contact.answered(ACCOUNT).believes(ACCOUNT, now=4140)


def test_a_clock_that_is_set_back_takes_nothing_off_a_doubt() -> None:
    contact = FRESH.refused(since=1000, is_of_account=False)

    assert after((500, OUTAGE), of=contact).doubted_since == 1000


def test_a_doubt_of_the_account_ends_with_any_good_answer() -> None:
    contact = FRESH
    for moment in (0, 60, 300):
        contact = contact.refused(since=moment, is_of_account=True)

    assert contact.believes(ACCOUNT, now=300)
    assert contact.answered(ACCOUNT) == FirstContact(known=KNOWN)
    of_job = contact.refused(since=360, is_of_account=False).answered(ACCOUNT)
    assert of_job.believes(ACCOUNT, now=360)


@pytest.mark.parametrize("doubt", [0.0, 10.0, 300.0, 3600.0])
def test_the_waits_leave_time_for_three_checks_and_end_in_time(doubt: float) -> None:
    account = replace(ACCOUNT, belief=Belief(doubt=doubt))
    contact, now = FRESH, 0.0
    while True:
        contact = contact.refused(since=now, is_of_account=False)
        if contact.believes(account, now=now):
            break

        now += contact.wait(60, account, now=now)

    assert doubt <= now <= max(doubt + 5, 10)


def test_the_last_check_of_evidence_comes_in_time() -> None:
    contact = after((0, evidence()), (270, evidence()))

    assert contact.wait(60, ACCOUNT, now=270) == 30
    assert contact.wait(60, ACCOUNT, now=100) == 60
    assert after((0, OUTAGE)).wait(60, ACCOUNT, now=270) == 60


def test_the_log_says_it_at_first_and_every_ten_minutes() -> None:
    assert FRESH.must_report(OUTAGE, now=0)
    said = FRESH.reported(OUTAGE, now=0)
    assert not said.must_report(OUTAGE, now=SAY_AGAIN - 1)
    assert said.must_report(OUTAGE, now=SAY_AGAIN)
    assert said.must_report(evidence(), now=60)
    assert not said.reported(evidence(), now=60).must_report(evidence(), now=120)


def test_it_crosses_a_deferral_as_json() -> None:
    contact = after((0, foreign()), (60, evidence())).reported(OUTAGE, now=2)
    contact = contact.refused(since=1, is_of_account=False)

    assert FirstContact.from_json(json.loads(json.dumps(contact.to_json()))) == contact


@pytest.mark.parametrize("value", [None, {}, [], {"known": ""}, "x"])
def test_what_is_none_of_it_is_a_new_one(value: object) -> None:
    assert FirstContact.from_json(value) == FirstContact()


def test_the_address_tells_vendors_and_hosts_apart_and_no_more() -> None:
    assert address_of(replace(ACCOUNT, account_id="1")) == KNOWN
    assert address_of(replace(ACCOUNT, vendor="Fivetran")) != KNOWN
    assert address_of(replace(ACCOUNT, base_url="http://other")) != KNOWN


@pytest.mark.parametrize(
    ("conn_type", "field", "label"),
    [
        ("airbyte", "host", "Server URL (host)"),
        ("airbyte", "schema", "Token URL (schema)"),
        ("airbyte", "extra.ca_bundle", "CA bundle (extra.ca_bundle)"),
        ("dbt_cloud", "host", "Tenant (host)"),
        ("fivetran", "host", "host"),
        ("Fivetran", "password", "API Secret (password)"),
        ("", "host", "host"),
        ("airbyte", "extra.nothing", "extra.nothing"),
    ],
)
def test_a_field_is_called_as_the_form_and_as_airflow_calls_it(
    conn_type: str, field: str, label: str
) -> None:
    assert field_label(conn_type, field) == label
