"""One row of the page, from what Airflow stores of a deferred task. Pure, and data alone.

The classes that a trigger's arguments name are not imported: else the author of a DAG would
choose what the API server imports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from async_triggers.engine.errors import RequestRejected
from async_triggers.fivetran.api.models import dashboard_url

PACKAGE: Final = "async_triggers."
LONGEST: Final = 200
"""Characters of a stored value that are shown."""
LONGEST_URL: Final = 2000
"""Characters of an address that is linked to."""

_NAMES: Final = {"airbyte": "Airbyte", "fivetran": "Fivetran", "dbt_cloud": "dbt Cloud"}
_STORED: Final = {"version", "owned", "cancel_on_kill", "cancel_on_timeout"}
"""What every trigger that waits for a job stores."""
_NO_VENDOR: Final = "deferral"
_JOB_KEYS: Final = (
    "airbyte_job_id",
    "job_id",
    "run_id",
    "connector_id",
    "connection_id",
    "connection_name",
    "connector_name",
    "job_name",
)
"""The arguments of triggers and sensors that name a job or what it is a job of."""
_LIST_KEYS: Final = ("targets", "connection_ids", "connector_ids", "job_ids")
"""Those that name several of which the next end is waited for."""
_BETWEEN: Final = ", "
_CONNECTION_KEYS: Final = (
    "conn_id",
    "airbyte_conn_id",
    "fivetran_conn_id",
    "dbt_cloud_conn_id",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a deferred task waits for. Times are in epoch seconds, None if unknown.

    ``job`` is the vendor's id of the job, or of what will be started. ``url`` is empty or
    an http address. ``is_started`` is False while the job is still to be started.
    """

    vendor: str
    job: str
    url: str
    conn_id: str
    deadline: float | None
    is_started: bool


def is_ours(classpath: str, arguments: Mapping[str, Any]) -> bool:
    """Return whether a trigger waits for a job as this package's do.

    One of another package that builds on this one does, and stores the same arguments.
    """
    return classpath.startswith(PACKAGE) or arguments.keys() >= _STORED


def read_waiting(
    classpath: str, arguments: Mapping[str, Any], *, since: float | None
) -> Waiting:
    """Read the stored arguments of a trigger; ``since`` is when it was stored.

    What cannot be read is left empty: the row may be from another release.
    """
    # A trigger that starts a job, or renders a sensor's arguments, carries them.
    inner = next(
        (
            value
            for name in ("request", "query")
            if isinstance(value := arguments.get(name), Mapping)
        ),
        None,
    )
    fields, path = arguments, classpath
    if inner is not None:
        path = str(inner.get("class", ""))
        fields = inner["fields"] if isinstance(inner.get("fields"), Mapping) else {}

    vendor = path.removeprefix(PACKAGE).partition(".")[0]
    if vendor == _NO_VENDOR:
        vendor = ""

    job = _first(fields, _JOB_KEYS) or _listed(fields)
    url = arguments.get("job_url")
    if vendor == "fivetran" and job and inner is None and _BETWEEN not in job:
        url = _dashboard(job)

    return Waiting(
        vendor=_NAMES.get(vendor, vendor[:LONGEST]),
        job=job,
        url=web_address(url),
        conn_id=_first(fields, _CONNECTION_KEYS),
        deadline=_deadline(arguments, since),
        is_started="request" not in arguments,
    )


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((text for each in names if (text := _text(fields.get(each)))), "")


def _listed(fields: Mapping[str, Any]) -> str:
    for name in _LIST_KEYS:
        value = fields.get(name)
        # A list may be text in a DAG, also a template.
        each = value[:LONGEST] if isinstance(value, list | tuple) else [value]
        if text := _BETWEEN.join(filter(None, map(_text, each))):
            return text[:LONGEST]

    return ""


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""

    return str(value)[:LONGEST]


def _dashboard(connection_id: str) -> str:
    try:
        return dashboard_url(connection_id)
    except RequestRejected:
        return ""


def web_address(value: object) -> str:
    """Return an address that a page may link to; empty for anything else."""
    url = value if isinstance(value, str) and len(value) <= LONGEST_URL else ""
    try:
        return url if urlsplit(url).scheme in {"http", "https"} else ""
    except ValueError:
        return ""


def _deadline(arguments: Mapping[str, Any], since: float | None) -> float | None:
    """Return the earliest of the deadlines that a trigger keeps."""
    ends = [arguments.get("end_time"), arguments.get("execution_deadline")]
    for name in ("lasts", "execution_timeout"):
        lasts = arguments.get(name)
        if since is not None and isinstance(lasts, int | float):
            ends.append(since + lasts)

    known = [
        float(each)
        for each in ends
        if isinstance(each, int | float) and math.isfinite(each)
    ]
    return min(known, default=None)
