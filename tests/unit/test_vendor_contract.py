"""What any vendor must do: one suite, run for all of them.

Each is tried against its simulator without a socket, so that a vendor's reading of its API
meets the simulator's.
"""

from __future__ import annotations

import inspect
import json
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from airflow.sdk import Connection

from async_triggers.deferral import events
from async_triggers.engine.errors import (
    CredentialsRejected,
    EngineError,
    JobNotFound,
    RateLimited,
    UnreadableReply,
    UnreadableRow,
    VendorBroken,
)
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.wire import (
    Account,
    Page,
    Reply,
    Request,
    Source,
    SourceKind,
    Token,
)
from async_triggers.simulator.exchange import SimRequest
from async_triggers.simulator.faults import Fault
from tests.vendors import Entry as Case
from tests.vendors import every_end, every_vendor

NOON = 1_795_000_000.0
ID_NAMES = ("id", "jobId")
"""What a row calls the id of its job."""
SECRET = "planted-Secret-4711"
STATES = {
    "success": JobState.SUCCEEDED,
    "error": JobState.FAILED,
    "cancelled": JobState.CANCELLED,
}


class Clock:
    """The server's time, moved by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


def connection_of(case: Case, **fields: Any) -> Connection:
    """Return an Airflow connection that needs no token to be issued."""
    given: dict[str, Any] = {"host": "http://127.0.0.1:8000", **case.static, **fields}
    return Connection(conn_id="conn", conn_type=case.name, **given)


class Wire:
    """A vendor on one end, its simulator on the other, and no socket between."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.vendor = case.vendor
        self.clock = Clock()
        self.simulator = case.simulator(clock=self.clock)
        self.account: Account = case.hook_class("conn").read(connection_of(case))
        self.token: Token | None = None

    def start(self, end: str) -> tuple[str, str | None]:
        """Begin a job of ten seconds; return what a poller requests, and its mark."""
        return self.case.watch(self.simulator, self.case.life(end, lasts=10))

    def ask(self, request: Request) -> Reply:
        """Send a request as the transport would; raise what the vendor's refusal means."""
        base = urlsplit(self.account.base_url).path
        query = urlencode(request.params)
        url = f"{base}{request.path}" + (f"?{query}" if query else "")
        proof = self.vendor.authorize(self.account, self.token)
        answer = self.simulator.respond(
            SimRequest.to(
                request.method,
                url,
                headers={**request.headers, **proof},
                json_body=request.json,
            )
        )
        headers = {key.lower(): value for key, value in answer.headers.items()}
        reply = Reply(answer.status, headers, answer.body)
        if reply.status >= 300:
            raise self.vendor.refuse(request, reply)

        return reply

    def read(self, request: Request) -> Page:
        """Ask and read one page."""
        return self.vendor.read(request, self.ask(request))

    def look(self, subject: str, mark: str | None) -> Job:
        """Ask for one job."""
        page = self.read(self.vendor.single(self.account, subject))
        return self.vendor.judge(self.account, subject, page.rows[subject], mark)


# One job ------------------------------------------------------------------------------


@every_end
def test_a_job_runs_and_then_has_ended(case: Case, end: str) -> None:
    """A single look shows a job running, and after its time the state it ended in."""
    wire = Wire(case)
    subject, mark = wire.start(end)
    wire.clock.now += 5
    assert not wire.look(subject, mark).state.is_terminal

    wire.clock.now += 60
    assert wire.look(subject, mark).state is STATES[end]


@every_vendor
def test_the_row_of_a_single_look_goes_by_its_subject(case: Case) -> None:
    """The poller finds a row by the very text that it asked with."""
    wire = Wire(case)
    subject, _ = wire.start("success")

    page = wire.read(wire.vendor.single(wire.account, subject))

    assert list(page.rows) == [subject]
    assert page.next is None


@every_vendor
def test_a_job_that_nobody_knows_is_not_found(case: Case) -> None:
    """An unknown id is a permanent error about that job, whatever its status code."""
    wire = Wire(case)

    with pytest.raises(JobNotFound):
        wire.look(case.unknown, None)


# Many jobs ----------------------------------------------------------------------------


def _walk(wire: Wire, request: Request) -> dict[str, Page]:
    found: dict[str, Page] = {}
    following: Request | None = request
    while following is not None:
        page = wire.read(following)
        assert page.sound
        found |= dict.fromkeys(page.rows, page)
        following = page.next

    return found


@every_vendor
def test_every_source_shows_jobs_as_a_single_look_does(case: Case) -> None:
    """What lists, feeds and filters say of a job agrees with the job's own row."""
    wire = Wire(case)
    jobs = [wire.start("success") for _ in range(3)]
    subjects = [subject for subject, _ in jobs]
    wire.clock.now += 5
    running = {
        source.name: _walk(
            wire,
            wire.vendor.many(
                wire.account, source, subjects=subjects, since=NOON - 60, scope=""
            ),
        )
        for source in wire.vendor.sources
        if source.kind is not SourceKind.FEED
    }
    for name, shown in running.items():
        assert set(subjects) <= set(shown), name

    wire.clock.now += 60
    for source in wire.vendor.sources:
        if source.kind is SourceKind.LIVE:
            continue

        shown = _walk(
            wire,
            wire.vendor.many(
                wire.account, source, subjects=subjects, since=NOON - 60, scope=""
            ),
        )
        for subject, mark in jobs:
            row = shown[subject].rows[subject]
            job = wire.vendor.judge(wire.account, subject, row, mark)
            assert job.state is JobState.SUCCEEDED, source.name


@every_vendor
def test_a_feed_resumes_no_later_than_the_server_s_time(case: Case) -> None:
    """The next window of a feed begins by the server's clock, less the overlap."""
    wire = Wire(case)
    wire.start("success")
    wire.clock.now += 60
    feeds = [each for each in wire.vendor.sources if each.kind is SourceKind.FEED]
    for source in feeds:
        page = wire.read(wire.vendor.many(wire.account, source, since=NOON - 60))
        assert page.resume is not None
        assert page.resume <= wire.clock.now - wire.vendor.overlap


# Trouble ------------------------------------------------------------------------------


@every_vendor
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind="status", status=500), VendorBroken),
        (Fault(kind="status", status=503), VendorBroken),
        (Fault(kind="status", status=429), RateLimited),
        (Fault(kind="status", status=401), CredentialsRejected),
        (Fault(kind="html"), UnreadableReply),
        (Fault(kind="cut"), UnreadableReply),
        (Fault(kind="empty"), UnreadableReply),
    ],
    ids=["500", "503", "429", "401", "html", "cut", "empty"],
)
def test_trouble_is_typed(case: Case, fault: Fault, error: type[EngineError]) -> None:
    """Each kind of trouble becomes the error that says what to do about it."""
    wire = Wire(case)
    subject, mark = wire.start("success")
    wire.simulator.faults.add(fault)

    with pytest.raises(error):
        wire.look(subject, mark)

    assert not wire.look(subject, mark).state.is_terminal


@every_vendor
def test_a_429_says_how_long_to_wait(case: Case) -> None:
    """The seconds of ``Retry-After`` come with the error."""
    wire = Wire(case)
    subject, mark = wire.start("success")
    wire.simulator.faults.add(Fault(kind="status", status=429, retry_after=3600))

    with pytest.raises(RateLimited) as caught:
        wire.look(subject, mark)

    assert caught.value.retry_after == 3600


@every_vendor
def test_what_is_shown_of_an_account_holds_no_credential(case: Case) -> None:
    """Reprs, identities and requests of an account give no secret away."""
    wire = Wire(case)
    account = case.hook_class("conn").read(connection_of(case, password=SECRET))

    assert SECRET not in repr(account)
    assert SECRET not in str(account)
    assert SECRET not in " ".join(account.identity)
    single = wire.vendor.single(account, wire.start("error")[0])
    assert SECRET not in repr(single)


@every_vendor
def test_an_unknown_state_is_no_end(case: Case) -> None:
    """A status that nobody knows yet counts as running."""
    wire = Wire(case)
    subject, mark = wire.start("success")
    page = wire.read(wire.vendor.single(wire.account, subject))
    row = json.loads(json.dumps(page.rows[subject]))
    case.make_strange(row)

    job = wire.vendor.judge(wire.account, subject, row, mark)

    assert job.state is JobState.RUNNING


@every_vendor
@pytest.mark.parametrize(
    "row",
    [
        {},
        {"id": None},
        {"status": []},
        {"jobId": True},
        {"id": "c", "status": {}, "failed_at": {}},
        {"id": "c", "status": {}, "succeeded_at": "yesterday"},
        {"id": 1, "status": "10"},
        {"jobId": 1, "status": 7},
    ],
)
def test_a_row_without_what_matters_is_unreadable(
    case: Case, row: dict[str, object]
) -> None:
    """A row that cannot be read is an error of its own, which is no outage."""
    wire = Wire(case)

    with pytest.raises(UnreadableRow):
        wire.vendor.judge(wire.account, "1", row, None)


@every_vendor
@pytest.mark.parametrize("bad", [None, [], {}, True])
def test_a_row_without_an_id_keeps_no_other_from_being_read(
    case: Case, bad: object
) -> None:
    """A list shows the rows that can be read; without any it is unreadable."""
    wire = Wire(case)
    subjects = [wire.start("success")[0] for _ in range(3)]
    wire.clock.now += 60

    def read(source: Source, *, spoilt: set[str]) -> Page:
        request = wire.vendor.many(
            wire.account, source, subjects=subjects, since=NOON - 60, scope=""
        )
        reply = wire.ask(request)
        body = json.loads(reply.body)
        _spoil(body, spoilt, bad)
        return wire.vendor.read(
            request, Reply(reply.status, reply.headers, json.dumps(body).encode())
        )

    for source in wire.vendor.sources:
        shown = set(read(source, spoilt=set()).rows)
        if not shown:
            continue

        first = min(shown)
        assert set(read(source, spoilt={first}).rows) == shown - {first}
        with pytest.raises(UnreadableRow):
            read(source, spoilt=shown)


def _spoil(value: Any, spoilt: set[str], bad: object) -> None:
    """Put a bad id into the rows with these ids, wherever they stand."""
    if isinstance(value, list):
        for each in value:
            _spoil(each, spoilt, bad)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name in ID_NAMES and str(each) in spoilt:
                value[name] = bad
            else:
                _spoil(each, spoilt, bad)


# Events and triggers ------------------------------------------------------------------


@every_vendor
@pytest.mark.parametrize("end", STATES.values())
def test_an_ended_job_survives_the_event(case: Case, end: JobState) -> None:
    """What a trigger sends is what the task reads, through JSON."""
    wire = Wire(case)
    subject, mark = wire.start("error")
    wire.clock.now += 60
    shown = wire.look(subject, mark)
    outcome = events.ended(
        Job(id=shown.id, state=end, word="word", statistics=shown.statistics)
    )
    trigger = case.trigger(subject, "conn", mark=mark, end_time=NOON)

    payload = json.loads(json.dumps(trigger.payload(outcome)))

    assert events.from_payload(payload) == outcome


@every_vendor
def test_a_trigger_is_what_it_is_stored_as(case: Case) -> None:
    """A trigger made from its stored arguments is the same trigger."""
    trigger = case.trigger("4711", "conn", mark="2026-01-01T00:00:00Z~~", end_time=NOON)

    classpath, kwargs = trigger.serialize()
    again = type(trigger)(**json.loads(json.dumps(kwargs)))

    assert classpath == f"{type(trigger).__module__}.{type(trigger).__qualname__}"
    assert again.serialize() == (classpath, kwargs)
    assert again.remote_job.polled_id == trigger.remote_job.polled_id
    assert again.remote_job.mark == trigger.remote_job.mark


@every_vendor
def test_a_trigger_by_itself_owns_nothing(case: Case) -> None:
    """Used by itself, a trigger does not cancel."""
    assert case.trigger("4711", "conn").remote_job.owned is False


@every_vendor
def test_vendors_do_no_io(case: Case) -> None:
    """Nothing in a vendor waits: it has no coroutine."""
    members = inspect.getmembers(type(case.vendor), inspect.isfunction)

    assert members
    assert not [name for name, each in members if inspect.iscoroutinefunction(each)]
