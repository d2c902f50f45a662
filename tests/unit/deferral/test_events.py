from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_triggers.deferral.errors import (
    AsyncTriggersException,
    ConnectionUnusable,
    EventUnusable,
    JobAlreadyRunning,
    VendorRefused,
    VendorUnavailable,
    translate,
)
from async_triggers.deferral.events import (
    Cancel,
    Kind,
    Outcome,
    Status,
    ended,
    from_payload,
    refusal,
    to_payload,
)
from async_triggers.engine.errors import (
    AccountMisconfigured,
    AlreadyRunning,
    CredentialsRejected,
    EngineError,
    JobNotFound,
    RateLimited,
    RequestRejected,
    Unreachable,
    UnreadableReply,
    VendorBroken,
)
from async_triggers.engine.jobs import Job, JobState

scalars = st.none() | st.booleans() | st.integers() | st.text() | st.floats(-1e9, 1e9)
jobs = st.builds(
    Job,
    id=st.text(),
    state=st.sampled_from(JobState),
    word=st.text(),
    label=st.text(),
    message=st.text(),
    url=st.text(),
    started_at=st.none() | st.text(),
    ended_at=st.none() | st.floats(0, 1e10),
    statistics=st.dictionaries(st.text(), scalars),
)
outcomes = st.builds(
    Outcome,
    status=st.sampled_from(Status),
    kind=st.sampled_from(Kind),
    job_id=st.text(),
    message=st.text(),
    job=st.none() | jobs,
    error=st.none() | st.text(),
    cancel=st.sampled_from(Cancel),
)
anything = st.recursive(
    scalars | st.just(math.nan),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
JOB = Job(id="1", state=JobState.SUCCEEDED, word="succeeded", statistics={"rows": 3})
PAYLOAD = to_payload(ended(JOB))


@given(outcomes)
def test_an_outcome_survives_the_database(outcome: Outcome) -> None:
    assert from_payload(json.loads(json.dumps(to_payload(outcome)))) == outcome


@given(anything)
def test_whatever_comes_is_read_or_refused(payload: object) -> None:
    with pytest.raises(EventUnusable):
        from_payload(payload)


@given(st.sampled_from(sorted(PAYLOAD)), anything)
def test_a_field_of_nonsense_is_read_or_refused(name: str, value: object) -> None:
    try:
        outcome = from_payload({**PAYLOAD, name: value})
    except EventUnusable:
        return

    assert isinstance(outcome, Outcome)


@given(st.sampled_from(sorted(PAYLOAD["job"])), anything)
def test_a_field_of_the_job_of_nonsense_is_read_or_refused(
    name: str, value: object
) -> None:
    try:
        outcome = from_payload({**PAYLOAD, "job": {**PAYLOAD["job"], name: value}})
    except EventUnusable:
        return

    assert isinstance(outcome.job, Job)


@pytest.mark.parametrize("name", sorted(PAYLOAD))
def test_a_field_that_is_missing_fails_closed(name: str) -> None:
    payload = {key: value for key, value in PAYLOAD.items() if key != name}

    with pytest.raises(EventUnusable):
        from_payload(payload)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_fails_closed_and_says_what_to_do(version: object) -> None:
    with pytest.raises(EventUnusable, match="same release on workers and triggerers"):
        from_payload({**PAYLOAD, "v": version})


def test_the_official_providers_event_is_none_of_ours() -> None:
    event = {"status": "success", "message": "Job run 1 has completed", "job_id": 1}

    with pytest.raises(EventUnusable):
        from_payload(event)


def test_an_id_may_come_as_the_number_that_it_is() -> None:
    assert from_payload({**PAYLOAD, "job_id": 42}).job_id == "42"


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        (JobState.SUCCEEDED, Status.SUCCESS, "succeeded"),
        (JobState.FAILED, Status.ERROR, "failed: no space left"),
        (JobState.CANCELLED, Status.CANCELLED, "was cancelled: no space left"),
    ],
)
def test_the_message_of_an_end_names_job_reason_and_address(
    state: JobState, status: Status, words: str
) -> None:
    reason = "" if state is JobState.SUCCEEDED else "no space left"
    job = Job(id="7", state=state, word="x", message=reason, url="https://ui/7")

    outcome = ended(job)

    assert outcome.status is status
    assert outcome.message == f"Job 7 {words}: https://ui/7"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CredentialsRejected("no"), ConnectionUnusable),
        (AccountMisconfigured("no"), ConnectionUnusable),
        (AlreadyRunning("no"), JobAlreadyRunning),
        (JobNotFound("no"), VendorRefused),
        (RequestRejected("no"), VendorRefused),
        (RateLimited("no"), VendorUnavailable),
        (Unreachable("no"), VendorUnavailable),
        (VendorBroken("no"), VendorUnavailable),
        (UnreadableReply("no"), VendorUnavailable),
    ],
)
def test_every_error_of_the_engine_has_one_of_airflows(
    error: EngineError, expected: type[AsyncTriggersException]
) -> None:
    translated = translate(error, "my_conn")

    assert type(translated) is expected
    assert "my_conn" in str(translated)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CredentialsRejected", ConnectionUnusable),
        ("AccountMisconfigured", ConnectionUnusable),
        ("JobNotFound", VendorRefused),
        (None, VendorRefused),
    ],
)
def test_a_refusal_tells_the_connection_from_the_job(
    name: str | None, expected: type[Exception]
) -> None:
    fields: dict[str, Any] = {"status": Status.ERROR, "kind": Kind.REFUSED}
    outcome = Outcome(job_id="1", message="no", error=name, **fields)

    assert type(refusal(outcome)) is expected
