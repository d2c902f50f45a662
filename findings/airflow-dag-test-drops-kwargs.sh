#!/bin/sh
# Airflow: dag.test() loses the kwargs of a deferral, which a scheduler passes on.
#
# An operator that defers gives kwargs for the method that resumes it, and the trigger adds an
# event. One would expect dag.test(), which runs the trigger in line, to call the method with
# both, as a worker does. What happens instead: it keeps the event and drops the kwargs. A method
# that needs them fails with a TypeError in dag.test() alone. One with defaults resumes as if it
# had deferred for the first time, so a task that counts its tries there never ends.
#
# Who meets it: authors of operators that defer more than once, when users try a DAG out.
set -eu
work=$(mktemp -d)
end() {
    if [ -f "$work/group" ]; then
        group=$(cat "$work/group")
        kill -s TERM -- "-$group" 2>/dev/null || true
        sleep 5
        kill -s KILL -- "-$group" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap end EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet apache-airflow==3.3.2 \
    apache-airflow-task-sdk==1.3.2 apache-airflow-providers-standard==1.21.0
export PATH="$work/venv/bin:$PATH" AIRFLOW_HOME="$work/airflow"
export AIRFLOW__CORE__LOAD_EXAMPLES=False
port=$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export AIRFLOW__API__HOST=127.0.0.1 AIRFLOW__API__PORT="$port"
export AIRFLOW__API__BASE_URL="http://localhost:$port"
export AIRFLOW__CORE__EXECUTION_API_SERVER_URL="http://localhost:$port/execution/"
export AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION=False
mkdir -p "$AIRFLOW_HOME/dags"
cat >"$AIRFLOW_HOME/dags/deferring.py" <<'PY'
from datetime import timedelta
from importlib.metadata import version

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator


class Deferring(BaseOperator):
    def execute(self, context):
        self.defer(
            # A scheduler takes some seconds to notice that the task has left its worker.
            trigger=TimeDeltaTrigger(timedelta(seconds=15)),
            method_name="go_on",
            kwargs={"carried": "from execute"},
        )

    def go_on(self, context, carried="nothing", event=None):
        return carried


with DAG("deferring", schedule=None) as dag:
    Deferring(task_id="task")

if __name__ == "__main__":
    run = dag.test()
    (ti,) = run.get_task_instances()
    print("apache-airflow", version("apache-airflow"))
    print(f"dag.test(): {ti.state}, carried: {ti.xcom_pull(task_ids='task')}")
PY
cd "$work"
airflow db migrate >log 2>&1
python "$AIRFLOW_HOME/dags/deferring.py" >out 2>log || { cat log; exit 1; }
grep -E '^(apache-airflow|dag.test)' out
grep -q '^dag.test(): success, carried: nothing$' out

setsid sh -c 'echo $$ >group; exec airflow standalone' >standalone 2>&1 &
tries=0
until airflow dags trigger deferring --run-id by-the-scheduler >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 30 ] || { tail -40 standalone; exit 1; }
    sleep 2
done
cat >read.py <<'PY'
import sqlite3, sys, os
with sqlite3.connect(os.path.join(os.environ["AIRFLOW_HOME"], "airflow.db")) as db:
    where = "run_id = 'by-the-scheduler'"
    ((state,),) = db.execute(f"SELECT state FROM task_instance WHERE {where}")
    found = db.execute(
        f"SELECT value FROM xcom WHERE {where} AND key = 'return_value'"
    ).fetchall()
if state not in ("success", "failed"):
    sys.exit(3)
print(f"scheduler: {state}, carried: {found[0][0] if found else None}")
PY
tries=0
until python read.py >out 2>log; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || { cat log; tail -40 standalone; exit 1; }
    sleep 2
done
cat out
grep -q '^scheduler: success, carried: "from execute"$' out
