from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_triggers.dbt_cloud.api.vendor import DbtCloud
from async_triggers.deferral.record import (
    CLOCKS_DIFFER,
    MOST_ATTEMPTS,
    Intent,
    Next,
    Record,
    Unsettled,
    decide,
    earlier_clock,
    read_record,
    read_unsettled,
)
from async_triggers.engine.jobs import Job, JobState

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
records = st.builds(
    Record,
    fingerprint=st.text(),
    max_tries=st.integers(0, 99),
    try_number=st.integers(0, 99),
    job_id=st.none() | st.text(),
    owned=st.booleans(),
    killed=st.booleans(),
    intent=st.builds(
        Intent,
        at=st.none() | st.floats(0, 1e10),
        baseline=st.text(),
        sent_at=st.none() | st.floats(0, 1e10),
        marker=st.text(),
        retry_of=st.text(),
    ),
)
WRITTEN = Record(fingerprint="f", max_tries=2, job_id="1").to_json()


def a_record(job_id: str | None = "1", **changes: object) -> Record:
    fields: dict[str, object] = {"fingerprint": "same", "max_tries": 2, **changes}
    return Record(job_id=job_id, **fields)  # type: ignore[arg-type]


@given(records)
def test_a_record_survives_the_store(record: Record) -> None:
    assert read_record(json.loads(json.dumps(record.to_json()))) == record


@given(anything)
def test_what_is_no_record_is_none(value: object) -> None:
    assert read_record(value) is None


@given(st.sampled_from(sorted(WRITTEN)), anything)
def test_a_field_of_nonsense_is_read_or_none(name: str, value: object) -> None:
    record = read_record({**WRITTEN, name: value})

    assert record is None or isinstance(record, Record)


@pytest.mark.parametrize("name", sorted(set(WRITTEN) - {"intent", "try_number"}))
def test_a_record_that_lacks_a_field_is_none(name: str) -> None:
    value = {key: field for key, field in WRITTEN.items() if key != name}

    assert read_record(value) is None


def test_a_record_of_before_the_number_of_the_try_is_of_no_try() -> None:
    value = {key: field for key, field in WRITTEN.items() if key != "try_number"}

    assert read_record(value) == Record(fingerprint="f", max_tries=2, job_id="1")


@pytest.mark.parametrize(
    ("record", "step"),
    [
        pytest.param(None, Next.START, id="the first attempt"),
        pytest.param(a_record(), Next.REATTACH, id="a retry, or a crash"),
        pytest.param(a_record(owned=False), Next.REATTACH, id="a retry, attached"),
        pytest.param(a_record(fingerprint="x"), Next.LEAVE, id="other arguments"),
        pytest.param(a_record(max_tries=5), Next.SUPERSEDE, id="cleared"),
        pytest.param(
            a_record(max_tries=5, fingerprint="x"),
            Next.SUPERSEDE,
            id="cleared, with other arguments",
        ),
        pytest.param(a_record(killed=True), Next.SUPERSEDE, id="stopped on a worker"),
        pytest.param(
            a_record(max_tries=5, owned=False), Next.START, id="cleared, attached"
        ),
        pytest.param(a_record(None), Next.FIND, id="a start without an answer"),
        pytest.param(
            a_record(None, max_tries=5), Next.FIND, id="cleared, without an answer"
        ),
        pytest.param(
            a_record(None, fingerprint="x"),
            Next.START,
            id="without an answer, other arguments",
        ),
        pytest.param(
            a_record(None, fingerprint="x", try_number=3),
            Next.FIND,
            id="without an answer, and this try renders other arguments",
        ),
        pytest.param(
            a_record(fingerprint="x", try_number=3),
            Next.REATTACH,
            id="the job of this try, which renders other arguments",
        ),
        pytest.param(a_record(ended="failed"), Next.AFTER, id="its job has failed"),
        pytest.param(
            a_record(ended="failed", fingerprint="x"),
            Next.START,
            id="its job has failed, other arguments",
        ),
        pytest.param(
            a_record(ended="failed", max_tries=5),
            Next.START,
            id="its job has failed, cleared",
        ),
    ],
)
def test_what_an_attempt_does_first(record: Record | None, step: Next) -> None:
    found = decide(record, fingerprint="same", max_tries=2, try_number=3)

    assert found is step


@pytest.mark.parametrize(
    ("at", "sent_at", "server_now", "now", "age"),
    [
        pytest.param(1000, 1000, 1030, 1030, 30, id="both agree"),
        pytest.param(1003, 1000, 1030, 1030, 27, id="the server's, if they nearly do"),
        pytest.param(4600, 1000, 1030, 1030, 30, id="the first answer was ahead"),
        pytest.param(1000, 1000, 4630, 1030, 30, id="the second answer is ahead"),
        pytest.param(1000, 4600, 1100, 1100, 100, id="our clock was ahead"),
        pytest.param(1000, 1100.5, 1100, 1100, 100, id="our clock was barely ahead"),
        pytest.param(None, 1000, 1030, 1030, 30, id="no time at first"),
        pytest.param(1000, 1000, None, 1030, 30, id="no time now"),
        pytest.param(None, 4600, 1030, 1030, 0, id="no time, and our clock was ahead"),
        pytest.param(1000, None, None, 1030, math.inf, id="nothing to go by"),
        pytest.param(1000, 1010, 1110, 1110, 110, id="they differ little, after long"),
        pytest.param(1000, 1060, 1090, 1090, 90, id="by as much as they may"),
        pytest.param(1000, 1061, 1090, 1090, 29, id="by more than they may"),
        pytest.param(1000, 1030, 1100, 1030, 0, id="our clock has stood still"),
    ],
)
def test_how_long_ago_a_start_was_sent(
    at: float | None,
    sent_at: float | None,
    server_now: float | None,
    now: float,
    age: float,
) -> None:
    assert Intent(at=at, sent_at=sent_at).age(server_now=server_now, now=now) == age


@pytest.mark.parametrize(
    ("server_now", "now", "earlier"),
    [(1000, 2000, 1000), (2000, 1000, 1000), (None, 1000, None)],
)
def test_the_earlier_of_two_clocks(
    server_now: float | None, now: float, earlier: float | None
) -> None:
    assert earlier_clock(server_now, now) == earlier


@pytest.mark.parametrize(
    ("at", "sent_at", "began", "now", "is_followed"),
    [
        pytest.param(1000, 1000, None, 1060, True, id="just sent"),
        pytest.param(1000, 1000, None, 1061, False, id="sent long ago"),
        pytest.param(1000, 1000, 1060, 9999, True, id="began soon"),
        pytest.param(1000, 1000, 1061, 9999, False, id="began late"),
        pytest.param(1000, 1200, 1061, 9999, False, id="late by the server's time"),
        pytest.param(1200, 1000, 1061, 9999, False, id="late by ours"),
        pytest.param(None, 1000, 1060, 9999, True, id="soon, by ours alone"),
        pytest.param(1000, None, 1060, 9999, True, id="soon, by the server's alone"),
        pytest.param(None, None, 1000, 9999, False, id="sent at an unknown time"),
    ],
)
def test_which_job_may_have_come_of_a_start(
    at: float | None,
    sent_at: float | None,
    began: float | None,
    now: float,
    *,
    is_followed: bool,
) -> None:
    intent = Intent(at=at, sent_at=sent_at)

    found = intent.is_followed_by(began, within=60, server_now=now, now=now)

    assert found is is_followed


def test_an_intent_is_named_by_what_it_is_found_by() -> None:
    """The name stands in the owner tokens of tasks that wait."""
    assert Intent(at=7.0, baseline="job 1").name == "sought: 7.0 job 1"
    assert Intent(at=7.0, marker="a mark").name == "sought: 7.0 a mark"


@pytest.mark.parametrize(
    ("url", "shown"), [("https://ui/7", "https://ui/7"), ("", "https://ui")]
)
def test_an_intent_is_completed_with_its_job(url: str, shown: str) -> None:
    job = Job(id="7", state=JobState.RUNNING, word="running", url=url)

    record = a_record(None, url="https://ui").with_job(job, owned=False)

    assert record == a_record("7", url=shown, owned=False)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (
            a_record(None),
            "A start was not answered, a run may be running; a retry looks for it",
        ),
        (a_record(), "Run 1 may still be running; a retry checks it again"),
        (
            a_record(url="https://ui/1"),
            "Run 1 may still be running; a retry checks it again: https://ui/1",
        ),
        (a_record(ended="failed"), ""),
    ],
)
def test_what_a_task_that_gives_up_leaves_behind(record: Record, words: str) -> None:
    assert record.fate(DbtCloud()) == words


unsettled = st.builds(
    Unsettled,
    at=st.floats(0, 1e10),
    attempts=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99))).map(tuple),
    latest=st.none() | st.floats(0, 1e10),
    fingerprint=st.text(),
)
STARTED = Unsettled(at=1_774_402_200.0, attempts=((1, 2),))


@given(unsettled)
def test_what_is_unsettled_survives_the_store(starts: Unsettled) -> None:
    assert read_unsettled(json.loads(json.dumps(starts.to_json()))) == starts


@pytest.mark.parametrize(
    "value",
    [
        None,
        "nonsense",
        {**STARTED.to_json(), "v": 2},
        {**STARTED.to_json(), "at": None},
        {**STARTED.to_json(), "at": "today"},
        {**STARTED.to_json(), "attempts": [[1]]},
        {"v": 1, "at": 0.0},
        {"v": 1, "attempts": []},
        {"at": 0.0, "attempts": []},
    ],
)
def test_what_says_nothing_of_starts_is_none(value: object) -> None:
    assert read_unsettled(value) is None


def test_of_many_starts_the_newest_are_remembered() -> None:
    starts = STARTED
    for attempt in range(2, 20):
        starts = starts.and_then(attempt, 2, at=float(attempt), fingerprint="")

    assert starts.at == STARTED.at
    assert starts.attempts == tuple((each, 2) for each in range(10, 20))
    assert len(starts.attempts) == MOST_ATTEMPTS


def test_the_latest_start_and_the_request_of_all_are_remembered() -> None:
    first = Unsettled(at=100.0, attempts=()).and_then(1, 2, at=100.0, fingerprint="a")
    second = first.and_then(2, 2, at=200.0, fingerprint="a")
    third = second.and_then(3, 2, at=300.0, fingerprint="b")

    assert (second.at, second.latest, second.fingerprint) == (100.0, 200.0, "a")
    assert (third.at, third.latest, third.fingerprint) == (100.0, 300.0, "")
    assert third.and_then(4, 2, at=400.0, fingerprint="b").fingerprint == ""


def test_starts_that_an_older_release_has_noted_are_read() -> None:
    value = {"v": 1, "at": 100.0, "attempts": [[1, 2]]}

    assert read_unsettled(value) == Unsettled(at=100.0, attempts=((1, 2),))


def test_starts_are_of_retried_attempts_or_of_cleared_ones() -> None:
    both = STARTED.and_then(2, 3, at=0.0, fingerprint="")

    assert STARTED.split(2) == (STARTED, None)
    assert STARTED.split(3) == (None, STARTED)
    assert both.split(3) == (
        replace(both, attempts=((2, 3),)),
        replace(both, attempts=((1, 2),)),
    )


@pytest.mark.parametrize(
    ("spans", "ended"),
    [
        pytest.param([], False, id="none has begun"),
        pytest.param(
            [(500.0, 900.0), (2000.0, None)], False, id="one was there before"
        ),
        pytest.param([(1002.0, None)], False, id="the first goes on"),
        pytest.param([(1002.0, 1100.0)], False, id="none is in the way"),
        pytest.param([(1002.0, 1100.0), (1410.0, None)], True, id="idle since"),
        pytest.param([(1410.0, None), (1002.0, 1100.0)], True, id="newest first"),
        pytest.param([(1002.0, 1100.0), (1390.0, None)], False, id="had to wait"),
        pytest.param(
            [(1002.0, 1100.0), (1105.0, 1200.0), (1210.0, None)], False, id="a queue"
        ),
        pytest.param(
            [(1002.0, 1100.0), (1500.0, 1600.0), (1610.0, None)],
            True,
            id="idle before others",
        ),
        pytest.param(
            [(1400.0, 1450.0), (1800.0, 1850.0), (3600.0, None)],
            False,
            id="begins late",
        ),
        pytest.param([(None, 1100.0), (1410.0, None)], False, id="no beginning"),
    ],
)
def test_the_first_job_since_a_start_or_after_another_may_be_its_own(
    spans: list[tuple[float | None, float | None]], *, ended: bool
) -> None:
    start = Unsettled(at=0.0, attempts=((1, 2),), latest=1000.0)

    assert start.has_ended(spans, ahead=0.0, within=300.0) is ended


def test_a_clock_that_is_ahead_ends_nothing_too_early() -> None:
    start = Unsettled(at=0.0, attempts=((1, 2),), latest=1000.0)
    spans = [(1060.0, 1100.0), (1500.0, None)]

    assert start.has_ended(spans, ahead=0.0, within=300.0)
    assert start.has_ended(spans, ahead=-90.0, within=300.0)
    assert not start.has_ended(spans, ahead=90.0, within=300.0)
    assert not replace(start, latest=None).has_ended(spans, ahead=0.0, within=300.0)


@pytest.mark.parametrize(
    ("started_at", "may_have"),
    [
        (None, True),
        ("2026-03-25T01:35:00Z", True),
        ("2026-03-25T01:25:00Z", True),
        ("2026-03-25T01:24:59Z", False),
    ],
)
def test_a_job_that_was_there_before_is_none_of_the_starts(
    started_at: str | None, *, may_have: bool
) -> None:
    job = Job(id="7", state=JobState.RUNNING, word="running", started_at=started_at)

    assert CLOCKS_DIFFER == 300.0
    assert STARTED.may_have_started(job) is may_have
