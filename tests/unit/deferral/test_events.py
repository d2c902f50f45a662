from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.compat import AirflowSkipException
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
    not_started,
    progress_of,
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
    summary=st.dictionaries(st.text(), scalars),
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "ended"),
        ("kind", "success"),
        ("cancel", None),
        ("message", None),
        ("job_id", None),
        ("job_id", True),
        ("job_id", 4.2),
        ("error", 404),
        ("job", "1"),
    ],
)
def test_a_field_of_another_type_fails_closed(name: str, value: object) -> None:
    with pytest.raises(EventUnusable, match="is malformed"):
        from_payload({**PAYLOAD, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", 1),
        ("state", "ended"),
        ("word", None),
        ("label", None),
        ("message", None),
        ("url", None),
        ("started_at", 1_774_402_200),
        ("ended_at", "today"),
        ("statistics", ["rows"]),
        ("statistics", {"rows": [3]}),
        ("summary", ["rows"]),
    ],
)
def test_a_field_of_the_job_of_another_type_fails_closed(
    name: str, value: object
) -> None:
    with pytest.raises(EventUnusable, match="is malformed"):
        from_payload({**PAYLOAD, "job": {**PAYLOAD["job"], name: value}})


def test_a_job_without_a_summary_takes_no_place_for_one() -> None:
    assert "summary" not in PAYLOAD["job"]
    assert from_payload(PAYLOAD).job == JOB


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

    with pytest.raises(EventUnusable, match=r"not from this package.*at the vendor"):
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


@pytest.mark.parametrize(
    "expected",
    [
        ArgumentUnusable,
        ConnectionUnusable,
        JobAlreadyRunning,
        VendorRefused,
        VendorUnavailable,
    ],
)
def test_what_was_not_started_fails_as_on_a_worker(
    expected: type[AsyncTriggersException],
) -> None:
    outcome = not_started(expected("no"))

    assert (outcome.status, outcome.kind) == (Status.ERROR, Kind.NOT_STARTED)
    assert (outcome.job_id, outcome.job) == ("", None)
    assert type(refusal(outcome)) is expected
    assert str(refusal(outcome)) == "no"


def test_an_error_of_another_package_is_a_refusal() -> None:
    assert type(refusal(not_started(RuntimeError("no")))) is VendorRefused


def test_a_start_that_is_skipped_skips_the_task() -> None:
    outcome = not_started(AirflowSkipException("it runs already"))

    assert (outcome.status, outcome.kind) == (Status.SKIPPED, Kind.NOT_STARTED)
    assert type(refusal(outcome)) is AirflowSkipException
    assert str(refusal(outcome)) == "it runs already"


@pytest.mark.parametrize(
    ("started_at", "at", "since", "words"),
    [
        ("2026-03-25T01:30:00Z", 1_774_403_040.0, None, " (3 rows, 14 min)"),
        ("2026-03-25T01:30:00Z", 1_774_403_040.0, 0.0, " (3 rows, 14 min)"),
        (None, 1_774_403_040.0, 1_774_402_980.0, " (3 rows, 1 min)"),
        ("2026-03-25T01:30:00Z", None, None, " (3 rows)"),
        (None, 1_774_403_040.0, None, " (3 rows)"),
    ],
)
def test_how_far_a_job_is(
    started_at: str | None, at: float | None, since: float | None, words: str
) -> None:
    fields: dict[str, Any] = {"state": JobState.RUNNING, "word": "running"}
    job = Job(id="7", started_at=started_at, amounts=("3 rows",), **fields)

    assert progress_of(job, at, since) == words


def test_of_a_job_that_shows_nothing_there_is_nothing_to_say() -> None:
    job = Job(id="7", state=JobState.RUNNING, word="running")

    assert progress_of(job, 1_774_403_040.0) == ""


def test_the_message_of_an_end_says_how_much_and_for_how_long() -> None:
    job = Job(
        id="7",
        state=JobState.FAILED,
        word="failed",
        started_at="2026-03-25T01:30:00Z",
        ended_at=1_774_402_245.0,
        message="see https://docs/full.",
        amounts=("3 rows",),
    )

    assert ended(job).message == "Job 7 failed (3 rows, 45 s): see https://docs/full ."
