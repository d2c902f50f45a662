"""What is sent to dbt Cloud: paths, parameters, bodies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from async_triggers.dbt_cloud.api.models import UNFINISHED
from async_triggers.engine.jobs import JobState
from async_triggers.engine.paths import segment
from async_triggers.engine.wire import Account, Lane, Request, Source, SourceKind

# https://docs.getdbt.com/dbt-cloud/api-v2#/operations/List%20Runs: "limit" is up to 100.
PAGE = 100
# Seconds by which the window of the feed begins before the last look: the end of a run
# and its time are written a moment before they can be read.
OVERLAP = 60.0
# The end of the feed's window, later than any run ends.
_FAR_FUTURE = "2100-01-01T00:00:00Z"
# A start whose answer was lost shows up at once, a busy server's a little later.
START_GRACE = 30.0
START_TIMEOUT = 60.0
# manifest.json of a large project has many megabytes.
ARTIFACT_TIMEOUT = 300.0
# How many of a job's newest runs are looked through for one that is ours or under way.
NEWEST = 50

# The longest text that the server takes as the cause of a run.
LONGEST_CAUSE = 255
LONGEST_MEMBER = 24
"""What a marker takes at most in a cause that is JSON."""

# https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Trigger%20Job%20Run
RUN_FIELDS = frozenset(
    {
        "cause",
        "git_sha",
        "git_branch",
        "azure_pull_request_id",
        "github_pull_request_id",
        "gitlab_merge_request_id",
        "non_native_pull_request_id",
        "schema_override",
        "dbt_version_override",
        "threads_override",
        "target_name_override",
        "generate_docs_override",
        "timeout_seconds_override",
        "steps_override",
    }
)
"""What the start of a run may hold."""

# How the server wants arrays in a query is not settled: the API's description repeats the
# key, its users send one value in brackets. Both are tried and neither is trusted blindly.
BRACKETS = Source(name="runs by id", kind=SourceKind.IDS, page=PAGE)
REPEATED = Source(name="runs by id, repeated keys", kind=SourceKind.IDS, page=PAGE)
# A run that is cancelled before it began may never have a time of its end.
FEED = Source(
    name="finished runs",
    kind=SourceKind.FEED,
    page=PAGE,
    omits=frozenset({JobState.CANCELLED}),
    ends_only=True,
)
LIVE = Source(name="unfinished runs", kind=SourceKind.LIVE, page=PAGE)


def account_path(account: Account, version: int = 2) -> str:
    """Return where all that belongs to an account is, in a version of the API."""
    return f"/api/v{version}/accounts/{segment(account.account_id, 'account_id')}"


def make_marker(parts: Sequence[object], attempt: int) -> str:
    """Return what is appended to a run's cause, so that the run is found by it."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:10]
    return f" [at:{digest}-{attempt}]"


def make_cause(reason: str, marker: str) -> str:
    """Return the cause of a run, the reason cut so that the marker has its place.

    A JSON object stays one that others can read: the marker is a member of it, if there is
    room.
    """
    if marker and reason.startswith("{") and reason.endswith("}"):
        cause = f"{reason[:-1]},{_as_member(marker)}"
        if len(cause) <= LONGEST_CAUSE:
            return cause

    return reason[: LONGEST_CAUSE - len(marker)] + marker


def bears_marker(cause: str, markers: Sequence[str]) -> bool:
    """Return whether a cause was made with one of some markers."""
    return any(cause.endswith((each.strip(), _as_member(each))) for each in markers)


def _as_member(marker: str) -> str:
    """Write a marker as the last member of a JSON object, and end the object."""
    return f'"at":"{marker.strip()[4:-1]}"}}'


def start_run(account: Account, job_id: int | str, body: Mapping[str, Any]) -> Request:
    """Start a run: https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Trigger%20Job%20Run.

    ``body`` holds ``cause`` and what is overridden. Runs of one job are queued by dbt
    Cloud and run one after another: https://docs.getdbt.com/docs/deploy/job-scheduler
    """
    return Request(
        method="POST",
        path=f"{account_path(account)}/jobs/{segment(job_id, 'job_id')}/run/",
        about=f"the start of a run of job {job_id}",
        json=body,
        lane=Lane.START,
        timeout=START_TIMEOUT,
    )


def retry_run(account: Account, run_id: int | str) -> Request:
    """Retry a failed run from where it failed.

    https://docs.getdbt.com/docs/deploy/retry-jobs. ``jobs/{id}/rerun/`` would take the
    job's latest run, no matter who started it.
    """
    return Request(
        method="POST",
        path=f"{account_path(account)}/runs/{segment(run_id, 'run_id')}/retry/",
        about=f"the retry of run {run_id}",
        lane=Lane.START,
        timeout=START_TIMEOUT,
    )


def rerun_job(account: Account, job_id: int | str) -> Request:
    """Retry the latest run of a job from where it failed.

    https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Rerun%20Job. Where it has not
    failed, a run of the whole job is started.
    """
    return Request(
        method="POST",
        path=f"{account_path(account)}/jobs/{segment(job_id, 'job_id')}/rerun/",
        about=f"the retry of job {job_id}",
        lane=Lane.START,
        timeout=START_TIMEOUT,
    )


def get_run(
    account: Account, run_id: int | str, *, include_related: Sequence[str] = ()
) -> Request:
    """Request a run: https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Retrieve%20Run.

    ``include_related`` adds ``run_steps`` (with their logs), ``trigger``, ``job``.
    """
    return Request(
        method="GET",
        path=f"{account_path(account)}/runs/{segment(run_id, 'run_id')}/",
        about=f"run {run_id}",
        params=_related(include_related),
    )


def cancel_run(account: Account, run_id: int | str) -> Request:
    """Cancel a run: https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Cancel%20Run."""
    return Request(
        method="POST",
        path=f"{account_path(account)}/runs/{segment(run_id, 'run_id')}/cancel/",
        about=f"the cancelling of run {run_id}",
        lane=Lane.CANCEL,
    )


def list_runs(
    account: Account,
    *,
    job_id: int | str | None = None,
    order_by: str | None = None,
    include_related: Sequence[str] = (),
    statuses: Sequence[int] = (),
    limit: int = PAGE,
) -> Request:
    """Request runs: https://docs.getdbt.com/dbt-cloud/api-v2#/operations/List%20Runs.

    Without ``order_by`` the oldest come first. The server may ignore ``statuses``.
    """
    params = list(_related(include_related))
    if job_id is not None:
        params.append(("job_definition_id", segment(job_id, "job_id")))

    if order_by:
        params.append(("order_by", order_by))

    if statuses:
        params.append(("status__in", _brackets([int(each) for each in statuses])))

    return _listing(
        f"{account_path(account)}/runs/", "the list of runs", params, limit=limit
    )


def query_runs(account: Account, query: Mapping[str, object]) -> Request:
    """Request one page of runs with a query of the caller's own."""
    params: list[tuple[str, str]] = []
    for name, value in query.items():
        if name == "include_related" and isinstance(value, list | tuple):
            params += _related([str(each) for each in value])
        elif value is not None:
            many = value if isinstance(value, list | tuple) else [value]
            params += [(name, str(each)) for each in many]

    return Request(
        method="GET",
        path=f"{account_path(account)}/runs/",
        about="the list of runs",
        params=tuple(params),
    )


def get_job(account: Account, job_id: int | str) -> Request:
    """Request a job: https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Retrieve%20Job."""
    return Request(
        method="GET",
        path=f"{account_path(account)}/jobs/{segment(job_id, 'job_id')}/",
        about=f"job {job_id}",
    )


def list_jobs(
    account: Account,
    *,
    project_id: int | str | None = None,
    environment_id: int | str | None = None,
    name_contains: str | None = None,
    order_by: str | None = None,
) -> Request:
    """Request jobs: https://docs.getdbt.com/dbt-cloud/api-v2#/operations/List%20Jobs."""
    params = [
        (name, str(value))
        for name, value in (
            ("project_id", project_id),
            ("environment_id", environment_id),
            ("name__icontains", name_contains),
            ("order_by", order_by),
        )
        if value is not None
    ]
    return _listing(f"{account_path(account)}/jobs/", "the list of jobs", params)


def get_project(account: Account, project_id: int | str) -> Request:
    """Request a project: https://docs.getdbt.com/dbt-cloud/api-v3."""
    return Request(
        method="GET",
        path=f"{account_path(account, 3)}/projects/{segment(project_id, 'project_id')}/",
        about=f"project {project_id}",
    )


def get_environment(
    account: Account, project_id: int | str, environment_id: int | str
) -> Request:
    """Request an environment: https://docs.getdbt.com/dbt-cloud/api-v3."""
    project = segment(project_id, "project_id")
    environment = segment(environment_id, "environment_id")
    return Request(
        method="GET",
        path=f"{account_path(account, 3)}/projects/{project}/environments/{environment}/",
        about=f"environment {environment_id}",
    )


def list_projects(account: Account, *, name_contains: str | None = None) -> Request:
    """Request projects: https://docs.getdbt.com/dbt-cloud/api-v3."""
    return _listing(
        f"{account_path(account, 3)}/projects/",
        "the list of projects",
        _named(name_contains),
    )


def list_environments(
    account: Account, project_id: int | str, *, name_contains: str | None = None
) -> Request:
    """Request the environments of a project: https://docs.getdbt.com/dbt-cloud/api-v3."""
    project = segment(project_id, "project_id")
    return _listing(
        f"{account_path(account, 3)}/projects/{project}/environments/",
        f"the list of environments of project {project_id}",
        _named(name_contains),
    )


def list_accounts() -> Request:
    """Request the accounts of the token: https://docs.getdbt.com/dbt-cloud/api-v2."""
    return Request(method="GET", path="/api/v2/accounts/", about="the accounts")


def get_account(account: Account) -> Request:
    """Request the account: https://docs.getdbt.com/dbt-cloud/api-v2."""
    return Request(
        method="GET",
        path=f"{account_path(account)}/",
        about=f"account {account.account_id}",
    )


def list_artifacts(
    account: Account, run_id: int | str, *, step: int | None = None
) -> Request:
    """Request the paths of a run's artifacts: https://docs.getdbt.com/dbt-cloud/api-v2."""
    return Request(
        method="GET",
        path=f"{account_path(account)}/runs/{segment(run_id, 'run_id')}/artifacts/",
        about=f"the artifacts of run {run_id}",
        params=_step(step),
    )


def get_artifact(
    account: Account, run_id: int | str, path: str, *, step: int | None = None
) -> Request:
    """Request one artifact, of the run's last step if ``step`` names none.

    https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Retrieve%20Run%20Artifact
    """
    place = "/".join(segment(part, "path") for part in path.strip("/").split("/"))
    return Request(
        method="GET",
        path=f"{account_path(account)}/runs/{segment(run_id, 'run_id')}/artifacts/{place}",
        about=f"artifact {path} of run {run_id}",
        params=_step(step),
        timeout=ARTIFACT_TIMEOUT,
    )


@dataclass(frozen=True, slots=True)
class Listing:
    """Where a walk over a plain list is."""

    offset: int
    limit: int


def _listing(
    path: str, about: str, params: Sequence[tuple[str, str]], *, limit: int = PAGE
) -> Request:
    return Request(
        method="GET",
        path=path,
        about=about,
        params=(*params, ("limit", str(limit))),
        note=Listing(0, limit),
    )


def _related(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return (("include_related", ",".join(names)),) if names else ()


def _named(contains: str | None) -> tuple[tuple[str, str], ...]:
    return () if contains is None else (("name__icontains", contains),)


def _step(step: int | None) -> tuple[tuple[str, str], ...]:
    return () if step is None else (("step", str(step)),)


def _brackets(values: Sequence[object]) -> str:
    return json.dumps(values, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Where a walk over a source is, and what it requested."""

    source: str
    root: str
    ids: tuple[str, ...] = ()
    since: float = 0.0
    offset: int = 0
    after: int = 0
    related: tuple[str, ...] = ()


def page_of_runs(walk: Walk) -> Request:
    """Request the page of a source at which a walk is."""
    params = _FILTERS[walk.source](walk)
    if walk.offset:
        params.append(("offset", str(walk.offset)))

    return Request(
        method="GET",
        path=f"{walk.root}/runs/",
        about=f"the {walk.source}",
        params=(*params, *_related(walk.related), ("limit", str(PAGE))),
        note=walk,
    )


def _by_brackets(walk: Walk) -> list[tuple[str, str]]:
    return [("pk__in", _brackets([int(each) for each in walk.ids])), ("order_by", "id")]


def _by_repeated(walk: Walk) -> list[tuple[str, str]]:
    return [*(("pk__in", each) for each in walk.ids), ("order_by", "id")]


def _by_end(walk: Walk) -> list[tuple[str, str]]:
    window = [_moment(walk.since), _FAR_FUTURE]
    return [("finished_at__range", _brackets(window)), ("order_by", "finished_at")]


def _by_state(walk: Walk) -> list[tuple[str, str]]:
    return [
        ("status__in", _brackets([int(each) for each in UNFINISHED])),
        ("id__gt", str(walk.after)),
        ("order_by", "id"),
    ]


_FILTERS: dict[str, Callable[[Walk], list[tuple[str, str]]]] = {
    BRACKETS.name: _by_brackets,
    REPEATED.name: _by_repeated,
    FEED.name: _by_end,
    LIVE.name: _by_state,
}
FILTER_NAMES = {
    BRACKETS.name: "pk__in",
    REPEATED.name: "pk__in",
    FEED.name: "finished_at__range",
    LIVE.name: "status__in",
}


def _moment(seconds: float) -> str:
    """Write a time to the microsecond, with ``Z``: a plus would be read as a space."""
    moment = datetime.fromtimestamp(seconds, tz=UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds") + "Z"
