#!/bin/sh
# airflow-provider-fivetran-async: a sensor by name calls Fivetran at each parse of its DAG.
#
# FivetranSensor takes a connector's name and its destination's in place of an id. One would
# expect it to look the id up when the task runs, as FivetranOperator does with the same two
# arguments. What happens instead: writing the sensor down in a DAG file makes two requests. The
# id is a template field and a cached property, and Airflow reads every template field at the
# end of a task's construction. The DAG processor parses each file again and again, each task
# parses its file when it starts, and an answer of 429 keeps the DAG from being imported.
#
# Who meets it: DAGs with sensors by name, and tests that only import DAG files.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet apache-airflow==3.3.2 \
    apache-airflow-task-sdk==1.3.2 airflow-provider-fivetran-async==2.4.0
export AIRFLOW_HOME="$work/airflow" AIRFLOW__LOGGING__LOGGING_LEVEL=ERROR
export AIRFLOW_CONN_FIVETRAN_DEFAULT='fivetran://key-1:secret-1@'

"$work/venv/bin/python" - <<'PY'
import json
from importlib.metadata import version

import requests

calls = []


def answer(adapter, request, **kwargs):
    """Answer in Fivetran's place: one destination with one connector."""
    calls.append(f"{request.method} {request.url}")
    items = [{"id": "orders_id", "name": "warehouse", "schema": "orders"}]
    response = requests.Response()
    response.status_code, response.request, response.url = 200, request, request.url
    response._content = json.dumps({"code": "Success", "data": {"items": items}}).encode()
    return response


requests.adapters.HTTPAdapter.send = answer

from airflow.sdk import DAG
from fivetran_provider_async.operators import FivetranOperator
from fivetran_provider_async.sensors import FivetranSensor

print("airflow-provider-fivetran-async", version("airflow-provider-fivetran-async"), end=", ")
print("apache-airflow", version("apache-airflow"))
made = {}
by_name = {"connector_name": "orders", "destination_name": "warehouse"}
with DAG("load", schedule=None):
    for operator in (FivetranOperator, FivetranSensor):
        calls.clear()
        operator(task_id=operator.__name__, **by_name)
        made[operator.__name__] = list(calls)
        print(f"requests while {operator.__name__} is constructed: {calls}")

assert made["FivetranOperator"] == []
assert len(made["FivetranSensor"]) == 2
PY
