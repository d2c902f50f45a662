"""A connection that is wrong fails soon, an outage does not; for every vendor and mode."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.bases import sensor as base
from airflow.triggers.base import TaskFailedEvent, TaskSkippedEvent

from async_triggers.deferral import compat
from async_triggers.deferral.compat import (
    AirflowRescheduleException,
    AirflowSensorTimeout,
)
from async_triggers.deferral.contact import address_of
from async_triggers.deferral.errors import (
    ConnectionUnusable,
    EventUnusable,
    JobFailed,
    VendorRefused,
    VendorUnavailable,
)
from async_triggers.deferral.record import KEY
from async_triggers.engine.errors import (
    CredentialsRejected,
    Doubted,
    Suspect,
    TransientError,
    Unreachable,
)
from async_triggers.engine.wording import begun as as_sentence
from async_triggers.simulator import Fault
from tests.airflow_versions import needs_start_from_trigger
from tests.unit.deferral.stage import Deferral, Task, deferred
from tests.unit.deferral.vendors import VendorWorld, make_vendor_world
from tests.vendors import AIRBYTE, DBT_CLOUD, FIVETRAN, every_vendor
from tests.vendors import Entry as Case

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimRequest

TOKEN = "async_triggers_owner"
MODES: dict[str, dict[str, Any]] = {
    "worker": {"deferrable": True},
    "synchronous": {"deferrable": False},
    "trigger": {"deferrable": True, "start_in_trigger": True},
}
every_mode = pytest.mark.parametrize("mode", MODES)


def wrong_port() -> TransientError:
    error = Unreachable("localhost cannot be reached: Connection refused")
    error.suspect = Suspect("host", "nothing listens on port 8000: check the port")
    error.url = "http://localhost:8000/asked"
    return error


def outage() -> TransientError:
    return Unreachable("localhost did not answer", ambiguous=True)


def doubted() -> TransientError:
    refusal = CredentialsRejected("It rejected the credentials", status=401)
    return Doubted("not believed yet", refusal=refusal, retry_after=5.0)


def outage_of_a_default_host() -> TransientError:
    """Return what the transport says of the same trouble there: nothing is suspected."""
    error = wrong_port()
    error.suspect = None
    return error


class Scene:
    """A vendor that cannot be reached for a while, and a task."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        case: Case,
        *,
        extra: str = "",
        **how: Any,
    ) -> None:
        self.case = case
        self.world: VendorWorld = make_vendor_world(monkeypatch, case)
        self.world.connect(
            f"{case.name}_default",
            conn_type=case.name,
            host="http://localhost:8000",
            extra=extra,
            **case.connection,
        )
        self.world.add_target(*[case.life("success")] * 4)
        self.task = Task(self.world, case.sync(**{"timeout": 90_000, **how}))
        self._troubles: list[tuple[float, Callable[[], TransientError]]] = []
        self.world.on_request.append(self._break)

    def trouble(self, until: float, error: Callable[[], TransientError]) -> None:
        """Let requests fail until a moment; the next such call takes over there."""
        self._troubles.append((until, error))

    def _break(self, asked: SimRequest) -> None:
        for until, error in self._troubles:
            if self.world.elapsed() < until:
                raise error()

    @property
    def account(self) -> Any:
        """The account that the connection describes."""
        task: Any = self.task.make()
        return task.hook.account()


Set = Callable[..., Scene]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Set:
    """Return what sets a scene."""

    def set_it(case: Case, **how: Any) -> Scene:
        return Scene(monkeypatch, case, **how)

    return set_it


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the task's log says of starts that cannot be made."""
    return [
        each.getMessage()
        for each in caplog.records
        if each.levelno == logging.WARNING and "cannot be made now" in each.getMessage()
    ]


# Operators ----------------------------------------------------------------------------


@every_mode
@every_vendor
def test_a_wrong_field_fails_the_task_in_five_minutes(
    scene: Set, case: Case, mode: str
) -> None:
    here = scene(case, **MODES[mode])
    here.trouble(1e9, wrong_port)

    with pytest.raises(ConnectionUnusable) as caught:
        here.task.run()

    assert 300 <= here.world.elapsed() <= 320
    told = str(caught.value)
    assert f"(connection '{case.name}_default'). {case.labels[0]}: nothing" in told
    assert told.endswith("Requested: http://localhost:8000/asked")
    assert here.world.starts == 0


def as_dag_test(task: Task) -> Any:
    """Run a task as ``dag.test()`` does, which loses what a deferral carries."""
    outcome = task.execute()
    while isinstance(outcome, Deferral):
        event = task.wait(outcome)
        outcome = task.resume(replace(outcome, kwargs={}), event)

    return outcome


@every_vendor
@pytest.mark.parametrize("is_sensor", [False, True], ids=["operator", "sensor"])
def test_dag_test_resumes_with_the_event_alone(
    scene: Set, case: Case, is_sensor: bool
) -> None:
    here = scene(case, deferrable=True)
    if is_sensor:
        watch(here, "deferrable")

    here.trouble(1000, wrong_port)

    with pytest.raises(ConnectionUnusable):
        as_dag_test(here.task)

    assert 300 <= here.world.elapsed() <= 320


@every_mode
@every_vendor
def test_a_page_where_the_api_should_be_is_a_wrong_field(
    scene: Set, case: Case, mode: str
) -> None:
    here = scene(case, **MODES[mode])
    here.world.vendor.faults.add(Fault(kind="html", times=None))

    with pytest.raises(
        ConnectionUnusable, match=r"there is a web page.*localhost:8000/"
    ):
        here.task.run()

    assert 300 <= here.world.elapsed() <= 320


@every_mode
@every_vendor
@pytest.mark.parametrize("error", [outage, wrong_port])
def test_an_outage_lasts_as_long_as_it_takes(
    scene: Set, case: Case, mode: str, error: Callable[[], TransientError]
) -> None:
    """A wrong field as well where this address has worked for an earlier run."""
    here = scene(case, **MODES[mode])
    here.world.earlier_xcoms["sync", -1][TOKEN] = {"address": address_of(here.account)}
    here.trouble(20_000, error)

    assert here.task.run() is not None
    assert here.world.elapsed() >= 20_000
    assert here.world.starts == 1


@every_mode
@every_vendor
def test_another_address_that_has_worked_says_nothing(
    scene: Set, case: Case, mode: str
) -> None:
    here = scene(case, **MODES[mode])
    here.world.earlier_xcoms["sync", -1][TOKEN] = {"address": "another"}
    here.trouble(1e9, wrong_port)

    with pytest.raises(ConnectionUnusable):
        here.task.run()


@every_mode
@pytest.mark.parametrize("first", MODES)
@every_vendor
def test_the_run_before_is_the_memory(
    scene: Set, case: Case, first: str, mode: str
) -> None:
    here = scene(case, **MODES[first])
    here.task.run()
    here.task.run_again()
    here.task.make = case.sync(timeout=90_000, **MODES[mode])
    here.trouble(here.world.elapsed() + 2000, wrong_port)

    assert here.task.run() is not None
    assert here.world.starts == 2


@every_mode
@every_vendor
def test_the_run_before_is_remembered_through_one_that_had_no_answer(
    scene: Set, case: Case, mode: str
) -> None:
    here = scene(case, **MODES[mode])
    here.task.run()
    here.task.run_again()
    here.task.make = case.sync(timeout=1000, **MODES[mode])
    here.trouble(here.world.elapsed() + 4000, wrong_port)
    with pytest.raises(
        compat.AirflowException, match=r"before the (timeout|task timed out)"
    ):
        here.task.run()

    # What this run has written down lies before that of the first.
    if TOKEN in here.task.xcoms:
        here.task.run_again()

    here.task.make = case.sync(timeout=90_000, **MODES[mode])
    assert here.task.run() is not None
    assert here.world.starts == 2


@every_mode
@every_vendor
def test_evidence_must_be_without_a_break(scene: Set, case: Case, mode: str) -> None:
    here = scene(case, **MODES[mode])
    here.trouble(240, wrong_port)
    here.trouble(310, outage)
    here.trouble(500, wrong_port)

    assert here.task.run() is not None


@every_mode
@pytest.mark.parametrize("what", ["a refused port", "a page"])
def test_a_vendors_own_host_is_not_wrong(scene: Set, mode: str, what: str) -> None:
    here = scene(FIVETRAN, timeout=2000, **MODES[mode])
    here.world.connect(
        "fivetran_default", conn_type="fivetran", host="", **FIVETRAN.connection
    )
    if what == "a page":
        page = Fault(kind="status", status=403, body="<html>", times=None, lasts=1500)
        here.world.vendor.faults.add(page)
    else:
        here.trouble(1500, outage_of_a_default_host)

    assert here.task.run() is not None


@every_mode
@every_vendor
def test_the_setting_shortens_it(scene: Set, case: Case, mode: str) -> None:
    here = scene(case, extra='{"first_contact_seconds": 60}', **MODES[mode])
    here.trouble(1e9, wrong_port)

    with pytest.raises(ConnectionUnusable):
        here.task.run()

    assert 60 <= here.world.elapsed() <= 80


@every_mode
@every_vendor
@pytest.mark.parametrize("limit", [1800, 0])
def test_what_refuses_everything_ends_the_task_at_its_limit(
    scene: Set, case: Case, mode: str, limit: int
) -> None:
    here = scene(
        case, extra=f'{{"in_between_seconds": {limit}}}', timeout=5000, **MODES[mode]
    )
    fault = Fault(kind="status", status=418, body="a teapot", times=None)
    here.world.vendor.faults.add(fault)

    if not limit:
        with pytest.raises(
            compat.AirflowException, match=r"before the (timeout|task timed out)"
        ):
            here.task.run()

        return

    with pytest.raises(VendorRefused) as caught:
        here.task.run()

    assert str(caught.value).startswith(
        f"Something between Airflow and {case.noun} refuses every request: 418,"
        f" a teapot (connection '{case.name}_default'). Search for this answer at the"
        " proxies, gateways and firewalls on the way. Requested: http"
    )
    assert 1800 <= here.world.elapsed() <= 1900


@every_vendor
@pytest.mark.parametrize("error", [wrong_port, outage])
def test_a_deferrable_task_leaves_its_slot_within_seconds(
    scene: Set, case: Case, error: Callable[[], TransientError]
) -> None:
    here = scene(case)
    here.trouble(1e9, error)

    outcome: Any = here.task.execute()
    for _ in range(3):
        begun = here.world.elapsed()
        event = here.task.wait(deferred(outcome))
        left = here.world.elapsed()
        assert left > begun
        outcome = here.task.resume(deferred(outcome), event)
        assert here.world.elapsed() - left <= 3


@every_vendor
def test_a_short_retry_after_is_not_slept_through_in_a_slot(
    scene: Set, case: Case
) -> None:
    here = scene(case)
    fault = Fault(kind="status", status=429, retry_after=15, times=3)
    here.world.vendor.faults.add(fault)

    deferral = deferred(here.task.execute())

    assert here.world.elapsed() <= 3
    assert here.task.go_on(deferral) is not None


@every_mode
def test_the_log_says_it_at_first_and_every_ten_minutes(
    scene: Set, caplog: pytest.LogCaptureFixture, mode: str
) -> None:
    here = scene(AIRBYTE, **MODES[mode])
    here.world.earlier_xcoms["sync", -1][TOKEN] = {"address": address_of(here.account)}
    here.trouble(3000, wrong_port)

    here.task.run()

    told = warnings_in(caplog)
    assert 4 <= len(told) <= 6
    for each in told:
        assert "(connection 'airbyte_default'). Server URL (host): nothing" in each
        assert "has answered before, so it counts as an outage" in each
        assert ", until 2026-03-26T02:30:0" in each
        assert each.endswith("Requested: http://localhost:8000/asked")


@every_vendor
def test_a_refusal_by_the_vendor_fails_a_fresh_task_at_once(
    scene: Set, case: Case
) -> None:
    here = scene(case)
    here.world.vendor.faults.add(Fault(kind="status", status=401, times=None))

    with pytest.raises(ConnectionUnusable, match="rejected the credentials"):
        here.task.run()

    assert here.world.elapsed() < 10


def test_the_memory_that_cannot_be_read_fails_nothing(
    scene: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = scene(AIRBYTE)
    here.trouble(900, wrong_port)

    def fail(*args: object, **more: object) -> None:
        raise RuntimeError("no database")

    monkeypatch.setattr(compat, "earlier_address", fail)

    assert here.task.run() is not None


@every_vendor
def test_the_test_button_names_field_fix_and_url(scene: Set, case: Case) -> None:
    here = scene(case)
    task: Any = here.task.make()
    here.trouble(1e9, wrong_port)

    good, told = task.hook.test_connection()

    assert not good
    assert "(host)" in told or "host:" in told
    assert "check the port. Requested: http://localhost:8000/asked" in told


@every_vendor
def test_the_test_button_names_the_url_of_any_refusal(scene: Set, case: Case) -> None:
    here = scene(case)
    task: Any = here.task.make()
    here.world.vendor.faults.add(Fault(kind="status", status=401, times=None))

    good, told = task.hook.test_connection()

    assert not good
    assert "Requested: http://localhost:8000/" in told


# A look at our own job ----------------------------------------------------------------


def looks(case: Case) -> dict[str, Any]:
    """Return which requests look at one job."""
    return {
        "method": "GET",
        "path": case.job_path("*"),
    }


def refuse(here: Scene, status: int, lasts: float | None) -> None:
    """Let the vendor refuse looks at a job, in its own shape."""
    fault = Fault(
        kind="status", status=status, times=None, lasts=lasts, **looks(here.case)
    )
    here.world.vendor.faults.add(fault)


def begun(scene: Set, case: Case, mode: str, *lives: str) -> Scene:
    """Return a scene in which a first attempt has started a job, and has gone."""
    here = scene(case)
    here.world.add_target(*(lives or (case.life("success", lasts=1500),) * 2))
    deferred(here.task.execute())
    here.task.make = case.sync(timeout=90_000, **MODES[mode])
    return here


@every_mode
@every_vendor
@pytest.mark.parametrize("status", [404, 401, 403])
def test_a_retry_waits_until_a_refused_look_is_sure(
    scene: Set, case: Case, mode: str, status: int
) -> None:
    here = begun(scene, case, mode)
    here.task.retry()
    refuse(here, status, 200)

    assert here.task.run() is not None
    assert here.world.starts == 1
    assert here.world.cancels == 0


@every_mode
@every_vendor
@pytest.mark.parametrize("status", [404, 401])
def test_an_outage_is_no_part_of_the_doubt_about_a_look(
    scene: Set, case: Case, mode: str, status: int
) -> None:
    here = begun(scene, case, mode, *[case.life("success", lasts=4000)] * 2)
    here.task.retry()
    refuse(here, status, 100)
    away = Fault(
        kind="status", status=503, times=None, start_in=100, lasts=2000, **looks(case)
    )
    here.world.vendor.faults.add(away)
    again = replace(away, status=status, start_in=2100, lasts=100)
    here.world.vendor.faults.add(again)

    assert here.task.run() is not None
    assert here.world.starts == 1


@every_mode
@every_vendor
def test_a_good_answer_ends_a_start_s_doubt_of_the_account(
    scene: Set, case: Case, mode: str
) -> None:
    """What is checked before each start is answered well: the credentials are good."""
    here = scene(case, **MODES[mode])
    refused = Fault(kind="status", status=401, operation="start", times=None, lasts=500)
    here.world.vendor.faults.add(refused)

    assert here.task.run() is not None
    assert here.world.starts == 1
    assert here.world.elapsed() >= 500


@every_mode
@pytest.mark.parametrize("case", [AIRBYTE, DBT_CLOUD], ids=lambda case: case.name)
def test_a_job_that_is_gone_costs_a_retry_some_minutes(
    scene: Set, case: Case, mode: str
) -> None:
    here = begun(scene, case, mode, *[case.life("success", lasts=60)] * 2)
    job = here.task.store.values[KEY]["job_id"]
    here.world.pass_time(100)
    here.task.retry()
    path = case.job_path(job)
    fault = Fault(kind="status", status=404, times=None, method="GET", path=path)
    here.world.vendor.faults.add(fault)

    assert here.task.run() is not None
    first, second = here.world.vendor.record.started
    assert 395 <= second.at - first.at <= 430


@every_mode
@every_vendor
def test_a_key_that_is_refused_for_good_fails_and_names_the_job(
    scene: Set, case: Case, mode: str
) -> None:
    here = begun(scene, case, mode)
    record = here.task.store.values[KEY]
    here.task.retry()
    begin = here.world.elapsed()
    refuse(here, 401, None)

    with pytest.raises(ConnectionUnusable) as caught:
        here.task.run()

    assert 295 <= here.world.elapsed() - begin <= 330
    told = str(caught.value)
    assert "rejected the credentials" in told
    name = here.task.operator.vendor.name_of(record["job_id"])
    assert f"{as_sentence(name)} may still be running; a retry checks it again" in told
    assert told.endswith(record["url"])
    assert here.world.starts == 1
    assert here.task.store.values[KEY]["job_id"] == record["job_id"]


@every_mode
@every_vendor
@pytest.mark.parametrize("status", [404, 401])
def test_a_clear_gives_its_cancel_up_on_no_doubtful_look(
    scene: Set, case: Case, mode: str, status: int
) -> None:
    here = begun(scene, case, mode, case.life(), case.life("success"))
    here.task.clear()
    refuse(here, status, 200)

    assert here.task.run() is not None
    assert here.world.starts == 2
    assert here.world.vendor.jobs() == []


@every_vendor
def test_an_outage_of_a_look_lasts_until_the_deadline_and_names_the_job(
    scene: Set, case: Case
) -> None:
    here = begun(scene, case, "worker")
    record = here.task.store.values[KEY]
    here.task.make = case.sync(timeout=3000)
    here.task.retry()
    here.trouble(1e9, wrong_port)

    with pytest.raises(VendorUnavailable) as caught:
        here.task.run()

    assert 2900 <= here.world.elapsed() <= 3100
    name = here.task.operator.vendor.name_of(record["job_id"])
    assert f"{as_sentence(name)} may still be running" in str(caught.value)


@every_mode
@every_vendor
def test_what_the_engine_doubts_is_doubted_across_deferrals(
    scene: Set, case: Case, mode: str
) -> None:
    """A new process has a new engine, whose own doubt begins again each time."""
    here = scene(case, **MODES[mode])
    here.trouble(200, doubted)
    assert here.task.run() is not None

    here = scene(case, **MODES[mode])
    here.trouble(1e9, doubted)
    with pytest.raises(ConnectionUnusable, match="rejected the credentials"):
        here.task.run()

    assert 300 <= here.world.elapsed() <= 330


@every_mode
@every_vendor
def test_a_doubted_look_starts_nothing(scene: Set, case: Case, mode: str) -> None:
    here = begun(scene, case, mode)
    here.task.retry()
    here.trouble(200, doubted)

    assert here.task.run() is not None
    assert here.world.starts == 1


# The end in the record ----------------------------------------------------------------


@every_mode
@every_vendor
def test_a_job_that_has_ended_is_not_looked_at_again(
    scene: Set, case: Case, mode: str
) -> None:
    here = scene(case, **MODES[mode])
    here.world.add_target(case.life("error"), case.life("success"))
    with pytest.raises(JobFailed):
        here.task.run()

    record = here.task.store.values[KEY]
    assert record["ended"]
    here.task.retry()
    here.world.requests.clear()
    here.task.run()

    assert here.world.starts == 2
    if not case.job_is_target:
        paths = [each.path.rstrip("/") for each in here.world.requests]
        assert not [each for each in paths if each.endswith(f"/{record['job_id']}")]


def test_what_is_retried_from_its_failure_is_known_without_a_look(scene: Set) -> None:
    here = scene(DBT_CLOUD, retry_from_failure=True)
    here.world.add_target(DBT_CLOUD.life("error"), DBT_CLOUD.life("success"))
    with pytest.raises(JobFailed):
        here.task.run()

    here.task.retry()
    here.task.run()

    assert "retrying_run_id" in here.world.vendor.record.started[-1].details


# Sensors ------------------------------------------------------------------------------

SENSOR_MODES = (
    "poke",
    "reschedule",
    "deferrable",
    pytest.param("start_from_trigger", marks=needs_start_from_trigger),
)
every_sensor = pytest.mark.parametrize("mode", SENSOR_MODES)


def watch(here: Scene, mode: str, **how: Any) -> None:
    """Let the task be a sensor of a job that somebody else has started."""
    job = here.world.add_foreign(here.case.life("success", lasts=1300))
    given = {"poke_interval": 60, "timeout": 90_000, **here.case.recent, **how}

    if mode in {"poke", "reschedule"}:
        given |= {"mode": mode, "deferrable": False}
    elif mode == "start_from_trigger":
        given["start_from_trigger"] = True

    here.task.make = here.case.sensor(job, **given)


def sense(here: Scene, mode: str) -> Any:
    """Run a sensor to its end."""
    task = here.task
    task.first_reschedule = task.instance.start_date
    if mode == "start_from_trigger":
        args: Any = task.make().start_trigger_args
        deferral = Deferral(
            args.trigger_cls, args.trigger_kwargs, args.next_method, {}, args.timeout
        )
        return task.go_on(deferral)

    while True:
        try:
            return task.run()
        except AirflowRescheduleException as again:
            left = again.reschedule_date.timestamp() - here.world.now()
            here.world.pass_time(max(0.0, left))
            # As Airflow does at each look.
            task.xcoms.clear()


@pytest.fixture
def _clock(monkeypatch: pytest.MonkeyPatch, scene: Set) -> None:
    """Let a sensor's sleep be the world's time."""
    make = Scene.__init__

    def made(here: Scene, *args: Any, **how: Any) -> None:
        make(here, *args, **how)
        clock = SimpleNamespace(
            sleep=here.world.pass_time, monotonic=here.world.elapsed
        )
        monkeypatch.setattr(base, "time", clock)
        monkeypatch.setattr(
            base,
            "timezone",
            SimpleNamespace(
                utcnow=lambda: Task(here.world, here.task.make).instance.start_date
            ),
        )

    monkeypatch.setattr(Scene, "__init__", made)


@pytest.mark.usefixtures("_clock")
@every_sensor
@every_vendor
def test_a_wrong_field_fails_a_sensor_in_five_minutes(
    scene: Set, case: Case, mode: str
) -> None:
    here = scene(case)
    watch(here, mode)
    here.trouble(1e9, wrong_port)

    with pytest.raises(
        ConnectionUnusable, match="Requested: http://localhost:8000/asked"
    ):
        sense(here, mode)

    assert 300 <= here.world.elapsed() <= 370


@pytest.mark.usefixtures("_clock")
@every_sensor
@every_vendor
@pytest.mark.parametrize("error", [outage, wrong_port])
def test_an_outage_fails_no_sensor(
    scene: Set, case: Case, mode: str, error: Callable[[], TransientError]
) -> None:
    here = scene(case)
    watch(here, mode)
    here.world.earlier_xcoms["sync", -1][TOKEN] = {"address": address_of(here.account)}
    here.trouble(2000, error)

    sense(here, mode)

    assert 2000 <= here.world.elapsed() <= 2400


@pytest.mark.usefixtures("_clock")
@every_sensor
@every_vendor
def test_a_sensor_that_waits_through_an_outage_remembers_as_well(
    scene: Set, case: Case, mode: str
) -> None:
    """The outage sends it to the shared poller, which has had no answer yet."""
    here = scene(case)
    watch(here, mode)
    here.world.earlier_xcoms["sync", -1][TOKEN] = {"address": address_of(here.account)}
    here.trouble(100, outage)
    here.trouble(2000, wrong_port)

    sense(here, mode)

    assert 2000 <= here.world.elapsed() <= 2400


@pytest.mark.usefixtures("_clock")
@every_sensor
@every_vendor
def test_the_run_before_is_the_memory_of_a_sensor(
    scene: Set, case: Case, mode: str
) -> None:
    here = scene(case)
    watch(here, mode)
    sense(here, mode)
    here.task.run_again()
    here.trouble(here.world.elapsed() + 2000, wrong_port)

    sense(here, mode)


@pytest.mark.usefixtures("_clock")
@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize("status", [404, 401])
@every_vendor
def test_a_sensor_that_has_seen_its_job_doubts_a_refusal(
    scene: Set, case: Case, mode: str, status: int
) -> None:
    here = scene(case)
    watch(here, mode)
    fault = Fault(kind="status", status=status, times=None, start_in=100, lasts=200)
    here.world.vendor.faults.add(fault)

    sense(here, mode)


@pytest.mark.usefixtures("_clock")
@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@every_vendor
def test_a_refusal_that_lasts_fails_a_sensor(scene: Set, case: Case, mode: str) -> None:
    here = scene(case)
    watch(here, mode)
    fault = Fault(kind="status", status=401, times=None, start_in=100)
    here.world.vendor.faults.add(fault)

    with pytest.raises(ConnectionUnusable):
        sense(here, mode)

    assert 400 <= here.world.elapsed() <= 600


@pytest.mark.usefixtures("_clock")
@pytest.mark.parametrize("mode", ["poke", "reschedule", "deferrable"])
def test_a_break_saves_a_sensor(scene: Set, mode: str) -> None:
    here = scene(AIRBYTE)
    watch(here, mode)
    here.trouble(200, wrong_port)
    here.trouble(290, outage)
    here.trouble(480, wrong_port)

    sense(here, mode)


@pytest.mark.usefixtures("_clock")
def test_a_sensors_timeout_comes_first(scene: Set) -> None:
    here = scene(FIVETRAN)
    watch(here, "deferrable", timeout=200)
    here.trouble(1e9, wrong_port)

    with pytest.raises(AirflowSensorTimeout):
        sense(here, "deferrable")


# Soft failures --------------------------------------------------------------------------


def _wrong_port(here: Scene) -> None:
    here.trouble(1e9, wrong_port)


def _wrong_secret(here: Scene) -> None:
    here.world.connect(
        f"{here.case.name}_default",
        conn_type=here.case.name,
        host="http://localhost:8000",
        **{**here.case.connection, "password": "wrong"},
    )


def _no_secret(here: Scene) -> None:
    here.world.connect(
        f"{here.case.name}_default",
        conn_type=here.case.name,
        host="http://localhost:8000",
        login="x",
        password="",
    )


def _no_connection(here: Scene) -> None:
    here.world.connections.clear()


def _no_host(here: Scene) -> None:
    here.world.connect(
        f"{here.case.name}_default",
        conn_type=here.case.name,
        host="ftp://localhost",
        **here.case.connection,
    )


def _no_job(here: Scene) -> None:
    fault = Fault(kind="status", status=404, times=None, method="GET")
    here.world.vendor.faults.add(fault)


every_mistake = pytest.mark.parametrize(
    "break_it",
    [_wrong_port, _wrong_secret, _no_secret, _no_connection, _no_host, _no_job],
)


@pytest.mark.usefixtures("_clock")
@every_sensor
@every_vendor
@every_mistake
def test_a_broken_configuration_is_no_soft_failure(
    scene: Set, case: Case, mode: str, break_it: Callable[[Scene], None]
) -> None:
    here = scene(case)
    watch(here, mode, soft_fail=True, end_from_trigger=True)
    break_it(here)

    with pytest.raises(compat.AirflowException) as caught:
        sense(here, mode)

    assert not isinstance(
        caught.value, compat.AirflowSkipException | AirflowSensorTimeout
    )


@pytest.mark.usefixtures("_clock")
@every_sensor
@every_vendor
@every_mistake
def test_it_is_one_that_never_fails(
    scene: Set, case: Case, mode: str, break_it: Callable[[Scene], None]
) -> None:
    here = scene(case)
    watch(here, mode, never_fail=True)
    break_it(here)

    with pytest.raises(compat.AirflowSkipException):
        sense(here, mode)


@pytest.mark.usefixtures("_clock")
@every_sensor
@every_vendor
def test_a_wrong_field_is_none_either_where_the_timeout_comes_first(
    scene: Set, case: Case, mode: str
) -> None:
    here = scene(case)
    watch(here, mode, soft_fail=True, timeout=200)
    here.trouble(1e9, wrong_port)

    with pytest.raises(ConnectionUnusable, match="localhost:8000/asked"):
        sense(here, mode)

    assert here.world.elapsed() < 300


@pytest.mark.usefixtures("_clock")
@every_sensor
@every_vendor
def test_an_outage_until_the_timeout_is_a_soft_failure(
    scene: Set, case: Case, mode: str
) -> None:
    here = scene(case)
    watch(here, mode, soft_fail=True, timeout=200)
    here.trouble(1e9, outage)

    with pytest.raises(compat.AirflowSkipException):
        sense(here, mode)


@every_vendor
@pytest.mark.parametrize("setting", ["soft_fail", "never_fail"])
def test_a_refusal_ends_a_sensor_on_the_triggerer_in_the_same_way(
    scene: Set, case: Case, setting: str
) -> None:
    here = scene(case)
    watch(here, "deferrable", end_from_trigger=True, **{setting: True})
    deferral = deferred(here.task.execute())
    fault = Fault(kind="status", status=401, times=None)
    here.world.vendor.faults.add(fault)

    event = here.task.end(deferral)

    expected = {"soft_fail": TaskFailedEvent, "never_fail": TaskSkippedEvent}[setting]
    assert type(event) is expected


@every_vendor
@pytest.mark.parametrize("setting", ["soft_fail", "never_fail"])
def test_an_event_that_cannot_be_trusted_is_a_broken_configuration(
    scene: Set, case: Case, setting: str
) -> None:
    here = scene(case)
    watch(here, "deferrable", **{setting: True})
    deferral = deferred(here.task.execute())
    wanted = {"soft_fail": EventUnusable, "never_fail": compat.AirflowSkipException}

    with pytest.raises(wanted[setting]):
        here.task.resume(deferral, {"v": 99})


@every_vendor
@pytest.mark.parametrize("setting", ["soft_fail", "never_fail"])
def test_a_trigger_that_broke_is_no_timeout(
    scene: Set, case: Case, setting: str
) -> None:
    here = scene(case)
    watch(here, "deferrable", **{setting: True})
    deferred(here.task.execute())
    sensor: Any = here.task.make()
    wanted = {
        "soft_fail": compat.TaskDeferralError,
        "never_fail": compat.AirflowSkipException,
    }

    with pytest.raises(wanted[setting]):
        sensor.resume_execution("__fail__", {"error": "x"}, here.task.context())

    with pytest.raises(compat.AirflowSkipException):
        sensor.resume_execution(
            "__fail__", {"error": "Trigger timeout"}, here.task.context()
        )
