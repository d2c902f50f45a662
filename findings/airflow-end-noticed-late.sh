#!/bin/sh
# Airflow: a triggerer that is stopped sometimes waits ten seconds for a process that has ended.
#
# On SIGTERM the triggerer's supervisor interrupts the process that runs the triggers and waits for
# its end, for ten seconds until it sends a stronger signal. One would expect it to go on as
# soon as that process is gone. What happens instead: the supervisor is woken by the sockets of
# the process alone. These close a moment before the process has ended, as the memory of many
# triggers takes a while to be freed. If the supervisor checks in that moment, it finds the process
# alive, and then sleeps for all of the ten seconds, since no socket is left to wake it.
#
# Who meets it: everyone who restarts triggerers or measures how long their shutdown takes. It
# is a matter of chance there; here the process lingers for 0.2 s on purpose.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet apache-airflow==3.3.2 \
    apache-airflow-task-sdk==1.3.2 apache-airflow-providers-standard==1.21.0
export PATH="$work/venv/bin:$PATH" AIRFLOW_HOME="$work/airflow"
export AIRFLOW__CORE__LOAD_EXAMPLES=False
cd "$work"

cat >play.py <<'PY'
import os
import signal
import time
from importlib.metadata import version
from uuid import uuid4

import structlog
from airflow.sdk.execution_time.supervisor import WatchedSubprocess

LINGERS = 0.2
DELAY = 3


def end_at_once(*_):
    os._exit(0)


def close_and_linger(*_):
    os.closerange(0, 256)
    time.sleep(LINGERS)
    os._exit(0)


def kill(at_the_end):
    """Return how long the supervisor takes to see the end of a process."""

    def process():
        signal.signal(signal.SIGINT, at_the_end)
        print("ready", flush=True)
        time.sleep(60)

    watched = WatchedSubprocess.start(
        target=process, id=uuid4(), logger=structlog.get_logger()
    )
    began = time.monotonic()
    while time.monotonic() < began + 1:
        watched._service_subprocess(0.2)
    began = time.monotonic()
    # As the triggerer does it, with 10 seconds.
    watched.kill(escalation_delay=DELAY, force=True)
    return time.monotonic() - began


at_once, lingers = kill(end_at_once), kill(close_and_linger)
print("apache-airflow-task-sdk", version("apache-airflow-task-sdk"))
print(f"seconds before a stronger signal:                   {DELAY}")
print(f"seen, of a process that ends at once, after:        {at_once:.1f} s")
print(f"seen, of one that ends {LINGERS} s after its sockets, after: {lingers:.1f} s")
assert at_once < 2 < DELAY <= lingers < DELAY + 2
PY
python play.py >log 2>&1 || { cat log >&2; exit 1; }
grep -e "^apache-airflow" -e "^seconds" -e "^seen" log
