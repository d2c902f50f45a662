"""The demo: a real Airflow, simulated vendors, and the example DAGs in between."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import signal
import threading
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from async_triggers.demo.airflow_api import (
    AirflowApiError,
    DeadlinePassedError,
    Run,
)
from async_triggers.demo.deployment import (
    Deployment,
    DeploymentError,
    stop_leftovers,
)
from async_triggers.demo.measure import (
    JobTimes,
    Moment,
    conclude,
    most_at_once,
    sample,
    wrong_events,
)
from async_triggers.demo.scenarios import (
    EVENT_SCENARIOS,
    SCENARIOS,
    STATUS_REQUESTS,
)
from async_triggers.demo.show import Progress, summary, unfinished
from async_triggers.simulator.connections import connection_variables
from async_triggers.simulator.server import Simulator, SimulatorThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from async_triggers.demo.scenarios import EventScenario, Scenario

# What each vendor's jobs are jobs of: its kind in the simulator, and how one is named.
# A schedule names it by the first of these.
_TARGETS: dict[str, tuple[str, Callable[[str], dict[str, object]]]] = {
    "airbyte": ("connections", lambda name: {"connection_id": name, "name": name}),
    "fivetran": ("connections", lambda name: {"connection_id": name, "schema": name}),
    "dbt_cloud": ("jobs", lambda name: {"job_id": int(name), "name": f"Job {name}"}),
}

_EVERY = 1.0
# On a busy machine of two cores, half of the tasks had not ended after five minutes.
_DEADLINE = 900.0
_PARALLELISM = 4
_INTERRUPTED = 130


class DemoError(RuntimeError):
    """The demo cannot be run like this; the message says what to do."""


def run(
    *,
    home: Path,
    keep: bool = False,
    scenarios: Sequence[Scenario] = SCENARIOS,
    events: Sequence[EventScenario] = EVENT_SCENARIOS,
    dags: Path | None = None,
    console: Console | None = None,
) -> int:
    """Run the demo and return its exit code: 0 if all was as expected, else 1.

    ``home`` becomes Airflow's home directory; what an earlier demo left there is
    removed. With ``keep`` everything stays up until Ctrl-C. ``dags`` is the folder of
    the scenarios' DAGs, by default that of the example DAGs.
    """
    shown = console or Console()
    try:
        with _alone_in(home), _terminated_as_interrupted():
            return _run(
                home=home,
                keep=keep,
                scenarios=scenarios,
                events=events,
                dags=dags or Path(str(files("async_triggers"))) / "example_dags",
                console=shown,
            )
    except KeyboardInterrupt:
        shown.print("Interrupted; everything is stopped.")
        return _INTERRUPTED
    except (AirflowApiError, DeadlinePassedError, DemoError, DeploymentError) as error:
        shown.print(f"The demo failed: {error}", markup=False, highlight=False)
        return 1


def _run(
    *,
    home: Path,
    keep: bool,
    scenarios: Sequence[Scenario],
    events: Sequence[EventScenario],
    dags: Path,
    console: Console,
) -> int:
    began = time.monotonic()

    def say(what: str) -> None:
        elapsed = time.monotonic() - began
        console.print(f"{elapsed:5.0f} s  {what}", highlight=False, soft_wrap=True)

    with SimulatorThread() as simulator:
        arrange(simulator, scenarios, events)
        for vendor, url in simulator.urls.items():
            say(f"simulated {vendor} at {url}")
        deployment = Deployment(
            home,
            dags=[dags],
            parallelism=_PARALLELISM,
            # Four slots for dozens of tasks: none should be held after a deferral.
            config={"workers": {"min_heartbeat_interval": "1"}},
            template=home.parent,
            say=say,
        )
        with deployment:
            say(f"Airflow's files are in {home}")
            say(f"Airflow answers at {deployment.url}")
            demo = Demo(deployment, simulator, scenarios, events, began=began)
            demo.connect()
            say("waiting until Airflow has parsed the DAGs")
            demo.start()
            say(f"running {', '.join(scenario.dag_id for scenario in scenarios)}")
            if events:
                names = ", ".join(each.dag_id for each in events)
                say(f"unpaused, for events to start: {names}")
            with Progress(console, scenarios) as progress:
                demo.watch(progress)
            good = demo.finish(console)
            say("all as expected" if good else "NOT as expected, see above")
            if keep:
                say(f"Airflow stays up at {deployment.url} until Ctrl-C")
                with contextlib.suppress(KeyboardInterrupt):
                    threading.Event().wait()
            say("stopping everything")
    say("everything is stopped")
    return 0 if good else 1


def arrange(
    simulator: Simulator,
    scenarios: Sequence[Scenario],
    events: Sequence[EventScenario] = (),
) -> None:
    """Put what the scenarios start jobs of into the simulated vendors.

    And what the vendors themselves start, from now on.
    """
    scheduled = [each for event in events for each in event.scheduled]
    for vendor in simulator.vendors:
        kind, named = _TARGETS[vendor.name]
        wanted = [
            {
                **named(target),
                "lives": [scenario.life],
                **scenario.details.get(target, {}),
            }
            for scenario in scenarios
            if scenario.vendor == vendor.name
            for target in scenario.targets
        ]
        ours = [each for each in scheduled if each.vendor == vendor.name]
        wanted += [{**named(each.target), "lives": [each.life]} for each in ours]
        vendor.arrange(
            **{kind: wanted},
            schedules=[
                {"target": next(iter(named(each.target).values())), "every": each.every}
                for each in ours
            ],
        )


class Demo:
    """The runs of all scenarios: started, watched, judged."""

    def __init__(
        self,
        deployment: Deployment,
        simulator: Simulator,
        scenarios: Sequence[Scenario],
        events: Sequence[EventScenario],
        *,
        began: float,
    ) -> None:
        self._deployment = deployment
        self._simulator = simulator
        self._scenarios = scenarios
        self._events = events
        self._began = began
        self._runs: dict[str, Run] = {}
        self._moments: list[Moment] = []

    def connect(self) -> None:
        """Store the connections that the DAGs use, so that the UI shows them too."""
        variables = connection_variables(self._simulator)
        vendors = {each.conn_id: each.vendor for each in self._scenarios}
        for event in self._events:
            vendors.update({each.conn_id: each.vendor for each in event.scheduled})
        for conn_id, vendor in vendors.items():
            fields = json.loads(variables[f"AIRFLOW_CONN_{vendor.upper()}_DEFAULT"])
            self._deployment.api.add_connection(conn_id, **fields)

    def start(self) -> None:
        """Let events start DAGs from now on, and start a run of every scenario."""
        for event in self._events:
            self._deployment.api.unpause(event.dag_id)
        for scenario in self._scenarios:
            self._runs[scenario.dag_id] = self._deployment.api.trigger_run(
                scenario.dag_id
            )

    def watch(self, progress: Progress) -> None:
        """Show what happens until all runs are over.

        Raises `DeadlinePassedError` if that takes more than fifteen minutes.
        """

        def over() -> bool:
            moment = self._look()
            self._moments.append(moment)
            progress.show(moment)
            return moment.over

        self._deployment.api.wait_until(
            over,
            what="all runs to be over",
            timeout=_DEADLINE,
            every=_EVERY,
            instead=lambda: unfinished(self._moments[-1]),
        )

    def finish(self, console: Console) -> bool:
        """Print the summary and return whether all was as expected."""
        jobs = self._jobs()
        outcomes = [
            conclude(
                scenario,
                tasks=self._deployment.api.task_instances(self._runs[scenario.dag_id]),
                jobs=jobs,
                moments=self._moments,
            )
            for scenario in self._scenarios
        ]
        used = {scenario.vendor for scenario in self._scenarios}
        console.print(
            summary(
                outcomes,
                requested={
                    vendor.name: dict(vendor.record.requests)
                    for vendor in self._simulator.vendors
                    if vendor.name in used
                },
                status_requests=STATUS_REQUESTS,
                at_once=most_at_once(jobs),
                events=self._events,
                runs=self._moments[-1].events,
            )
        )
        return not any(outcome.wrong for outcome in outcomes) and not any(
            wrong_events(self._moments[-1].events)
        )

    def _look(self) -> Moment:
        running = [
            job.target for vendor in self._simulator.vendors for job in vendor.jobs()
        ]
        return Moment(
            elapsed=time.monotonic() - self._began,
            samples={
                scenario.dag_id: sample(
                    self._deployment.api.task_instances(self._runs[scenario.dag_id]),
                    sum(target in scenario.targets for target in running),
                )
                for scenario in self._scenarios
            },
            requests=sum(vendor.record.total for vendor in self._simulator.vendors),
            capacity=self._deployment.parallelism,
            events={
                event.dag_id: self._deployment.api.run_states(event.dag_id)
                for event in self._events
            },
        )

    def _jobs(self) -> list[JobTimes]:
        found = []
        for vendor in self._simulator.vendors:
            running = {job.job for job in vendor.jobs()}
            found += [
                JobTimes(
                    target=job.target,
                    start=job.created,
                    end=None if job.job in running else job.since,
                )
                for job in vendor.jobs(finished=True)
            ]
        return found


@contextlib.contextmanager
def _alone_in(home: Path) -> Iterator[None]:
    """Empty the home of an earlier demo and keep others out of it."""
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another demo runs in {home}; name another place with --home"
            raise DemoError(message) from None
        if home.exists():
            if any(home.iterdir()) and not (home / "airflow.cfg").exists():
                message = (
                    f"{home} holds other things than a demo's Airflow; name an empty "
                    "or new directory with --home"
                )
                raise DemoError(message)
            # The lock is ours: the demo that began them is gone.
            stop_leftovers(home)
            shutil.rmtree(home)
        yield


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the demo as Ctrl-C does: with everything stopped.

    SIGINT too: a shell starts what it runs in the background with SIGINT ignored. Only the
    first of them: the end must not be interrupted.
    """
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: object) -> None:
        for each in caught:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
