"""What Fivetran says, and what is made of it. No I/O but replies in files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from async_triggers.engine.errors import (
    AlreadyRunning,
    CredentialsRejected,
    EngineError,
    JobNotFound,
    PermanentError,
    RateLimited,
    RequestRejected,
    UnreadableReply,
    VendorBroken,
)
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.times import parse_time
from async_triggers.engine.wire import (
    Account,
    Budget,
    CredentialKind,
    Credentials,
    Lane,
    Reply,
    Request,
)
from async_triggers.fivetran.api import history, models, replies, requests
from async_triggers.fivetran.api.models import Connection, HistoryRecord, Run
from async_triggers.fivetran.api.vendor import FIVETRAN
from tests.examples import examples

REPLIES = Path(__file__).parent / "replies"
ACCOUNT = Account(
    vendor="Fivetran",
    base_url="https://api.fivetran.com",
    credentials=Credentials(kind=CredentialKind.BASIC, login="key", secret="secret"),
    budget=Budget(requests=20_000, per=3600.0),
)
ONE = requests.get_connection("speak_inexpensive")
EARLIER = "2026-11-20T12:00:00.000000Z"
DONE = "2026-11-20T13:00:00.123456Z"
LATER = "2026-11-20T14:00:00.000000Z"
NO_TIMES: Mapping[str, str | None] = {}
NOW = parse_time("2026-11-20T13:50:00Z") or 0.0


def reply(name: str, status: int = 200, **headers: str) -> Reply:
    return Reply(status, headers, (REPLIES / f"{name}.json").read_bytes())


def told(**changes: Any) -> Connection:
    connection = replies.read_connection(replies.read_data(ONE, reply("connection")))
    return replace(connection, **changes)


def records() -> list[HistoryRecord]:
    request = requests.sync_history("speak_inexpensive", since=NOW - 3600, until=NOW)
    records, following = replies.read_history(request, reply("sync_history"))
    assert following is None
    return records


# Requests -----------------------------------------------------------------------------


def test_only_today_s_paths_are_asked() -> None:
    made = [
        ONE,
        requests.list_connections(),
        requests.list_connections("group"),
        requests.list_groups(),
        requests.start_sync("c"),
        requests.start_resync("c"),
        requests.modify_connection("c", paused=True),
        requests.sync_history("c", since=0, until=1),
        requests.account_info(),
    ]

    assert [f"{each.method} {each.path}" for each in made] == [
        "GET /v1/connections/speak_inexpensive",
        "GET /v1/connections",
        "GET /v1/groups/group/connections",
        "GET /v1/groups",
        "POST /v1/connections/c/sync",
        "POST /v1/connections/c/resync",
        "PATCH /v1/connections/c",
        "GET /v1/connections/c/sync-history",
        "GET /v1/account/info",
    ]
    accepts = {each.headers["Accept"] for each in made}
    assert accepts == {"application/json;version=2"}


def test_force_is_not_sent_unless_it_is_asked_for() -> None:
    assert requests.start_sync("c").json == {"force": False}
    assert requests.start_sync("c", force=True).json == {"force": True}


def test_a_resync_names_its_tables() -> None:
    assert requests.start_resync("c").json == {}
    assert requests.start_resync("c", {"s": ("t",)}).json == {"scope": {"s": ["t"]}}


def test_changes_run_no_setup_tests_and_change_one_thing() -> None:
    assert requests.modify_connection("c", paused=True).json == {
        "run_setup_tests": False,
        "paused": True,
    }
    assert requests.modify_connection("c", schedule_type="auto").json == {
        "run_setup_tests": False,
        "schedule_type": "auto",
    }


def test_pausing_has_a_lane_of_its_own() -> None:
    assert requests.modify_connection("c", paused=True).lane is Lane.CANCEL
    assert requests.modify_connection("c", paused=False).lane is Lane.START


@pytest.mark.parametrize("bad", ["", "a/b", "..", "a\nb"])
def test_an_id_that_would_leave_its_place_is_refused(bad: str) -> None:
    with pytest.raises(RequestRejected, match="connector_id"):
        requests.get_connection(bad)


def test_credentials_are_sent_in_base64() -> None:
    given_encoded = replace(
        ACCOUNT, credentials=Credentials(kind=CredentialKind.BEARER, secret="a2V5OnM=")
    )

    assert FIVETRAN.authorize(ACCOUNT, None) == {
        "Authorization": "Basic a2V5OnNlY3JldA=="
    }
    assert FIVETRAN.authorize(given_encoded, None) == {
        "Authorization": "Basic a2V5OnM="
    }
    assert FIVETRAN.token_request(ACCOUNT) is None


# Replies ------------------------------------------------------------------------------


def test_a_connection_is_read() -> None:
    assert told() == Connection(
        id="speak_inexpensive",
        schema="sheets.orders",
        service="google_sheets",
        group_id="decent_dropsy",
        paused=False,
        schedule_type="auto",
        setup_state="connected",
        sync_state="scheduled",
        succeeded_at=DONE,
        failed_at=None,
        rescheduled_for=None,
        historical=False,
        tasks=("Reconnect",),
        warnings=("The source is slow",),
        created_at="2026-01-01T00:00:00.000000Z",
    )


def test_a_list_is_followed_by_its_cursor() -> None:
    first = FIVETRAN.many(ACCOUNT, requests.GROUP_LISTS, scope="g")
    page = FIVETRAN.read(first, reply("connections_first_page"))

    assert list(page.rows) == ["a", "b"]
    assert page.next is not None
    assert page.next.path == first.path
    assert ("cursor", "eyJza2lwIjoyfQ") in page.next.params
    last = FIVETRAN.read(page.next, reply("connections_last_page"))
    assert list(last.rows) == ["c"]
    assert last.next is None


def test_a_cursor_that_comes_back_is_no_end_of_the_list() -> None:
    request = requests.list_connections()
    page = FIVETRAN.read(request, reply("connections_first_page"))
    assert page.next is not None

    with pytest.raises(UnreadableReply, match="back to a page that was read"):
        FIVETRAN.read(page.next, reply("connections_first_page"))


def test_rows_say_which_list_they_are_in_and_lists_are_confirmed() -> None:
    page = FIVETRAN.read(requests.list_connections(), reply("connections_last_page"))

    assert FIVETRAN.scope_of(page.rows["c"]) == "h"
    job = FIVETRAN.judge(ACCOUNT, "c", page.rows["c"], None)
    assert FIVETRAN.needs_confirmation(job)


def a_syncing_row(**changes: Any) -> dict[str, Any]:
    status = {
        "sync_state": "syncing",
        "setup_state": "connected",
        "is_historical_sync": False,
        "tasks": [],
    }
    row = {"id": "c", "schema": "s", "succeeded_at": DONE, "failed_at": None}
    row |= {name: changes[name] for name in changes if name not in status}
    status |= {name: changes[name] for name in changes if name in status}
    return {**row, "paused": changes.get("paused", False), "status": status}


def test_what_a_sync_is_judged_by_is_in_its_rows_digest() -> None:
    known = FIVETRAN.digest(a_syncing_row())

    assert known is not None
    assert FIVETRAN.digest(a_syncing_row(service="other", tasks=[{}])) == known


def test_a_digest_is_made_of_any_row() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]

    assert FIVETRAN.digest(a_syncing_row(schema=deep, failed_at=deep)) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "t"},
        {"succeeded_at": None},
        {"failed_at": DONE},
        {"paused": True},
        {"setup_state": "broken"},
        {"is_historical_sync": True},
    ],
    ids=str,
)
def test_each_change_that_a_sync_is_judged_by_changes_the_digest(
    changes: dict[str, Any],
) -> None:
    changed = FIVETRAN.digest(a_syncing_row(**changes))

    assert changed is not None
    assert changed != FIVETRAN.digest(a_syncing_row())


@pytest.mark.parametrize("state", ["scheduled", "rescheduled", "paused", None, 7])
def test_what_is_not_syncing_is_judged_each_time(state: object) -> None:
    assert FIVETRAN.digest(a_syncing_row(sync_state=state)) is None
    assert FIVETRAN.digest({"id": "c"}) is None


@pytest.mark.parametrize(
    ("headers", "left"),
    [
        ({"x-rate-limit": "20000", "x-rate-limit-remaining": "19000"}, (19000, 20000)),
        ({"x-rate-limit": "20000"}, None),
        ({}, None),
        ({"x-rate-limit": "many", "x-rate-limit-remaining": "1"}, None),
        ({"x-rate-limit": "0", "x-rate-limit-remaining": "0"}, None),
        ({"x-rate-limit": "nan", "x-rate-limit-remaining": "nan"}, None),
    ],
)
def test_what_is_left_of_the_hour_is_read(
    headers: dict[str, str], left: tuple[float, float] | None
) -> None:
    assert FIVETRAN.remaining(Reply(200, headers, b"")) == left


@pytest.mark.parametrize(
    ("request_", "status", "error"),
    [
        (ONE, 400, RequestRejected),
        (ONE, 401, CredentialsRejected),
        (ONE, 403, RequestRejected),
        (ONE, 404, JobNotFound),
        (ONE, 406, RequestRejected),
        (ONE, 409, RequestRejected),
        (ONE, 415, RequestRejected),
        (ONE, 429, RateLimited),
        (ONE, 500, VendorBroken),
        (requests.start_sync("c"), 409, AlreadyRunning),
        (requests.start_resync("c"), 409, AlreadyRunning),
        (requests.modify_connection("c", paused=False), 409, RequestRejected),
    ],
)
def test_refusals_are_typed(
    request_: Request, status: int, error: type[EngineError]
) -> None:
    assert type(FIVETRAN.refuse(request_, reply("not_found", status))) is error


def test_a_refusal_is_told_in_fivetran_s_words() -> None:
    error = FIVETRAN.refuse(requests.get_connection("nobody"), reply("not_found", 404))

    assert "connection nobody" in error.message
    assert "NotFound_Connector: Cannot find connector" in error.message


def test_an_hour_s_wait_is_read() -> None:
    error = FIVETRAN.refuse(ONE, reply("too_many", 429, **{"retry-after": "3600"}))

    assert isinstance(error, RateLimited)
    assert error.retry_after == 3600


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"data": []}', b'{"data": {}}', b"<html>", b'{"da']
)
@pytest.mark.parametrize("request_", [ONE, requests.list_connections()])
def test_an_answer_without_what_matters_is_unreadable(
    request_: Request, body: bytes
) -> None:
    with pytest.raises(UnreadableReply):
        FIVETRAN.read(request_, Reply(200, {}, body))


# Runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run",
    [
        Run(connection_id="c"),
        Run(connection_id="c", succeeded_at=DONE, at=NOW // 1),
        Run(connection_id="c", failed_at=DONE, resync=True, historical=True),
        Run(connection_id="c", whichever=True, patient=True, strict=True),
        Run(connection_id="c", succeeded_at=DONE, failed_at=LATER, behind=True),
    ],
)
def test_a_run_is_written_and_read_again(run: Run) -> None:
    assert Run.from_mark("c", run.mark) == run
    assert Run.from_id(run.id) == run


def test_no_mark_is_a_connection_that_never_synced() -> None:
    assert Run.from_mark("c", None) == Run(connection_id="c")


@given(st.text())
@example("~~~x")
@example("~~~" + "9" * 400)
def test_any_text_makes_a_run(mark: str) -> None:
    run = Run.from_mark("c", mark)

    models.judge_run(told(id="c"), run)
    assert run.connection_id == "c"


BASELINE = Run(connection_id="speak_inexpensive", succeeded_at=DONE)


@pytest.mark.parametrize(
    ("changes", "state", "word"),
    [
        ({}, "running", "scheduled"),
        ({"sync_state": "syncing"}, "running", "syncing"),
        ({"sync_state": "hibernating"}, "running", "hibernating"),
        ({"sync_state": "rescheduled"}, "running", "rescheduled"),
        ({"succeeded_at": LATER}, "succeeded", "succeeded"),
        # A list that lags shows an older time: a difference is not enough.
        ({"succeeded_at": EARLIER}, "running", "scheduled"),
        ({"succeeded_at": None}, "running", "scheduled"),
        ({"succeeded_at": "soon"}, "running", "scheduled"),
        # The same moment, written in another way.
        ({"succeeded_at": "2026-11-20T14:00:00.123456+01:00"}, "running", "scheduled"),
        ({"failed_at": LATER}, "failed", "failed"),
        ({"failed_at": EARLIER}, "failed", "failed"),
        ({"succeeded_at": LATER, "failed_at": DONE}, "succeeded", "succeeded"),
        ({"succeeded_at": LATER, "failed_at": LATER}, "failed", "failed"),
        ({"setup_state": "broken"}, "failed", "broken"),
        ({"setup_state": "incomplete"}, "failed", "incomplete"),
        ({"paused": True, "sync_state": "paused"}, "failed", "paused"),
        ({"paused": True}, "failed", "paused"),
        # It is being stopped, or will come to its end.
        ({"paused": True, "sync_state": "syncing"}, "running", "syncing"),
        ({"paused": True, "succeeded_at": LATER}, "succeeded", "succeeded"),
        ({"setup_state": "broken", "succeeded_at": LATER}, "succeeded", "succeeded"),
        ({"historical": True, "succeeded_at": LATER}, "succeeded", "succeeded"),
    ],
)
def test_a_run_ends_by_a_later_time(
    changes: dict[str, Any], state: str, word: str
) -> None:
    job = models.judge_run(told(**changes), BASELINE)

    assert (job.state, job.word) == (state, word)
    assert job.id == BASELINE.id
    assert (
        job.url == "https://fivetran.com/dashboard/connections/speak_inexpensive/status"
    )


@pytest.mark.parametrize(
    ("kind", "changes", "state"),
    [
        ("resync", {"historical": True, "succeeded_at": LATER}, "running"),
        ("resync", {"succeeded_at": LATER}, "succeeded"),
        ("resync", {"historical": True, "failed_at": LATER}, "failed"),
        (
            "resync",
            {"historical": True, "failed_at": LATER, "sync_state": "syncing"},
            "running",
        ),
        ("behind", {"sync_state": "syncing", "succeeded_at": LATER}, "running"),
        ("behind", {"sync_state": "syncing", "paused": True}, "running"),
        ("behind", {}, "cancelled"),
        ("behind", {"sync_state": "rescheduled"}, "cancelled"),
        ("patient", {"sync_state": "syncing", "succeeded_at": LATER}, "running"),
        ("patient", {"succeeded_at": LATER}, "succeeded"),
        ("strict", {"failed_at": DONE}, "running"),
        ("strict", {"succeeded_at": EARLIER, "failed_at": DONE}, "failed"),
    ],
)
def test_other_kinds_of_runs_end_otherwise(
    kind: str, changes: dict[str, Any], state: str
) -> None:
    run = Run.from_mark("speak_inexpensive", f"{DONE}~{DONE}~{kind[0]}")
    assert getattr(run, kind)

    assert models.judge_run(told(**changes), run).state == state


def test_any_time_is_later_than_never() -> None:
    run = Run(connection_id="speak_inexpensive")

    assert models.judge_run(told(), run).state is JobState.SUCCEEDED
    assert models.judge_run(told(succeeded_at=None), run).state is JobState.RUNNING


# The history --------------------------------------------------------------------------


def test_the_history_is_asked_for_within_its_week() -> None:
    for before in (None, "2020-01-01T00:00:00Z", DONE, LATER):
        for whichever in (False, True):
            run = Run(connection_id="c", succeeded_at=before, whichever=whichever)
            since, until = history.history_window(run, now=NOW)
            assert NOW - 7 * 86_400 < since < until <= NOW + 1
            assert until - since < 7 * 86_400


def test_the_window_reaches_back_to_what_was_before() -> None:
    since, _ = history.history_window(BASELINE, now=NOW)

    assert since < (parse_time(DONE) or 0.0)


def test_the_history_is_asked_for_in_server_s_time() -> None:
    request = requests.sync_history("c", since=NOW, until=NOW + 60.9)

    assert dict(request.params) == {
        "limit": "1000",
        "start_time": "2026-11-20T13:50:00Z",
        "end_time": "2026-11-20T13:51:00Z",
    }


def ended(
    state: JobState, run: Run = BASELINE, times: Mapping[str, str | None] = NO_TIMES
) -> Job:
    statistics = {"succeeded_at": DONE, "failed_at": None, **times}
    return Job(id=run.id, state=state, word="", message="", statistics=statistics)


def test_the_record_of_a_run_is_the_first_after_its_baseline() -> None:
    job = history.settle_job(ended(JobState.SUCCEEDED), BASELINE, records())

    assert job.statistics["sync_id"] == "9f3c6e0c-2"
    assert job.statistics["extract_volume_mb"] == 12.25
    assert job.statistics["process_volume_mb"] == 12
    assert job.started_at == "2026-11-20T13:10:00.000000Z"


def test_a_failure_has_the_reason_of_its_record() -> None:
    job = replace(ended(JobState.FAILED), message="Fivetran reports a failure")

    job = history.settle_job(job, BASELINE, records())

    assert job.message == "The table orders has no primary key"
    assert job.statistics["sync_id"] == "9f3c6e0c-3"
    assert "process_volume_mb" not in job.statistics


def test_where_both_times_moved_the_first_record_decides() -> None:
    both = {
        "succeeded_at": "2026-11-20T13:20:00.000000Z",
        "failed_at": "2026-11-20T13:31:00.000000Z",
    }

    job = history.settle_job(ended(JobState.FAILED, times=both), BASELINE, records())

    assert job.state is JobState.SUCCEEDED
    assert job.message == ""
    assert job.statistics["sync_id"] == "9f3c6e0c-2"
    sensed = replace(BASELINE, whichever=True)
    job = history.settle_job(ended(JobState.FAILED, sensed, both), sensed, records())
    assert job.state is JobState.FAILED


def test_without_a_fitting_record_a_job_stays_as_it_is() -> None:
    job = ended(JobState.CANCELLED)

    assert history.settle_job(job, BASELINE, records()) == job
    assert history.settle_job(job, BASELINE, []) == job


def confirm(job: Job) -> Job | None:
    request = FIVETRAN.confirmation(job, now=NOW)
    assert request is not None
    assert request.path == "/v1/connections/speak_inexpensive/sync-history"
    return FIVETRAN.confirmed(request, reply("sync_history"), job)


def test_the_history_confirms_an_end_and_tells_the_rest() -> None:
    shown = replace(ended(JobState.SUCCEEDED), ended_at=NOW - 60.0)

    job = confirm(shown)

    assert job == history.settle_job(shown, BASELINE, records())
    assert job.statistics["sync_id"] == "9f3c6e0c-2"


def test_a_history_without_such_an_end_confirms_none() -> None:
    unknown = replace(BASELINE, succeeded_at=LATER)

    assert confirm(replace(ended(JobState.CANCELLED), ended_at=NOW)) is None
    assert confirm(replace(ended(JobState.SUCCEEDED, unknown), ended_at=NOW)) is None


@pytest.mark.parametrize("kind", ["behind", "resync", "patient"])
def test_what_the_history_cannot_tell_is_asked_of_the_connection(kind: str) -> None:
    run = Run(connection_id="c", succeeded_at=DONE, **{kind: True})  # type: ignore[arg-type]
    shown = replace(ended(JobState.SUCCEEDED, run), ended_at=NOW)

    assert FIVETRAN.confirmation(shown, now=NOW) is None
    # Paused or broken, without a time.
    paused = replace(ended(JobState.FAILED), ended_at=None)
    assert FIVETRAN.confirmation(paused, now=NOW) is None


STOPPED = HistoryRecord(
    sync_id="1",
    status="CANCELED",
    start="2026-11-20T13:10:00Z",
    end="2026-11-20T13:20:00Z",
    reason="",
)
STARTED = replace(BASELINE, at=parse_time("2026-11-20T13:09:00Z"))


@pytest.mark.parametrize(
    ("record", "schedule", "state"),
    [
        ({}, "auto", "cancelled"),
        ({"status": "FAILURE", "reason": "why"}, "auto", "failed"),
        ({"status": "PAUSED"}, "manual", "cancelled"),
        ({"status": "PAUSED"}, "auto", None),
        ({"status": "INCOMPLETE"}, "manual", "failed"),
        ({"status": "INCOMPLETE"}, "auto", None),
        ({"status": "RESCHEDULED"}, "manual", None),
        ({"status": "COMPLETED"}, "manual", None),
        ({"status": "TELEPORTED"}, "manual", None),
        ({"end": None}, "manual", None),
        # It may yet be continued, or the times are about to tell.
        ({"end": "2026-11-20T13:49:00Z"}, "manual", None),
        # Of another sync, before ours.
        (
            {"start": "2026-11-20T13:01:00Z", "end": "2026-11-20T13:02:00Z"},
            "auto",
            None,
        ),
        ({"start": "2026-11-20T12:50:00Z"}, "auto", None),
    ],
)
def test_a_sync_that_stopped_without_a_time_is_found_in_the_history(
    record: dict[str, Any], schedule: str, state: str | None
) -> None:
    connection = told(schedule_type=schedule)
    records = [replace(STOPPED, **record)]

    job = history.find_stop(connection, STARTED, records, now=NOW)

    assert (None if job is None else str(job.state)) == state
    if job is not None:
        assert job.id == STARTED.id
        assert job.message


def test_while_something_syncs_nothing_has_stopped() -> None:
    connection = told(sync_state="syncing")

    assert history.find_stop(connection, STARTED, [STOPPED], now=NOW) is None
    again = replace(STOPPED, start="2026-11-20T13:45:00Z", end=None)
    assert history.find_stop(told(), STARTED, [again, STOPPED], now=NOW) is None


# Anything at all ----------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner)
    ),
    max_leaves=8,
)
TIMES = JSON | st.datetimes().map(lambda time: f"{time.isoformat()}Z")
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON | st.just("c"),
        "schema": JSON,
        "group_id": JSON,
        "paused": JSON,
        "schedule_type": JSON,
        "succeeded_at": TIMES,
        "failed_at": TIMES,
        "start": TIMES,
        "end": TIMES,
        "sync_id": JSON,
        "reason": JSON,
        "stages": JSON | st.fixed_dictionaries({"extract": JSON}),
        "status": JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "sync_state": JSON | st.sampled_from(["syncing", "rescheduled"]),
                "setup_state": JSON,
                "tasks": JSON | st.lists(st.fixed_dictionaries({"message": JSON})),
                "is_historical_sync": JSON,
                "rescheduled_for": TIMES,
            },
        ),
    },
)
BODIES = st.binary() | st.one_of(
    JSON,
    st.fixed_dictionaries({"data": ROWS | JSON}),
    st.fixed_dictionaries(
        {
            "data": st.fixed_dictionaries(
                {"items": st.lists(ROWS, max_size=3), "next_cursor": JSON}
            )
        }
    ),
).map(lambda value: json.dumps(value).encode())


@given(BODIES, st.text(max_size=30))
def test_any_answer_is_a_value_or_a_typed_error(body: bytes, mark: str) -> None:
    answer = Reply(200, {}, body)
    for request in (ONE, requests.list_connections()):
        try:
            page = FIVETRAN.read(request, answer)
            for subject, row in page.rows.items():
                FIVETRAN.scope_of(row)
                FIVETRAN.judge(ACCOUNT, subject, row, mark)
        except EngineError:
            pass

    try:
        records, _ = replies.read_history(
            requests.sync_history("c", since=NOW - 60, until=NOW), answer
        )
    except EngineError:
        return

    for run in (BASELINE, replace(BASELINE, whichever=True)):
        history.settle_job(ended(JobState.FAILED, run), run, records)
        history.find_stop(told(), run, records, now=NOW)


@examples(50)
@given(
    st.integers(300, 599),
    st.binary() | JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.sampled_from(
            ["retry-after", "date", "x-rate-limit", "x-rate-limit-remaining"]
        ),
        st.text(max_size=30),
    ),
)
def test_any_refusal_is_a_typed_error(
    status: int, body: bytes, headers: dict[str, str]
) -> None:
    answer = Reply(status, headers, body)

    for request in (
        ONE,
        requests.start_sync("c"),
        requests.modify_connection("c", paused=True),
    ):
        assert isinstance(FIVETRAN.refuse(request, answer), EngineError)

    FIVETRAN.remaining(answer)


@given(TIMES, TIMES, st.none() | st.floats(0, 4e9))
def test_any_times_give_a_window_within_the_week(
    succeeded: Any, failed: Any, at: float | None
) -> None:
    run = Run(
        connection_id="c",
        succeeded_at=succeeded if isinstance(succeeded, str) else None,
        failed_at=failed if isinstance(failed, str) else None,
        at=at,
    )

    since, until = history.history_window(run, now=NOW)

    assert NOW - 7 * 86_400 < since < until


def test_a_permanent_error_says_what_it_is_about() -> None:
    error = FIVETRAN.refuse(requests.start_sync("c"), reply("not_found", 409))

    assert isinstance(error, PermanentError)
    assert "the start of a sync of connection c" in error.message


def test_tables_by_their_names_in_the_destination_and_in_the_source() -> None:
    def table(name: str | None, **more: Any) -> dict[str, Any]:
        return {"name_in_destination": name, "enabled": True, **more}

    tables = {"Orders": table("orders"), "Old": table("old", enabled=False)}
    data = {"schemas": {"Public": table("shop_public", tables=tables)}}

    assert replies.read_tables(data) == (
        models.Table(schema="shop_public", name="orders"),
    )
    assert replies.read_source_tables(data) == (
        models.Table(schema="Public", name="Orders"),
    )
