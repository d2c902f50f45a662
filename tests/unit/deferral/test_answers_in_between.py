"""What something in between says to a task that waits, or is about to start its job."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from async_triggers.airbyte.triggers import AirbyteSyncTrigger
from async_triggers.deferral.errors import ConnectionUnusable
from async_triggers.simulator import Fault
from async_triggers.simulator.exchange import SimReply, SimRequest
from tests.unit.deferral.stage import Task, deferred, the_event
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import AIRBYTE, FIVETRAN, every_vendor
from tests.vendors import Entry as Case

HOUR = 3600.0
MODES: dict[str, dict[str, Any]] = {
    "worker": {"deferrable": True},
    "synchronous": {"deferrable": False},
    "trigger": {"deferrable": True, "start_in_trigger": True},
}
every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, case: Case) -> VendorWorld:
    return make_vendor_world(monkeypatch, case)


def a_task(world: VendorWorld, *lives: str, **how: Any) -> Task:
    world.add_target(*(lives or (world.case.life("success"),)))
    return Task(world, world.case.sync(**{"timeout": 90_000, **how}))


# A success that is none of the vendor's ------------------------------------------------

FOREIGN = [
    '{"status": "ok"}',
    '{"message": "up", "data": null}',
    '{"connectionId": "", "status": "inactive"}',
    '{"data": {}}',
    '{"code": 200, "data": []}',
    "{}",
    "[]",
    '"OK"',
    "OK",
]


@every_mode
@every_vendor
@pytest.mark.parametrize("body", FOREIGN)
def test_a_foreign_success_is_neither_a_failure_nor_an_answer(
    world: VendorWorld, case: Case, mode: str, body: str
) -> None:
    task = a_task(world, **MODES[mode])
    answer = Fault(
        kind="status",
        status=200,
        body=body,
        method="GET",
        path=case.before_start,
        times=None,
        lasts=2000,
    )
    world.vendor.faults.add(answer)

    assert task.run() is not None
    assert world.elapsed() >= 2000
    assert world.starts == 1


@every_vendor
@pytest.mark.parametrize("body", FOREIGN)
def test_a_foreign_success_ends_no_doubt(
    world: VendorWorld, case: Case, body: str
) -> None:
    """The vendor refuses a job's account; what answers in between proves nothing."""
    task = a_task(world, case.life())
    deferral = deferred(task.execute())
    refused = Fault(kind="status", status=401, times=None, lasts=200)
    answer = Fault(
        kind="status", status=200, body=body, times=None, start_in=200, lasts=400
    )
    world.vendor.faults.add(
        refused, answer, Fault(kind="status", status=401, times=None, start_in=600)
    )
    began = world.elapsed()

    payload = task.wait(deferral)
    with pytest.raises(ConnectionUnusable):
        task.resume(deferral, payload)

    # It had lasted for 200 s before, and a check more or less.
    assert 600 < world.elapsed() - began <= 600 + 100 + 2 * 60 + 35


# A token endpoint that is away ---------------------------------------------------------

AWAY = {
    "404 page not found": Fault(kind="proxy", answer="go-404"),
    "403 of a gateway": Fault(kind="proxy", answer="kong-403"),
    "403 page": Fault(kind="proxy", answer="nginx-403"),
    "422": Fault(kind="proxy", answer="fastapi-422"),
    "a page": Fault(kind="html"),
    "a login page": Fault(kind="proxy", answer="login-302"),
    "moved": Fault(kind="proxy", answer="moved-308"),
    "foreign success": Fault(kind="status", status=200, body='{"status": "ok"}'),
    "401 of a gateway": Fault(kind="proxy", answer="kong-401"),
    "503": Fault(kind="status", status=503),
}
away = pytest.mark.parametrize("fault", AWAY.values(), ids=AWAY)
LIFETIMES = {
    # Rejected in mid-poll, or renewed before that.
    "rejected": {"token_lifetime": 20.0, "reported_lifetime": 900.0},
    "renewed": {"token_lifetime": 100.0},
}
expiring = pytest.mark.parametrize("lifetime", LIFETIMES.values(), ids=LIFETIMES)


@away
@expiring
@pytest.mark.parametrize("case", [AIRBYTE], ids=["airbyte"])
@pytest.mark.parametrize("lasts", [12.0, 600.0, 2 * HOUR])
def test_a_token_endpoint_that_is_away_ends_no_wait(
    world: VendorWorld, fault: Fault, lifetime: dict[str, float], lasts: float
) -> None:
    world.vendor.configure(**lifetime)
    triggers = waiting(world, 5, AIRBYTE.life("success", lasts=lasts + 300))
    given = {**fault.as_dict(), "operation": "token", "times": None}
    world.vendor.faults.add(Fault(**{**given, "start_in": 60, "lasts": lasts}))
    ends = world.elapsed() + lasts + 300

    async def main() -> list[Any]:
        return await asyncio.gather(*map(the_event, triggers))

    events = asyncio.run(main())

    assert [each["status"] for each in events] == ["success"] * 5
    assert world.elapsed() <= ends + 120
    assert world.vendor.record.tokens_issued > 5


@away
@pytest.mark.parametrize("case", [AIRBYTE], ids=["airbyte"])
@pytest.mark.parametrize("lasts", [12.0, 600.0])
def test_a_token_endpoint_that_is_away_ends_no_wait_on_a_worker(
    world: VendorWorld, fault: Fault, lasts: float
) -> None:
    world.vendor.configure(**LIFETIMES["rejected"])
    task = a_task(world, AIRBYTE.life("success", lasts=lasts + 300), deferrable=False)
    given = {**fault.as_dict(), "operation": "token", "times": None}
    world.vendor.faults.add(Fault(**{**given, "start_in": 60, "lasts": lasts}))

    assert task.run() is not None
    assert world.elapsed() <= lasts + 300 + 120


def waiting(world: VendorWorld, count: int, life: str, *, first: int = 0) -> list[Any]:
    """Start as many jobs, each of a thing of its own; return their triggers."""
    case, triggers = world.case, []
    for number in range(first, first + count):
        world.xcoms["sync", -1].clear()
        target = case.other_target(number)
        case.add_target(world.vendor, target, life)
        make = {case.target_key: target}
        task = Task(world, case.sync(timeout=90_000, **make))
        triggers.append(task.trigger(deferred(task.execute())))

    return triggers


# An end that a list shows --------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "end"),
    # A list of Airbyte's leaves out how much was synced; a failure is whole in it.
    [(AIRBYTE, "success"), (FIVETRAN, "success"), (FIVETRAN, "error")],
    ids=["airbyte", "fivetran", "fivetran-failed"],
)
@pytest.mark.parametrize("status", [404, 403, 401])
def test_an_end_that_a_list_shows_counts_where_its_confirmation_is_refused(
    world: VendorWorld, case: Case, end: str, status: int
) -> None:
    """Of one job among many, which are asked for by a list."""
    world.vendor.configure(**case.short_lists)
    triggers = waiting(world, 40, case.life("success", lasts=2000))
    triggers += waiting(world, 1, case.life(end, lasts=600), first=40)
    one = case.job_path("c40" if case.job_is_target else 41)
    for path in (one, f"{one}/*"):
        world.vendor.faults.add(
            Fault(kind="status", status=status, path=path, times=None, start_in=30)
        )

    ended: list[float] = []

    async def wait(trigger: Any) -> Any:
        event = await the_event(trigger)
        ended.append(world.elapsed())
        return event

    async def main() -> list[Any]:
        return await asyncio.gather(*map(wait, triggers))

    *others, event = asyncio.run(main())

    assert {each["status"] for each in others} == {"success"}
    assert event["status"] == end
    # The lists of Fivetran may be some rounds behind.
    assert 900 <= ended[0] <= 600 + 300 + 3 * 65


@pytest.mark.parametrize("case", [AIRBYTE, FIVETRAN], ids=["airbyte", "fivetran"])
@pytest.mark.parametrize("status", [403, 404])
def test_an_end_that_a_list_shows_counts_where_its_confirmation_is_blocked(
    world: VendorWorld, case: Case, status: int
) -> None:
    """By a proxy that lets lists through, and never a request for that one job."""
    world.vendor.configure(**case.short_lists)
    world.connect(
        f"{case.name}_default",
        conn_type=case.name,
        host="http://localhost:8000",
        extra='{"in_between_seconds": 1800}',
        **case.connection,
    )
    triggers = waiting(world, 40, case.life("success", lasts=HOUR))
    triggers += waiting(world, 1, case.life("success", lasts=600), first=40)
    one = {"airbyte": "*/jobs/41", "fivetran": "*/connections/c40"}[case.name]
    page = Fault(kind="status", status=status, body="<html>Denied</html>", times=None)
    for path in (one, f"{one}/*"):
        world.vendor.faults.add(
            Fault(**{**page.as_dict(), "path": path, "start_in": 30})
        )

    async def main() -> list[dict[str, Any]]:
        *others, blocked = [asyncio.ensure_future(the_event(each)) for each in triggers]
        event = await blocked
        assert 600 + 1800 <= world.elapsed() <= 600 + 1800 + 300
        return [*await asyncio.gather(*others), event]

    assert {each["status"] for each in asyncio.run(main())} == {"success"}


# The task's log in a pause -------------------------------------------------------------


class Heard(logging.Handler):
    """What the tasks' log says, and when."""

    def __init__(self, world: VendorWorld) -> None:
        super().__init__()
        self._world = world
        self.lines: list[tuple[float, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((self._world.elapsed(), record.getMessage()))

    def times(self, words: str) -> list[float]:
        """Return when a line with these words was written."""
        return [at for at, line in self.lines if words in line]


@pytest.fixture
def heard(world: VendorWorld) -> Iterator[Heard]:
    handler, log = Heard(world), logging.getLogger("task")
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    yield handler
    log.setLevel(level)
    log.removeHandler(handler)


@every_vendor
@pytest.mark.parametrize("count", [1, 5])
def test_a_pause_of_an_hour_shows_in_each_task_s_log(
    world: VendorWorld, case: Case, heard: Heard, count: int
) -> None:
    """When it begins, every ten minutes, and when it ends."""
    triggers = waiting(world, count, case.life("success", lasts=1.5 * HOUR))
    began = world.elapsed()
    world.vendor.faults.add(
        Fault(kind="status", status=429, retry_after=3600, start_in=100)
    )
    paused: list[float] = []
    world.on_request.append(lambda _: paused.append(world.elapsed()))

    async def main() -> None:
        await asyncio.gather(*map(the_event, triggers))

    asyncio.run(main())

    (pause,) = [at for at, to in itertools.pairwise(paused) if to - at > 3000]
    assert began + 100 <= pause
    failed = heard.times("Polling failed (still waiting, retrying)")
    over = heard.times("Polling works again")
    assert len(failed) == 6 * count
    assert len(over) == count
    assert pause + 60 <= failed[0] <= pause + 65
    assert all(
        600 <= later - sooner <= 665
        for sooner, later in zip(failed, failed[count:], strict=False)
    )
    assert pause + HOUR <= over[0] <= over[-1] <= pause + HOUR + 65


# What is none of the vendor's and no refusal -------------------------------------------

DENIED = Fault(kind="status", status=403, body="<html>Denied</html>", times=None)
AWAY = {
    "page": Fault(kind="html", times=None),
    "json": Fault(kind="status", status=200, body='{"status": "ok"}', times=None),
    "empty": Fault(kind="status", status=200, body="", times=None),
    "429": Fault(kind="status", status=429, retry_after=3000, times=None),
    "503": Fault(kind="status", status=503, times=None),
}


def at(fault: Fault, start_in: float, lasts: float) -> Fault:
    return Fault(**{**fault.as_dict(), "start_in": start_in, "lasts": lasts})


@every_vendor
@pytest.mark.parametrize("outage", AWAY)
def test_an_outage_is_no_part_of_the_time_in_between(
    world: VendorWorld, case: Case, outage: str
) -> None:
    triggers = waiting(world, 3, case.life("success", lasts=9 * HOUR))
    world.vendor.faults.add(
        at(DENIED, 60, 600),
        at(AWAY[outage], 660, 7 * HOUR),
        at(DENIED, 660 + 7 * HOUR, 600),
    )

    async def main() -> list[Any]:
        return await asyncio.gather(*map(the_event, triggers))

    assert [each["status"] for each in asyncio.run(main())] == ["success"] * 3


@every_mode
@every_vendor
def test_a_redirect_to_nowhere_is_only_an_answer_in_between(
    world: VendorWorld, case: Case, mode: str
) -> None:
    task = a_task(world, **MODES[mode])
    respond: Callable[[SimRequest], SimReply] = world.vendor.respond

    def redirected(asked: SimRequest) -> SimReply:
        if world.elapsed() < 120:
            return SimReply(302, {"Location": "https://[gateway/login"}, b"")

        return respond(asked)

    world.vendor.respond = redirected

    assert task.run() is not None
    assert world.starts == 1


@pytest.mark.parametrize("case", [AIRBYTE], ids=["airbyte"])
def test_a_page_at_the_vendor_s_own_host_is_an_outage(
    world: VendorWorld, case: Case
) -> None:
    """Nobody has typed that address, so no field of the connection can be wrong."""
    world.connect(
        "airbyte_default",
        conn_type="airbyte",
        host="https://api.airbyte.com",
        **case.connection,
    )
    world.add_target(case.life("success"))
    job = world.add_foreign(case.life("success", lasts=HOUR))
    trigger = AirbyteSyncTrigger(
        job_id=job, conn_id="airbyte_default", end_time=None, poll_interval=30
    )
    world.vendor.faults.add(at(AWAY["page"], 0, 2000))

    assert asyncio.run(the_event(trigger))["status"] == "success"


@every_mode
@pytest.mark.parametrize("case", [FIVETRAN], ids=["fivetran"])
@pytest.mark.parametrize("code", ["ok", "200", "success", "Failure", ""])
def test_a_start_is_made_by_fivetran_s_own_word_alone(
    world: VendorWorld, case: Case, mode: str, code: str
) -> None:
    """The first answer is a proxy's, and the start has not got through."""
    task = a_task(world, case.life("success", lasts=900), **MODES[mode])
    body = json.dumps({"code": code, "message": "Success"})
    world.vendor.faults.add(Fault(kind="status", status=200, body=body, method="POST"))

    assert task.run() is not None
    assert world.starts == 1
    assert world.elapsed() >= 900
