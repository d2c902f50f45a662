"""What dbt Cloud's Admin API says: addresses, requests, replies. Pure, no I/O.

The API is described at https://docs.getdbt.com/dbt-cloud/api-v2 (runs and jobs) and
https://docs.getdbt.com/dbt-cloud/api-v3 (projects and environments), and in the OpenAPI
file of https://github.com/dbt-labs/dbt-cloud-openapi-spec.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Self
from urllib.parse import urlsplit

from async_triggers.engine.address import read_https_address
from async_triggers.engine.errors import (
    AccountMisconfigured,
    EngineError,
    JobNotFound,
    UnreadableReply,
)
from async_triggers.engine.jobs import Job, JobState
from async_triggers.engine.wire import (
    HTTP_FORBIDDEN,
    LONGEST_HEAD,
    LONGEST_MESSAGE,
    Account,
    Lane,
    Page,
    Reply,
    Request,
    Row,
    Source,
    SourceKind,
    Token,
    parse_time,
    refuse_by_status,
    segment,
    short_text,
    words_of,
)

log = logging.getLogger(__name__)


# https://docs.getdbt.com/docs/platform/about-platform/access-regions-ip-addresses:
# every account has a host of its own. The hosts below are the older, shared ones.
SHARED_HOST = "cloud.getdbt.com"
_OLD_DOMAIN = ".getdbt.com"
_OLD_HOSTS = frozenset({"emea.dbt.com", "au.dbt.com"})

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


_OWN_ANSWER = re.compile(rb'\s*\{.*"(is_success"|status"\s*:\s*\{)', re.DOTALL)
_LONG_ANSWER = re.compile(rb'\s*\{\s*"data"\s*:\s*[\[{]')


class DbtCloudJobRunStatus(IntEnum):
    """The states of a run: https://docs.getdbt.com/dbt-cloud/api-v2.

    The ``value`` of the last two is a tuple of the numbers of those before them.
    """

    QUEUED = 1
    STARTING = 2
    RUNNING = 3
    SUCCESS = 10
    ERROR = 20
    CANCELLED = 30
    NON_TERMINAL_STATUSES = (QUEUED, STARTING, RUNNING)
    TERMINAL_STATUSES = (SUCCESS, ERROR, CANCELLED)

    def __new__(cls, *numbers: int) -> Self:
        """Make one status, or a group of some, which no number is equal to."""
        is_one = len(numbers) == 1
        status = int.__new__(cls, numbers[0] if is_one else -sum(numbers))
        status._value_ = numbers[0] if is_one else numbers  # type: ignore[assignment]
        return status

    def __repr__(self) -> str:
        """Name the status and its value, which is no number for a group."""
        return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

    @classmethod
    def check_is_valid(cls, statuses: int | Sequence[int] | set[int]) -> None:
        """Raise ValueError for a number that is no status, or for one among some."""
        for status in (statuses,) if isinstance(statuses, int) else statuses:
            cls(status)

    @classmethod
    def is_terminal(cls, status: int) -> bool:
        """Return whether a run with this status has ended; ValueError if it is none."""
        return _STATES[cls(status)].is_terminal


UNFINISHED = (
    DbtCloudJobRunStatus.QUEUED,
    DbtCloudJobRunStatus.STARTING,
    DbtCloudJobRunStatus.RUNNING,
)

_STATES = {
    DbtCloudJobRunStatus.QUEUED: JobState.PENDING,
    DbtCloudJobRunStatus.STARTING: JobState.PENDING,
    DbtCloudJobRunStatus.RUNNING: JobState.RUNNING,
    DbtCloudJobRunStatus.SUCCESS: JobState.SUCCEEDED,
    DbtCloudJobRunStatus.ERROR: JobState.FAILED,
    DbtCloudJobRunStatus.CANCELLED: JobState.CANCELLED,
}

# https://docs.getdbt.com/reference/artifacts/run-results-json: what is no success of a
# node, and not the consequence of another's.
_FAILED_NODES = frozenset({"error", "fail", "runtime error", "partial success"})
LOG_LINES = 20
LOG_CHARACTERS = 20_000
_NAMED_NODES = 10

_strange_statuses: set[int] = set()


# Addresses --------------------------------------------------------------------------


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


def base_url(
    host: str, *, port: int | None, scheme: str, insecure: bool = False
) -> str:
    """Return where the API is, from the fields of a connection.

    That is always https, but for this machine and where ``insecure`` allows http.
    """
    address = read_https_address(
        host.strip() or SHARED_HOST,
        port=port,
        scheme=scheme or "https",
        insecure=insecure,
        credentials="put the API token into password",
        form="host is no host of dbt Cloud: write it as PREFIX.us1.dbt.com",
    )
    path = address.path
    for known in ("/api/v2", "/api/v3", "/api"):
        path = path.removesuffix(known)

    return address.origin + path


def doubt_host(host: str, base: str) -> str:
    """Say what is wrong with a host that may stop working; empty for the others.

    https://docs.getdbt.com/docs/platform/about-platform/access-regions-ip-addresses
    """
    wanted = (
        "set it to the account's own access URL, which dbt Cloud shows in the account's"
        " settings (PREFIX.us1.dbt.com)"
    )
    if not host.strip():
        return f"host is empty, {SHARED_HOST} is used: {wanted}"

    name = urlsplit(base).hostname or ""
    if name.endswith(_OLD_DOMAIN) or name in _OLD_HOSTS:
        return f"host {name} is one of dbt Cloud's older addresses: {wanted}"

    return ""


def account_id(value: object, field_name: str) -> str:
    """Return the id of an account, or raise :class:`AccountMisconfigured`."""
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()):
        # What it holds is not repeated: a token in the wrong field is a common mistake.
        msg = f"{field_name} is no account id: give the number in dbt's URLs"
        raise AccountMisconfigured(msg)

    return text


def _root(account: Account, version: int = 2) -> str:
    return f"/api/v{version}/accounts/{segment(account.account_id, 'account_id')}"


# The mark of a start ------------------------------------------------------------------


def make_marker(parts: Sequence[object], attempt: int) -> str:
    """Return what is appended to a run's cause, so that the run is found by it."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:10]
    return f" [at:{digest}-{attempt}]"


def make_cause(reason: str, marker: str) -> str:
    """Return the cause of a run, the reason cut so that the marker has its place."""
    return reason[: LONGEST_CAUSE - len(marker)] + marker


# Requests -----------------------------------------------------------------------------


def start_run(account: Account, job_id: int | str, body: Mapping[str, Any]) -> Request:
    """Start a run: https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Trigger%20Job%20Run.

    ``body`` holds ``cause`` and what is overridden. Runs of one job are queued by dbt
    Cloud and run one after another: https://docs.getdbt.com/docs/deploy/job-scheduler
    """
    return Request(
        method="POST",
        path=f"{_root(account)}/jobs/{segment(job_id, 'job_id')}/run/",
        about=f"the start of a run of job {job_id}",
        json=body,
        lane=Lane.START,
        timeout=START_TIMEOUT,
    )


def retry_run(account: Account, run_id: int | str) -> Request:
    """Retry a failed run from where it failed.

    https://docs.getdbt.com/docs/deploy/retry-jobs. ``jobs/{id}/rerun/`` would take the
    job's latest run, whoever had started it.
    """
    return Request(
        method="POST",
        path=f"{_root(account)}/runs/{segment(run_id, 'run_id')}/retry/",
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
        path=f"{_root(account)}/jobs/{segment(job_id, 'job_id')}/rerun/",
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
        path=f"{_root(account)}/runs/{segment(run_id, 'run_id')}/",
        about=f"run {run_id}",
        params=_related(include_related),
    )


def cancel_run(account: Account, run_id: int | str) -> Request:
    """Cancel a run: https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Cancel%20Run."""
    return Request(
        method="POST",
        path=f"{_root(account)}/runs/{segment(run_id, 'run_id')}/cancel/",
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

    return _listing(f"{_root(account)}/runs/", "the list of runs", params, limit=limit)


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
        path=f"{_root(account)}/runs/",
        about="the list of runs",
        params=tuple(params),
    )


def get_job(account: Account, job_id: int | str) -> Request:
    """Request a job: https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Retrieve%20Job."""
    return Request(
        method="GET",
        path=f"{_root(account)}/jobs/{segment(job_id, 'job_id')}/",
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
    return _listing(f"{_root(account)}/jobs/", "the list of jobs", params)


def get_project(account: Account, project_id: int | str) -> Request:
    """Request a project: https://docs.getdbt.com/dbt-cloud/api-v3."""
    return Request(
        method="GET",
        path=f"{_root(account, 3)}/projects/{segment(project_id, 'project_id')}/",
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
        path=f"{_root(account, 3)}/projects/{project}/environments/{environment}/",
        about=f"environment {environment_id}",
    )


def list_projects(account: Account, *, name_contains: str | None = None) -> Request:
    """Request projects: https://docs.getdbt.com/dbt-cloud/api-v3."""
    return _listing(
        f"{_root(account, 3)}/projects/", "the list of projects", _named(name_contains)
    )


def list_environments(
    account: Account, project_id: int | str, *, name_contains: str | None = None
) -> Request:
    """Request the environments of a project: https://docs.getdbt.com/dbt-cloud/api-v3."""
    return _listing(
        f"{_root(account, 3)}/projects/{segment(project_id, 'project_id')}/environments/",
        f"the list of environments of project {project_id}",
        _named(name_contains),
    )


def list_accounts() -> Request:
    """Request the accounts of the token: https://docs.getdbt.com/dbt-cloud/api-v2."""
    return Request(method="GET", path="/api/v2/accounts/", about="the accounts")


def get_account(account: Account) -> Request:
    """Request the account: https://docs.getdbt.com/dbt-cloud/api-v2."""
    return Request(
        method="GET", path=f"{_root(account)}/", about=f"account {account.account_id}"
    )


def list_artifacts(
    account: Account, run_id: int | str, *, step: int | None = None
) -> Request:
    """Request the paths of a run's artifacts: https://docs.getdbt.com/dbt-cloud/api-v2."""
    return Request(
        method="GET",
        path=f"{_root(account)}/runs/{segment(run_id, 'run_id')}/artifacts/",
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
        path=f"{_root(account)}/runs/{segment(run_id, 'run_id')}/artifacts/{place}",
        about=f"artifact {path} of run {run_id}",
        params=_step(step),
        timeout=ARTIFACT_TIMEOUT,
    )


@dataclass(frozen=True, slots=True)
class _Listing:
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
        note=_Listing(0, limit),
    )


def _related(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return (("include_related", ",".join(names)),) if names else ()


def _named(contains: str | None) -> tuple[tuple[str, str], ...]:
    return () if contains is None else (("name__icontains", contains),)


def _step(step: int | None) -> tuple[tuple[str, str], ...]:
    return () if step is None else (("step", str(step)),)


def _brackets(values: Sequence[object]) -> str:
    return json.dumps(values, separators=(",", ":"))


# Replies ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a run; ``index`` counts from 1, ``lines`` are the last of its log."""

    index: int
    name: str
    lines: tuple[str, ...]


def read_data(request: Request, reply: Reply) -> Any:
    """Read what the envelope holds."""
    body = reply.object(request.about)
    if "data" not in body:
        msg = f"The answer about {request.about} has no 'data'"
        raise UnreadableReply(msg, status=reply.status)

    return body["data"]


def read_paths(request: Request, reply: Reply) -> list[str]:
    """Read a list of paths."""
    data = read_data(request, reply) or []
    if not isinstance(data, list) or not all(isinstance(path, str) for path in data):
        msg = f"The answer about {request.about} holds no list of paths"
        raise UnreadableReply(msg, status=reply.status)

    return data


def read_row(request: Request, reply: Reply) -> Row:
    """Read an envelope with one object, each of which has an id."""
    data = read_data(request, reply)
    if not isinstance(data, dict) or data.get("id") is None:
        msg = f"The answer about {request.about} holds no object with an id"
        raise UnreadableReply(msg, status=reply.status)

    return data


def read_rows(request: Request, reply: Reply) -> tuple[list[Row], Request | None]:
    """Read a page of a list, and return the request for the next one, if there is one."""
    rows = _rows(request, reply)
    listing = request.note
    offset = listing.offset + len(rows)
    if not _is_more(reply, request, rows, seen=offset, limit=listing.limit):
        return rows, None

    params = [pair for pair in request.params if pair[0] != "offset"]
    return rows, replace(
        request,
        params=(*params, ("offset", str(offset))),
        note=_Listing(offset, listing.limit),
    )


def _rows(request: Request, reply: Reply) -> list[Row]:
    data = read_data(request, reply)
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        msg = f"The answer about {request.about} holds no list of objects"
        raise UnreadableReply(msg, status=reply.status)

    return data


def _extra(request: Request, reply: Reply) -> Mapping[str, Any]:
    extra = reply.object(request.about).get("extra")
    return extra if isinstance(extra, dict) else {}


def _is_more(
    reply: Reply, request: Request, rows: Sequence[Row], *, seen: int, limit: int
) -> bool:
    """Return whether a list goes on: by its total, else by how full the page is."""
    if not rows:
        return False

    pagination = _extra(request, reply).get("pagination")
    total = pagination.get("total_count") if isinstance(pagination, dict) else None
    if isinstance(total, int):
        return seen < total

    return len(rows) >= limit


def read_run(row: Row) -> Job:
    """Read one run; an unknown status counts as running and is warned about once."""
    number = row.get("status")
    if not isinstance(number, int) or isinstance(number, bool):
        msg = f"Run {row_id(row)} has no status"
        raise UnreadableReply(msg)

    try:
        status = DbtCloudJobRunStatus(number)
    except ValueError:
        state, word = JobState.RUNNING, f"status {number}"
        if number not in _strange_statuses and len(_strange_statuses) < PAGE:
            _strange_statuses.add(number)
            log.warning(
                "dbt Cloud has a run status %d (%s), which counts as running",
                number,
                short_text(row.get("status_humanized")) or "no name",
            )
    else:
        state, word = _STATES[status], status.name.lower()

    explained = state in {JobState.FAILED, JobState.CANCELLED}
    return Job(
        id=row_id(row),
        state=state,
        word=word,
        label=f"Run {row_id(row)}",
        message=_message(row) if explained else "",
        url=_link(row),
        started_at=short_text(row.get("started_at"))
        or short_text(row.get("created_at")),
        ended_at=parse_time(row.get("finished_at")) if state.is_terminal else None,
        statistics={
            "job_definition_id": _number(row.get("job_definition_id")),
            "project_id": _number(row.get("project_id")),
            "environment_id": _number(row.get("environment_id")),
            "duration": short_text(row.get("duration")),
            "queued_duration": short_text(row.get("queued_duration")),
            "run_duration": short_text(row.get("run_duration")),
            "dbt_version": short_text(row.get("dbt_version")),
            "git_branch": short_text(row.get("git_branch")),
            "git_sha": short_text(row.get("git_sha")),
        },
    )


def _message(row: Row) -> str:
    return words_of(row.get("status_message"), longest=LONGEST_MESSAGE)


def row_id(row: Row) -> str:
    """Read the id of a run, or raise :class:`UnreadableReply`."""
    value = row.get("id")
    if isinstance(value, bool) or not isinstance(value, int):
        msg = "A run has no id"
        raise UnreadableReply(msg)

    return str(value)


def run_url(account: Account, row: Row) -> str:
    """Return where dbt Cloud shows a run."""
    given = _link(row)
    if given:
        return given

    project = _number(row.get("project_id"))
    if project is None:
        return ""

    return (
        f"{account.base_url}/deploy/{account.account_id}/projects/{project}"
        f"/runs/{row_id(row)}/"
    )


def _link(row: Row) -> str:
    """Return where the vendor says that a run is shown: people will click on it."""
    href = short_text(row.get("href")) or ""
    usable = href.startswith(("https://", "http://")) and href.isprintable()
    return href if usable else ""


def read_cause(row: Row) -> str:
    """Read why a run was started, where the row was asked for with its ``trigger``."""
    trigger = row.get("trigger")
    cause = trigger.get("cause") if isinstance(trigger, dict) else None
    return _text(cause) or ""


def read_failed_step(row: Row) -> Step | None:
    """Return the step that failed, where the row was asked for with its ``run_steps``."""
    steps = row.get("run_steps")
    for step in steps if isinstance(steps, list) else []:
        if not isinstance(step, dict):
            continue

        index = step.get("index")
        if step.get("status") == DbtCloudJobRunStatus.ERROR and isinstance(index, int):
            told = _text(step.get("logs")) or _text(step.get("truncated_debug_logs"))
            end = (told or "")[-LOG_CHARACTERS:]
            lines = [line.rstrip() for line in end.splitlines()]
            return Step(
                index=index,
                name=short_text(step.get("name")) or f"step {index}",
                lines=tuple(line for line in lines if line)[-LOG_LINES:],
            )

    return None


def read_failed_nodes(request: Request, reply: Reply) -> list[str]:
    """Return the nodes that failed, each with the first line of its message.

    https://docs.getdbt.com/reference/artifacts/run-results-json
    """
    results = reply.object(request.about).get("results")
    found: list[str] = []
    for result in results if isinstance(results, list) else []:
        if (
            not isinstance(result, dict)
            or _text(result.get("status")) not in _FAILED_NODES
        ):
            continue

        node = short_text(result.get("unique_id")) or "a node without a name"
        message = words_of(result.get("message")).strip().split("\n")[0]
        found.append(f"{node} ({message[:200]})" if message else node)

    return found


def explain(job: Job, step: Step | None, nodes: Sequence[str]) -> Job:
    """Return a failed run whose message names the step and the nodes that failed."""
    told = []
    if step is not None:
        told.append(f"step {step.index}, {step.name!r}, failed")

    if nodes:
        named = ", ".join(nodes[:_NAMED_NODES])
        rest = len(nodes) - _NAMED_NODES
        told.append(f"not built: {named}" + (f" and {rest} more" if rest > 0 else ""))

    if job.message and job.message not in " ".join(told):
        told.append(job.message)

    return replace(job, message="; ".join(told))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# The vendor ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """Where a walk over a source is, and what it asked for."""

    source: str
    root: str
    ids: tuple[str, ...] = ()
    since: float = 0.0
    offset: int = 0
    after: int = 0


class DbtCloud:
    """dbt Cloud as the engine sees it."""

    name = "dbt Cloud"
    noun = "run"
    grid_floor = 5.0
    overlap = OVERLAP
    sources: Sequence[Source] = (BRACKETS, REPEATED, FEED, LIVE)

    def name_of(self, job_id: str) -> str:
        """Name a run within a sentence."""
        return f"run {job_id}"

    def token_request(self, account: Account) -> Request | None:
        """Tokens are not asked for, the connection holds one."""
        return None

    def read_token(self, reply: Reply) -> Token:
        """Tokens are not asked for."""
        raise NotImplementedError

    def authorize(self, account: Account, token: Token | None) -> Mapping[str, str]:
        """Prove who we are: https://docs.getdbt.com/docs/dbt-apis/service-tokens."""
        return {"Authorization": f"Bearer {account.credentials.secret}"}

    def is_own_refusal(self, request: Request, reply: Reply) -> bool:
        """Return True for the envelope of dbt Cloud, with the reply's own status in it.

        https://docs.getdbt.com/dbt-cloud/api-v2
        """
        try:
            body = reply.object("a refusal")
        except UnreadableReply:
            return False

        status = body.get("status")
        return (
            isinstance(status, dict)
            and status.get("code") == reply.status
            and status.get("is_success") is False
            and isinstance(status.get("user_message"), str)
        )

    def is_own_answer(self, request: Request, reply: Reply) -> bool:
        """Return True for an envelope; an artifact of a run has none."""
        if "/artifacts/" in request.path:
            return reply.body[:1] in {b"{", b"["}

        if len(reply.body) > LONGEST_HEAD and _LONG_ANSWER.match(reply.body):
            # What is known by its status may stand behind all the data.
            return True

        return _OWN_ANSWER.match(reply.body, 0, LONGEST_HEAD) is not None

    def refuse(self, request: Request, reply: Reply) -> EngineError:
        """Map a refusal to an error. The envelope's status explains it."""
        error = refuse_by_status(self.name, request, reply, _detail(reply))
        if isinstance(error, JobNotFound) or reply.status == HTTP_FORBIDDEN:
            # An account that the token does not belong to is "not found" as well.
            error.message += (
                " (is it in this account, and does the token's role show it?)"
            )
            error.args = (error.message,)

        return error

    def remaining(self, reply: Reply) -> tuple[float, float] | None:
        """Return nothing: dbt Cloud does not say what is left of the limit."""
        return None

    def single(self, account: Account, subject: str) -> Request:
        """Request one run, without its steps: their logs are long."""
        return get_run(account, subject)

    def many(
        self,
        account: Account,
        source: Source,
        *,
        subjects: Sequence[str] = (),
        since: float | None = None,
        scope: str = "",
    ) -> Request:
        """Request runs by id, for those that ended, or for those that did not.

        https://docs.getdbt.com/dbt-cloud/api-v2#/operations/List%20Runs
        """
        return _page_of_runs(
            _Walk(
                source=source.name,
                root=_root(account),
                ids=tuple(subjects),
                since=since or 0.0,
            )
        )

    def read(self, request: Request, reply: Reply) -> Page:
        """Read a page of runs, or one run."""
        walk = request.note
        if not isinstance(walk, _Walk):
            row = read_row(request, reply)
            return Page(rows={row_id(row): row}, count=1)

        data = _rows(request, reply)
        rows = {row_id(row): row for row in data}
        sound = _did_filter(walk, request, reply, rows)
        # Those that a page leaves out are counted from where it began.
        more = _is_more(reply, request, data, seen=walk.offset + len(data), limit=PAGE)
        following = _following(walk, data) if sound and more else None
        return Page(
            rows=rows,
            count=len(data),
            next=None if following is None else _page_of_runs(following),
            resume=_resume(walk, reply, data),
            sound=sound,
        )

    def judge(
        self,
        account: Account,
        subject: str,
        row: Row,
        mark: str | None,
    ) -> Job:
        """Read the run that a row shows."""
        job = read_run(row)
        return job if job.url else replace(job, url=run_url(account, row))

    def digest(self, row: Row) -> int | None:
        """Judge each row: hardly one is shown that has not changed."""
        return None

    def scope_of(self, row: Row) -> str:
        """Lists are not scoped."""
        return ""

    def needs_confirmation(self, job: Job) -> bool:
        """Believe lists: their rows hold what a single answer does."""
        return False

    def confirmation(self, job: Job, *, now: float | None) -> Request | None:
        """Ask singly: that tells all there is."""
        return None

    def confirmed(self, request: Request, reply: Reply, job: Job) -> Job | None:
        """Nothing but a single answer confirms."""
        raise NotImplementedError


DBT_CLOUD = DbtCloud()


def _page_of_runs(walk: _Walk) -> Request:
    params = _FILTERS[walk.source](walk)
    if walk.offset:
        params.append(("offset", str(walk.offset)))

    return Request(
        method="GET",
        path=f"{walk.root}/runs/",
        about=f"the {walk.source}",
        params=(*params, ("limit", str(PAGE))),
        note=walk,
    )


def _by_brackets(walk: _Walk) -> list[tuple[str, str]]:
    return [("pk__in", _brackets([int(each) for each in walk.ids])), ("order_by", "id")]


def _by_repeated(walk: _Walk) -> list[tuple[str, str]]:
    return [*(("pk__in", each) for each in walk.ids), ("order_by", "id")]


def _by_end(walk: _Walk) -> list[tuple[str, str]]:
    window = [_moment(walk.since), _FAR_FUTURE]
    return [("finished_at__range", _brackets(window)), ("order_by", "finished_at")]


def _by_state(walk: _Walk) -> list[tuple[str, str]]:
    return [
        ("status__in", _brackets([int(each) for each in UNFINISHED])),
        ("id__gt", str(walk.after)),
        ("order_by", "id"),
    ]


_FILTERS: dict[str, Callable[[_Walk], list[tuple[str, str]]]] = {
    BRACKETS.name: _by_brackets,
    REPEATED.name: _by_repeated,
    FEED.name: _by_end,
    LIVE.name: _by_state,
}
_FILTER_NAMES = {
    BRACKETS.name: "pk__in",
    REPEATED.name: "pk__in",
    FEED.name: "finished_at__range",
    LIVE.name: "status__in",
}


def _moment(seconds: float) -> str:
    """Write a time to the microsecond, with ``Z``: a plus would be read as a space."""
    moment = datetime.fromtimestamp(seconds, tz=UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="microseconds") + "Z"


def _following(walk: _Walk, data: Sequence[Row]) -> _Walk | None:
    """Return where the next page begins: after the last row, not after a number of rows.

    What ends while we page moves the rows of a page, never those behind a key.
    """
    if walk.source == LIVE.name:
        return replace(walk, after=max(int(row_id(row)) for row in data))

    if walk.source != FEED.name:
        return None

    last = max(_ends(data))
    if last > walk.since:
        return replace(walk, since=last, offset=0)

    return replace(walk, offset=walk.offset + len(data))


def _ends(data: Sequence[Row]) -> list[float]:
    ends = [parse_time(row.get("finished_at")) for row in data]
    return [end for end in ends if end is not None]


def _resume(walk: _Walk, reply: Reply, data: Sequence[Row]) -> float | None:
    """Return where the next window begins: by the server's clock, never by ours."""
    if walk.source != FEED.name:
        return None

    now = reply.date
    if now is None:
        now = max(_ends(data), default=None)

    return None if now is None else now - OVERLAP


def _did_filter(
    walk: _Walk, request: Request, reply: Reply, rows: Mapping[str, Row]
) -> bool:
    """Return whether the server did what it was asked.

    The rows prove it. Where there are none, the filters prove it that the server says it
    applied, if it says any.
    """
    if not rows:
        applied = _extra(request, reply).get("filters")
        if not isinstance(applied, dict) or not applied:
            return True

        return _FILTER_NAMES[walk.source] in applied

    if walk.source == LIVE.name:
        return all(
            row.get("status") in UNFINISHED and int(run_id) > walk.after
            for run_id, row in rows.items()
        )

    if walk.source == FEED.name:
        ends = _ends(list(rows.values()))
        return len(ends) == len(rows) and min(ends) >= walk.since - 1.0

    return set(walk.ids).issuperset(rows)


def _detail(reply: Reply) -> str:
    """Return the explanation of an envelope, empty where there is none."""
    try:
        body = reply.json("a refusal")
    except UnreadableReply:
        return ""

    status = body.get("status") if isinstance(body, dict) else None
    if not isinstance(status, dict):
        return ""

    told = [words_of(status.get(key)) for key in ("user_message", "developer_message")]
    return "; ".join(dict.fromkeys(each for each in told if each))
