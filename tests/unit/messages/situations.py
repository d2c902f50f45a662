"""What a task may meet, for every vendor: each makes log lines, an event, an exception."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from async_triggers.deferral.compat import AirflowException, AirflowSkipException
from async_triggers.simulator import Fault
from tests.airflow_versions import call_on_kill
from tests.unit.deferral.stage import (
    Deferral,
    Task,
    deferred,
    resumed,
    scheduled,
    the_event,
)

if TYPE_CHECKING:
    from tests.unit.deferral.vendors import VendorWorld
    from tests.vendors import Entry as Case

OUTAGE = Fault(kind="status", status=503, times=None)
REFUSED = Fault(kind="status", status=401, times=None)

MODES: tuple[dict[str, Any], ...] = (
    {},
    {"deferrable": False},
    {"start_in_trigger": True},
)

Situation = Callable[["Scene"], Any]
SITUATIONS: dict[str, Situation] = {}


class Scene:
    """One vendor, and a task that collects the messages that people see."""

    def __init__(self, world: VendorWorld, case: Case) -> None:
        self.world = world
        self.case = case
        self.texts: list[str] = []

    def task(self, *lives: str, **arguments: Any) -> Task:
        """Return a task of an operator whose jobs take these lives."""
        self.world.add_target(*lives)
        return Task(self.world, self.case.sync(**arguments))

    def sensor(self, life: str, **arguments: Any) -> Task:
        """Return a task of a sensor for somebody else's job."""
        self.world.add_target()
        job = self.world.add_foreign(life)
        return Task(self.world, self.case.sensor(job, **arguments))

    def connect(self, **fields: str) -> None:
        """Change the Airflow connection."""
        given = {
            "conn_type": self.case.name,
            "host": "http://localhost:8000",
            **self.case.connection,
            **fields,
        }
        self.world.connect(f"{self.case.name}_default", **given)

    def run(self, work: Callable[[], Any]) -> Any:
        """Do something, and keep the message of what it fails with."""
        try:
            return work()
        except (AirflowException, AirflowSkipException) as error:
            self.texts.append(str(error))
            return None

    def wait(self, task: Task, deferral: Deferral) -> Any:
        """Let the triggerer wait, and keep the message of the event."""
        event = task.wait(deferral)
        if isinstance(event, dict):
            self.texts.append(event["message"])

        return event


def situation(work: Situation) -> Situation:
    """Add a situation."""
    SITUATIONS[work.__name__.lstrip("_")] = work
    return work


@situation
def _an_end_of_each_kind(scene: Scene) -> None:
    for end in scene.case.ends:
        for mode in MODES:
            task = scene.task(scene.case.life(end), **mode)
            outcome = scene.run(task.execute)
            if isinstance(outcome, Deferral):
                event = scene.wait(task, outcome)
                scene.run(partial(task.resume, outcome, event))


@situation
def _an_end_seen_by_a_sensor(scene: Scene) -> None:
    for end in scene.case.ends:
        scene.run(scene.sensor(scene.case.life(end)).run)
        task = scene.sensor(scene.case.life(end), start_from_trigger=True)
        event = asyncio.run(the_event(scheduled(task)))
        scene.texts.append(event["message"])
        scene.run(partial(resumed, task, event))


@situation
def _a_timeout(scene: Scene) -> None:
    for cancels in (True, False):
        task = scene.task(scene.case.life(), timeout=100, cancel_on_timeout=cancels)
        scene.run(task.run)

    scene.run(scene.sensor(scene.case.life(), timeout=100).run)


@situation
def _a_timeout_whose_cancel_is_not_answered(scene: Scene) -> None:
    task = scene.task(scene.case.life(), timeout=100)
    deferral = deferred(task.execute())
    scene.world.vendor.faults.add(OUTAGE)
    event = scene.wait(task, deferral)
    scene.run(lambda: task.resume(deferral, event))


@situation
def _a_retry(scene: Scene) -> None:
    task = scene.task(scene.case.life("error"), scene.case.life("success"))
    task.execute()
    task.retry()
    scene.run(task.run)
    task.retry()
    scene.run(task.run)


@situation
def _a_retry_with_other_arguments(scene: Scene) -> None:
    task = scene.task(scene.case.life(), scene.case.life("success"))
    task.execute()
    task.retry()
    if scene.case.target_key in scene.case.changed:
        other = scene.case.changed[scene.case.target_key]
        scene.case.add_target(scene.world.vendor, other, scene.case.life("success"))

    task.make = scene.case.sync(**scene.case.changed)
    scene.run(task.execute)


@situation
def _a_clear(scene: Scene) -> None:
    task = scene.task(scene.case.life(), scene.case.life("success"))
    task.execute()
    task.clear()
    scene.run(task.run)


@situation
def _a_retry_in_an_outage(scene: Scene) -> None:
    task = scene.task(scene.case.life(), timeout=600)
    task.execute()
    task.retry()
    scene.world.vendor.faults.add(OUTAGE)
    scene.run(task.run)


@situation
def _a_job_of_somebody_else(scene: Scene) -> None:
    if "if_running" not in scene.case.attaches:
        task = scene.task(scene.case.life("success"), **scene.case.attaches)
        scene.world.add_foreign(scene.case.life("success", lasts=100))
        scene.run(task.run)
        return

    for choice in ("wait", "attach", "fail", "skip"):
        task = scene.task(scene.case.life("success"), if_running=choice)
        scene.world.add_foreign(scene.case.life("success", lasts=100))
        scene.run(task.run)
        scene.world.pass_time(200)


@situation
def _a_lost_start(scene: Scene) -> None:
    lost = Fault(
        kind="reset",
        takes_effect=True,
        **scene.case.start,
    )
    scene.world.vendor.faults.add(lost)
    scene.run(scene.task(scene.case.life("success")).run)
    scene.world.vendor.faults.add(lost)
    scene.run(scene.task(scene.case.life("success"), start_in_trigger=True).run)


@situation
def _an_outage_at_the_start(scene: Scene) -> None:
    for mode in MODES:
        scene.world.vendor.faults.clear()
        scene.world.vendor.faults.add(OUTAGE)
        scene.run(scene.task(scene.case.life(), timeout=300, **mode).run)


@situation
def _an_outage_at_a_sensors_look(scene: Scene) -> None:
    task = scene.sensor(scene.case.life(), timeout=300)
    scene.world.vendor.faults.add(OUTAGE)
    scene.run(task.run)


@situation
def _a_key_that_is_withdrawn_while_it_waits(scene: Scene) -> None:
    task = scene.task(scene.case.life())
    deferral = deferred(task.execute())
    scene.world.vendor.faults.add(REFUSED)
    event = scene.wait(task, deferral)
    scene.run(lambda: task.resume(deferral, event))


@situation
def _a_key_that_is_refused_at_once(scene: Scene) -> None:
    for mode in ({}, {"start_in_trigger": True}):
        scene.world.vendor.faults.clear()
        scene.world.vendor.faults.add(REFUSED)
        scene.run(scene.task(scene.case.life(), **mode).run)


@situation
def _an_event_of_another_job(scene: Scene) -> None:
    other = "other@~~" if scene.case.job_is_target else 4711
    for make in (scene.task, scene.sensor):
        task = make(scene.case.life("success", lasts=300))
        deferral = deferred(task.execute())
        event = scene.wait(task, deferral)
        task.resume(deferral, {**event, "job_id": other})


@situation
def _a_kill(scene: Scene) -> None:
    async def kill(task: Task, deferral: Deferral, after: float) -> None:
        trigger = task.trigger(deferral)
        waiting = asyncio.create_task(the_event(trigger))
        await asyncio.sleep(after)
        waiting.cancel()
        await call_on_kill(trigger)
        # What it has begun goes on by itself.
        await asyncio.sleep(2000)

    for trouble in (None, OUTAGE, REFUSED):
        for state in ("failed", "deferred", "up_for_retry", None):
            scene.world.vendor.faults.clear()
            task = scene.task(scene.case.life())
            deferral = deferred(task.execute())
            scene.world.states["sync", -1] = state
            if trouble is not None:
                scene.world.vendor.faults.add(trouble)

            asyncio.run(kill(task, deferral, 30))


@situation
def _a_connection_that_is_wrong(scene: Scene) -> None:
    for fields in (
        {"login": "", "password": ""},
        {"login": "", "password": "x"},
        {"login": "x", "password": ""},
        {"host": "http://user:password@localhost"},
        {"host": "ftp://localhost"},
        {"host": ""},
        {"schema": "http://"},
        {"extra": "no JSON"},
        {"extra": "[]"},
        {"extra": '{"verify": 5}'},
        {"extra": '{"proxies": "ftp://proxy"}'},
        {"extra": '{"proxies": 5}'},
        {"extra": '{"timeout": "soon"}'},
        {"extra": '{"auth": "oauth"}'},
        {"extra": '{"ui_url": "ftp://ui"}'},
        {"extra": '{"trial": "perhaps"}'},
        {"extra": '{"requests_per_minute": -1}'},
    ):
        scene.connect(**fields)
        scene.run(scene.task(scene.case.life("success")).execute)


@situation
def _a_connection_that_looks_wrong(scene: Scene) -> None:
    """Trouble that speaks against the host, until that is believed."""
    for fault in (
        Fault(kind="html", times=None),
        Fault(kind="proxy", answer="moved-301", times=None),
        Fault(kind="proxy", answer="nginx-404", times=None),
    ):
        for mode in MODES:
            scene.world.vendor.faults.clear()
            scene.world.vendor.faults.add(fault)
            scene.run(scene.task(scene.case.life("success"), **mode).run)


@situation
def _a_host_with_another_path(scene: Scene) -> None:
    for mode in MODES:
        scene.connect(host="http://localhost:8000/elsewhere")
        scene.run(scene.task(scene.case.life("success"), **mode).run)
