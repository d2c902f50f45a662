from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_triggers.deferral.record import Intent, Next, Record, decide, read_record

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
records = st.builds(
    Record,
    fingerprint=st.text(),
    max_tries=st.integers(0, 99),
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


@pytest.mark.parametrize("name", sorted(set(WRITTEN) - {"intent"}))
def test_a_record_that_lacks_a_field_is_none(name: str) -> None:
    value = {key: field for key, field in WRITTEN.items() if key != name}

    assert read_record(value) is None


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
    ],
)
def test_what_an_attempt_does_first(record: Record | None, step: Next) -> None:
    assert decide(record, fingerprint="same", max_tries=2) is step


@pytest.mark.parametrize(
    ("at", "sent_at", "server_now", "now", "age"),
    [
        pytest.param(1000, 1000, 1030, 1030, 30, id="both agree"),
        pytest.param(1003, 1000, 1030, 1030, 27, id="the server's, if they nearly do"),
        pytest.param(4600, 1000, 1030, 1030, 30, id="the first answer was ahead"),
        pytest.param(1000, 1000, 4630, 1030, 30, id="the second answer is ahead"),
        pytest.param(1000, 4600, 1100, 1100, 100, id="our clock was ahead"),
        pytest.param(None, 1000, 1030, 1030, 30, id="no time at first"),
        pytest.param(1000, 1000, None, 1030, 30, id="no time now"),
        pytest.param(None, 4600, 1030, 1030, 0, id="no time, and our clock was ahead"),
        pytest.param(1000, None, None, 1030, math.inf, id="nothing to go by"),
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
