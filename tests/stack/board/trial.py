"""An operator's trial in the demo's Airflow: scripts/screenshots.

Dozens of tasks wait. One account is rate limited, and the key of another is revoked; one
DAG has waited for longest. All that is printed and photographed is what an operator has:
StatsD's datagrams, the page and ``async-triggers check``. Nothing else is read.
"""

from __future__ import annotations

import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from async_triggers.demo.deployment import Deployment
from async_triggers.demo.run import Demo, arrange
from async_triggers.demo.scenarios import SCENARIOS, Scenario
from async_triggers.simulator import Fault, Simulator, SimulatorThread
from tests.stack.board.stage import PAGE, ROOT, browser

NEVER_END = {
    "airbyte": "pending:1 running",
    "fivetran": "scheduled:1 syncing",
    "dbt_cloud": "queued:1 starting:1 running",
}
DAGS = ("airbyte_deferrable", "fivetran_ten_syncs", "dbt_cloud_ten_runs")
"""The one that is to be the oldest comes first."""
HEAD_START = 90.0
"""Seconds that the oldest job waits before the others."""
LONG = 300.0
METRICS = (
    [".rate_limited"],
    [".paused_seconds"],
    [".in_trouble"],
    [".requests", "status=4"],
    [".oldest_job"],
)
"""Words of the lines that say what is wrong."""
RATE_LIMIT = 1800
"""Seconds for which the vendor refuses all requests of the account."""

PAUSE = threading.Event()


class Listener:
    """What ``nc -klu`` would show: the latest line of each metric of the package."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.latest: dict[str, str] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            for line in self._socket.recv(65536).decode().splitlines():
                if "async_triggers." in line:
                    self.latest[line.partition(":")[0]] = line

    def lines(self, *words: str) -> list[str]:
        """Return the latest lines with all of these words."""
        latest = sorted(self.latest.values())
        return [line for line in latest if all(word in line for word in words)]


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + LONG
    while not condition():
        if time.monotonic() > ends:
            msg = f"{what} did not come"
            raise TimeoutError(msg)

        PAUSE.wait(1.0)


@contextmanager
def waiting_airflow(
    home: Path, simulator: Simulator, listener: Listener
) -> Iterator[Deployment]:
    """Run the demo's Airflow with jobs that never end."""
    chosen: list[Scenario] = [
        replace(scenario, life=NEVER_END[scenario.vendor])
        for scenario in SCENARIOS
        if scenario.dag_id in DAGS
    ]
    arrange(simulator, chosen)
    deployment = Deployment(
        home,
        dags=[Path(str(files("async_triggers"))) / "example_dags"],
        config={
            "workers": {"min_heartbeat_interval": "1"},
            "metrics": {
                "statsd_on": "True",
                "statsd_host": "127.0.0.1",
                "statsd_port": str(listener.port),
                "statsd_prefix": "airflow",
                "statsd_influxdb_enabled": "True",
            },
        },
        template=ROOT / ".airflow",
        say=show,
    )
    with deployment:
        Demo(deployment, simulator, chosen, (), began=time.monotonic()).connect()
        yield deployment


def show(text: str) -> None:
    """Print what an operator sees."""
    print(text, flush=True)  # noqa: T201 - what the script is for


def try_out(folder: Path) -> None:
    """Have the trouble made, show what is seen of it, and store the screenshots."""
    listener = Listener()
    with (
        tempfile.TemporaryDirectory() as home,
        SimulatorThread() as simulator,
        waiting_airflow(Path(home) / "airflow", simulator, listener) as airflow,
        browser() as chromium,
    ):
        for at, dag_id in enumerate(DAGS):
            run = airflow.api.trigger_run(dag_id)
            wait_for(
                lambda run=run: (
                    {  # type: ignore[misc]
                        each.state for each in airflow.api.task_instances(run)
                    }
                    == {"deferred"}
                ),
                f"the deferral of {dag_id}",
            )
            if at == 0:
                PAUSE.wait(HEAD_START)

        simulator.fivetran.faults.add(
            Fault(kind="status", status=429, retry_after=RATE_LIMIT, times=None)
        )
        simulator.dbt_cloud.configure(tokens=("another-token",))
        wait_for(lambda: listener.lines("rate_limited"), "a metric of the limit")
        wait_for(
            lambda: [line for line in listener.lines("in_trouble") if ":1|" in line],
            "a metric of trouble",
        )
        # Two reports more.
        PAUSE.wait(25.0)
        for words in METRICS:
            show("\n".join(listener.lines(*words)))

        for conn_id in ("fivetran", "dbt_cloud", "airbyte"):
            check(airflow, f"{conn_id}_conn_example")

        photograph(chromium, airflow, folder)


def check(airflow: Deployment, conn_id: str) -> None:
    """Show what the command prints about a connection."""
    done = airflow.python("-m", "async_triggers", "check", conn_id)
    show(
        f"$ async-triggers check {conn_id}\n{done.stdout}[exit code {done.returncode}]"
    )


def photograph(chromium: Any, airflow: Deployment, folder: Path) -> None:
    """Store what the page shows: all that waits, and the tasks of one account."""
    folder.mkdir(parents=True, exist_ok=True)
    size = {"width": 1280, "height": 420}
    context = chromium.new_context(locale="en-GB", timezone_id="UTC", viewport=size)
    page = context.new_page()
    page.goto(airflow.url + PAGE)
    page.wait_for_selector("#rows tr")
    show(page.inner_text("#summary"))
    page.screenshot(path=folder / "monitor-oldest.png")
    page.fill("#filter", "dbt_cloud_conn_example")
    page.wait_for_function("document.querySelectorAll('#rows tr').length === 10")
    show(re.sub(r"\s+", " ", page.inner_text("#summary")))
    page.screenshot(path=folder / "monitor-account.png")
    context.close()


if __name__ == "__main__":
    try_out(Path(sys.argv[1]))
