"""A wrong host in a connection that has never worked, in a whole Airflow."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from async_triggers.demo.airflow_api import FINISHED, DeadlinePassedError
from async_triggers.demo.deployment import Deployment
from async_triggers.simulator import Fault, Simulator, SimulatorThread
from benchmarks.sides import VENDORS, Vendor
from benchmarks.stage import ROOT
from benchmarks.trouble.ends import Ended

if TYPE_CHECKING:
    from async_triggers.demo.airflow_api import AirflowApi, TaskInstance

DAG = "first_contact"
HOOKS = ROOT / "benchmarks" / "hooks"
DOMAIN = ".example.test"
WRONG: Mapping[str, str] = {
    "name": "a first contact: the host's name does not exist",
    "port": "a first contact: the host refuses the port",
    "tls": "a first contact: https to a server that speaks http",
    "page": "a first contact: the host answers 404 with a page",
}
_LOGINS = {
    "airbyte": ("simulator-client", "simulator-secret"),
    "fivetran": ("simulator-key", "simulator-secret"),
    "dbt_cloud": ("70403103916001", "simulator-token"),
}


@contextmanager
def _nothing() -> Iterator[int]:
    """Hold a port that nobody listens on for the length of the block."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def connections(simulator: Simulator, port: int) -> dict[str, dict[str, Any]]:
    """Return a connection for each vendor and wrong address."""
    found = {}
    for vendor in VENDORS:
        login, password = _LOGINS[vendor]
        plain = simulator.urls[vendor]
        hosts = {
            "name": f"https://{vendor.replace('_', '-')}{DOMAIN}",
            "port": f"http://127.0.0.1:{port}",
            "tls": plain.replace("http:", "https:"),
            "page": plain,
        }
        for wrong, host in hosts.items():
            found[f"{wrong}_{vendor}"] = {
                "conn_type": vendor,
                "host": host,
                "login": login,
                "password": password,
            }
    return found


def meet(vendors: Sequence[Vendor], *, limit: float) -> list[Ended]:
    """Run a task with each wrong address, and wait ``limit`` seconds for its failure."""
    with (
        tempfile.TemporaryDirectory(prefix="async-triggers-first-contact-") as home,
        SimulatorThread() as simulator,
        _nothing() as port,
    ):
        for each in simulator.vendors:
            each.faults.add(Fault(kind="proxy", answer="nginx-404", times=None))

        with Deployment(
            Path(home),
            dags=[ROOT / "benchmarks" / "dags" / DAG],
            connections=connections(simulator, port),
            env={
                "PYTHONPATH": f"{HOOKS}:{ROOT}",
                "ASYNC_TRIGGERS_BENCHMARK_UNRESOLVED": DOMAIN,
            },
            parallelism=len(WRONG) * len(VENDORS),
            say=lambda text: print(text, flush=True),
        ) as deployment:
            return _watch(deployment.api, simulator, vendors, limit)


def _watch(
    api: AirflowApi, simulator: Simulator, vendors: Sequence[Vendor], limit: float
) -> list[Ended]:
    run = api.trigger_run(DAG)
    wanted: list[TaskInstance] = []

    def are_over() -> bool:
        tasks = {each.task_id: each for each in api.task_instances(run)}
        wanted[:] = [
            tasks[f"{wrong}_{vendor}"] for wrong in WRONG for vendor in vendors
        ]
        return all(each.state in FINISHED for each in wanted)

    # A task that goes on is a result as well.
    with suppress(DeadlinePassedError):
        api.wait_until(are_over, what="the tasks to end", timeout=limit, every=1.0)

    found = []
    for task in wanted:
        wrong, _, vendor = task.task_id.partition("_")
        log = api.log(run, task.task_id)
        is_page = wrong == "page"
        total = getattr(simulator, vendor).record.total
        found.append(
            Ended(
                name=f"first-{wrong}",
                title=WRONG[wrong],
                vendor=vendor,
                after=_took(task) if task.state == "failed" else None,
                message=last_error(log) if task.state == "failed" else "",
                # The other servers do not answer as the vendor, and count nothing.
                requests=total if is_page else None,
            )
        )
    return found


def _took(task: TaskInstance) -> float:
    begin, end = (
        datetime.fromisoformat(str(each)) for each in (task.start_date, task.end_date)
    )
    return (end - begin).total_seconds()


def last_error(log: str) -> str:
    """Return the message of the exception that a task's log ends with."""
    lines = [line for line in log.splitlines() if " error " in line]
    if not lines:
        return ""

    _, _, text = lines[-1].partition("Task failed with exception ")
    return (text or lines[-1]).partition(": ")[2]
