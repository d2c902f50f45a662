"""An auth manager whose user ``viewer`` may read one DAG."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import (
    SimpleAuthManager,
)

READABLE = "sales"


class OneDagAuthManager(SimpleAuthManager):
    """Airflow's simple auth manager, with rights per DAG."""

    def is_authorized_dag(self, **asked: Any) -> bool:
        """Return whether a user may do something with a DAG."""
        details = asked.get("details")
        dag_id = None if details is None else details.id
        if asked["user"].username == "viewer" and dag_id not in {None, READABLE}:
            return False

        return super().is_authorized_dag(**asked)

    def filter_authorized_dag_ids(self, **asked: Any) -> set[str]:
        """Return those of some DAGs that a user may read."""
        found = set(super().filter_authorized_dag_ids(**asked))
        return found & {READABLE} if asked["user"].username == "viewer" else found
