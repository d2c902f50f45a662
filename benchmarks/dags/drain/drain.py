"""As many tasks as a triggerer is to wait for; nothing runs them."""

from __future__ import annotations

import os

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

with DAG("drain", schedule=None):
    for number in range(int(os.environ["DRAIN_TASKS"])):
        EmptyOperator(task_id=f"wait_{number}")
