#!/bin/sh
# Airflow: watchers whose triggers are equal lose their names to one another.
#
# An AssetWatcher has a name and a trigger. One would expect two assets, each with a watcher of
# its own name, to have just these watchers, and one asset with two watchers to have both, even
# where the triggers have the same arguments. What happens instead: Airflow keeps one trigger
# for all that are equal, and one of their names with it. The asset "orders" is then
# watched under the name that belongs to "prices", and of the two watchers of "stock" one is gone.
# No line in a log says so.
#
# Who meets it: DAGs that hang several assets on one external event (one sync that loads many
# tables), and everyone who identifies watchers by name in the API or in the database.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet apache-airflow==3.3.2 \
    apache-airflow-task-sdk==1.3.2 apache-airflow-providers-standard==1.21.0
export PATH="$work/venv/bin:$PATH" AIRFLOW_HOME="$work/airflow"
export AIRFLOW__CORE__LOAD_EXAMPLES=False
mkdir -p "$AIRFLOW_HOME/dags"
cat >"$AIRFLOW_HOME/dags/watch.py" <<'PY'
from airflow.providers.standard.triggers.file import FileDeleteTrigger
from airflow.sdk import DAG, Asset, AssetWatcher


def watcher(name, path):
    return AssetWatcher(name=name, trigger=FileDeleteTrigger(filepath=path))


assets = [
    Asset("orders", watchers=[watcher("orders landed", "/landed")]),
    Asset("prices", watchers=[watcher("prices landed", "/landed")]),
    Asset("stock", watchers=[watcher("counted", "/stock"), watcher("corrected", "/stock")]),
]
report = DAG("report", schedule=assets, is_paused_upon_creation=False)
PY
cd "$work"
airflow db migrate >log 2>&1
airflow dags reserialize >log 2>&1

python - <<'PY'
import os
import sqlite3
from importlib.metadata import version

with sqlite3.connect(os.environ["AIRFLOW_HOME"] + "/airflow.db") as database:
    triggers = database.execute("select count(*) from trigger").fetchone()[0]
    query = "select asset.name, w.name from asset_watcher w join asset on asset.id = w.asset_id"
    watchers = database.execute(query + " order by 1, 2").fetchall()
print("apache-airflow", version("apache-airflow"))
print("declared: orders: orders landed; prices: prices landed; stock: counted, corrected")
print("stored:  ", "; ".join(f"{asset}: {name}" for asset, name in watchers))
print("triggers:", triggers)
assert triggers == 2
assert [asset for asset, _ in watchers] == ["orders", "prices", "stock"]
assert watchers[0][1] == watchers[1][1]
PY
