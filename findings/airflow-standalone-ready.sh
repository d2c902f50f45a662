#!/bin/sh
# Airflow: `airflow standalone` says "Airflow is ready" before its API server answers.
#
# `airflow standalone` starts a scheduler, a DAG processor, a triggerer and an API server, and
# prints "Airflow is ready" when it finds all of them running. One would expect that one can
# open the UI then, and that a task can run. What happens instead: only the first three are
# checked, by their heartbeats in the database. The API server, which is the slowest to start,
# is not, so that a script that waits for this line and then triggers a DAG sees its first tasks
# fail with "Connection refused": workers reach Airflow through the API server alone.
#
# Who meets it: everyone who starts a first Airflow by a script, as in a tutorial or in a CI
# job. How long the gap lasts depends on the machine; here the API server is never started.
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
airflow db migrate >migrate.log 2>&1 || { cat migrate.log; exit 1; }

cat >look.py <<'PY'
import socket
from importlib.metadata import version

from airflow.cli.commands.standalone_command import StandaloneCommand
from airflow.configuration import conf
from airflow.jobs.job import Job
from airflow.utils.session import create_session

KINDS = ("SchedulerJob", "DagProcessorJob", "TriggererJob")


def answers(port):
    with socket.socket() as attempt:
        attempt.settimeout(5)
        return attempt.connect_ex(("127.0.0.1", port)) == 0


standalone = StandaloneCommand()
before = standalone.is_ready()
with create_session() as session:
    for kind in KINDS:
        job = Job()
        job.job_type, job.state = kind, "running"
        session.add(job)

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]

conf.set("api", "port", str(port))
after, served = standalone.is_ready(), answers(port)
print("apache-airflow", version("apache-airflow"))
print(f"ready without any part running: {before}")
print(f"ready with {', '.join(KINDS)} alive: {after}")
print(f"something answers at the API server's port: {served}")
assert (before, after, served) == (False, True, False), "this has changed"
PY
python look.py 2>/dev/null || { echo "the behaviour has changed, or could not be shown"; exit 1; }
