"""The task's own OpenLineage run, as the runs that it has caused name their parent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from airflow.providers.openlineage.plugins.macros import (
    lineage_job_name,
    lineage_job_namespace,
    lineage_root_job_name,
    lineage_root_job_namespace,
    lineage_root_run_id,
    lineage_run_id,
)
from openlineage.common.provider.dbt import ParentRunMetadata


def parent_of(ti: Any) -> ParentRunMetadata:
    """Return the run of a task instance, and that of its DAG, as a parent."""
    return ParentRunMetadata(
        run_id=lineage_run_id(ti),
        job_name=lineage_job_name(ti),
        job_namespace=lineage_job_namespace(),
        root_parent_run_id=lineage_root_run_id(ti),
        root_parent_job_name=lineage_root_job_name(ti),
        root_parent_job_namespace=lineage_root_job_namespace(ti),
    )


def parent_texts(ti: Any) -> Iterator[str]:
    """Write the parent as JSON, from the fullest form to the shortest.

    The form is that of the official provider for dbt Cloud: ``parent`` and ``root``, each
    with ``run.runId``, ``job.namespace`` and ``job.name``.
    """
    known = parent_of(ti)
    parent = _ref(known.run_id, known.job_namespace, known.job_name)
    root = _ref(
        known.root_parent_run_id,
        known.root_parent_job_namespace,
        known.root_parent_job_name,
    )
    yield _text({"parent": parent, "root": root})
    yield _text({"parent": parent})


def _ref(run_id: str, namespace: str, name: str) -> dict[str, Any]:
    return {"run": {"runId": run_id}, "job": {"namespace": namespace, "name": name}}


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
