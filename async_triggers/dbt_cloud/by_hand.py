"""The official provider's calls, for tasks and scripts that make them by hand."""

from __future__ import annotations

import asyncio
import copy
import json
import warnings
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from async_triggers.dbt_cloud.api import models, replies, requests
from async_triggers.dbt_cloud.api.models import DbtCloudJobRunStatus
from async_triggers.deferral import events
from async_triggers.deferral.arguments import text, whole_number
from async_triggers.deferral.errors import (
    ConnectionUnusable,
    JobCancelled,
    JobEnded,
    JobFailed,
    JobTimedOut,
)
from async_triggers.deferral.hook import VendorHook
from async_triggers.deferral.paging import list_pages
from async_triggers.deferral.thread import in_thread
from async_triggers.engine.errors import TransientError
from async_triggers.engine.jobs import JobState
from async_triggers.engine.wording import sentence, spaced, with_url

if TYPE_CHECKING:
    from airflow.sdk import Connection as AirflowConnection
    from airflow.sdk.types import Logger

    from async_triggers.engine.accounts import LeasedAccount
    from async_triggers.engine.jobs import Job
    from async_triggers.engine.wire import Reply, Request, Row

T = TypeVar("T")

_UNEXPECTED: dict[JobState, type[JobEnded]] = {
    JobState.FAILED: JobFailed,
    JobState.CANCELLED: JobCancelled,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer of dbt Cloud, with what is most used of the answers of ``requests``.

    There is none for a refusal: that is raised. Names of headers are lower case.
    """

    status_code: int
    content: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    url: str

    @property
    def ok(self) -> bool:
        """True, as a refusal is raised."""
        return self.status_code < HTTPStatus.BAD_REQUEST

    @property
    def reason(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status_code).phrase

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """Decode the body."""
        return json.loads(self.content)

    def raise_for_status(self) -> None:
        """Do nothing, as a refusal is raised."""


def respond(reply: Reply) -> Response:
    """Return a reply in the shape that ``requests`` gives it."""
    return Response(
        status_code=reply.status,
        content=reply.body,
        headers=reply.headers,
        url=reply.url,
    )


class CallsByHand(VendorHook):
    """The official provider's calls, over requests that :class:`DbtCloudHook` sends.

    Those that are no coroutines block. ``account_id`` is the account, else that of the
    hook or the connection's login. All errors are subclasses of ``AirflowException``.
    """

    account_id: int | str | None
    dbt_cloud_conn_id: str

    @abstractmethod
    async def send(
        self, leased: LeasedAccount, request: Request, *, patience: float = 20.0
    ) -> Reply:
        """Send a request, as often as the hook says."""

    @abstractmethod
    async def complete(self, leased: LeasedAccount, job: Job) -> Job:
        """Say in a failed run's message which step and nodes failed, and log its end."""

    @abstractmethod
    async def find_job(
        self,
        leased: LeasedAccount,
        *,
        project_name: str,
        environment_name: str,
        job_name: str,
    ) -> int:
        """Return the id of the one job of that name."""

    @abstractmethod
    async def cancel_run(self, leased: LeasedAccount, run_id: int | str) -> Job:
        """Cancel a run if it has not ended."""

    def _of(self, account_id: int | str | None) -> Self:
        if account_id is None:
            return self

        other = copy.copy(self)
        other.account_id = account_id
        return other

    # What there is ----------------------------------------------------------------

    def list_accounts(self) -> list[Response]:
        """Return the accounts that the token may see."""
        return [_ask(self, lambda _: requests.list_accounts())]

    def get_account(self, account_id: int | None = None) -> Response:
        """Return an account."""
        return _ask(
            self._of(account_id), lambda leased: requests.get_account(leased.account)
        )

    def list_projects(
        self, account_id: int | None = None, name_contains: str | None = None
    ) -> list[Response]:
        """Return the projects of an account, page by page."""
        return _ask_pages(
            self._of(account_id),
            lambda leased: requests.list_projects(
                leased.account, name_contains=name_contains
            ),
        )

    def get_project(self, project_id: int, account_id: int | None = None) -> Response:
        """Return a project."""
        return _ask(
            self._of(account_id),
            lambda leased: requests.get_project(leased.account, project_id),
        )

    def list_environments(
        self,
        project_id: int,
        *,
        name_contains: str | None = None,
        account_id: int | None = None,
    ) -> list[Response]:
        """Return the environments of a project, page by page."""
        return _ask_pages(
            self._of(account_id),
            lambda leased: requests.list_environments(
                leased.account, project_id, name_contains=name_contains
            ),
        )

    def get_environment(
        self, project_id: int, environment_id: int, *, account_id: int | None = None
    ) -> Response:
        """Return an environment of a project."""
        return _ask(
            self._of(account_id),
            lambda leased: requests.get_environment(
                leased.account, project_id, environment_id
            ),
        )

    def list_jobs(
        self,
        account_id: int | None = None,
        order_by: str | None = None,
        project_id: int | None = None,
        environment_id: int | None = None,
        name_contains: str | None = None,
    ) -> list[Response]:
        """Return the jobs of an account, or those that pass, page by page."""
        return _ask_pages(
            self._of(account_id),
            lambda leased: requests.list_jobs(
                leased.account,
                project_id=project_id,
                environment_id=environment_id,
                name_contains=name_contains,
                order_by=order_by,
            ),
        )

    def get_job(self, job_id: int, account_id: int | None = None) -> Response:
        """Return a job."""
        return _ask(
            self._of(account_id),
            lambda leased: requests.get_job(leased.account, job_id),
        )

    def get_job_by_name(
        self,
        *,
        project_name: str,
        environment_name: str,
        job_name: str,
        account_id: int | None = None,
    ) -> dict[str, Any]:
        """Return the one job of that name in that environment of that project.

        Raise :class:`~async_triggers.deferral.errors.VendorRefused`, which is also named
        ``DbtCloudResourceLookupError``, when a name stands for nothing, or for more than
        one thing.
        """
        hook = self._of(account_id)

        async def find(leased: LeasedAccount) -> Row:
            job_id = await hook.find_job(
                leased,
                project_name=text("project_name", project_name),
                environment_name=text("environment_name", environment_name),
                job_name=text("job_name", job_name),
            )
            request = requests.get_job(leased.account, job_id)
            return replies.read_row(request, await hook.send(leased, request))

        return dict(hook.run(find))

    # Runs -------------------------------------------------------------------------

    def trigger_job_run(
        self,
        job_id: int,
        cause: str | None,
        account_id: int | None = None,
        steps_override: list[str] | None = None,
        schema_override: str | None = None,
        retry_from_failure: bool = False,
        additional_run_config: dict[str, Any] | None = None,
    ) -> Response:
        """Start a run of a job.

        With ``retry_from_failure``, where the job's newest run has failed, run what failed
        in it; nothing is overridden then, and no cause is needed. A cause that is too long
        is cut.
        """
        longest = requests.LONGEST_CAUSE
        if cause is not None and len(cause) > longest:
            warnings.warn(
                f"cause is cut to the {longest} characters that dbt Cloud takes",
                UserWarning,
                stacklevel=2,
            )

        config = {**(additional_run_config or {})}
        if schema_override is not None:
            config = {"schema_override": schema_override, **config}

        if steps_override is not None:
            config = {"steps_override": steps_override, **config}

        if retry_from_failure and self._has_failed(job_id, account_id):
            if config:
                warnings.warn(
                    "The newest run has failed and is retried: steps_override,"
                    " schema_override and additional_run_config have no effect",
                    UserWarning,
                    stacklevel=2,
                )

            return self.retry_failed_job_run(job_id, account_id)

        body = {"cause": None if cause is None else cause[:longest], **config}
        return _ask(
            self._of(account_id),
            lambda leased: requests.start_run(leased.account, job_id, body),
        )

    def _has_failed(self, job_id: int, account_id: int | None) -> bool:
        """Return whether the newest run of a job has failed."""
        newest = {"job_definition_id": job_id, "order_by": "-id", "limit": 1}
        runs = self.get_job_runs(account_id, newest).json()["data"]
        return bool(runs) and runs[0]["status"] == DbtCloudJobRunStatus.ERROR

    def retry_failed_job_run(
        self, job_id: int, account_id: int | None = None
    ) -> Response:
        """Run what failed in a job's newest run; a run of the whole job if none failed."""
        return _ask(
            self._of(account_id),
            lambda leased: requests.rerun_job(leased.account, job_id),
        )

    def list_job_runs(
        self,
        account_id: int | None = None,
        include_related: list[str] | None = None,
        job_definition_id: int | None = None,
        order_by: str | None = None,
    ) -> list[Response]:
        """Return the runs of an account or of a job, page by page."""
        return _ask_pages(
            self._of(account_id),
            lambda leased: requests.list_runs(
                leased.account,
                job_id=job_definition_id,
                order_by=order_by,
                include_related=include_related or (),
            ),
        )

    def get_job_runs(
        self, account_id: int | None = None, payload: dict[str, Any] | None = None
    ) -> Response:
        """Return one page of runs; ``payload`` is the query, in the words of the API."""
        return _ask(
            self._of(account_id),
            lambda leased: requests.query_runs(leased.account, payload or {}),
        )

    def get_job_run(
        self,
        run_id: int,
        account_id: int | None = None,
        include_related: list[str] | None = None,
    ) -> Response:
        """Return a run, with what is related to it."""
        return _ask(
            self._of(account_id),
            lambda leased: requests.get_run(
                leased.account, run_id, include_related=include_related or ()
            ),
        )

    def get_job_run_status(self, run_id: int, account_id: int | None = None) -> int:
        """Return the status of a run, see :class:`~.api.models.DbtCloudJobRunStatus`."""
        status: int = self.get_job_run(run_id, account_id).json()["data"]["status"]
        return status

    def cancel_job_run(self, run_id: int, account_id: int | None = None) -> None:
        """Cancel a run if it has not ended."""
        hook = self._of(account_id)
        hook.run(lambda leased: hook.cancel_run(leased, run_id))

    def wait_for_job_run_status(
        self,
        run_id: int,
        account_id: int | None = None,
        expected_statuses: int
        | Sequence[int]
        | set[int] = DbtCloudJobRunStatus.SUCCESS.value,
        check_interval: float = 60,
        timeout: float | None = 60 * 60 * 24 * 7,
    ) -> bool:
        """Wait until a run has one of some statuses, and return True.

        It is checked once at least, so that a ``timeout`` of 0 waits for nothing; None
        waits for as long as the run goes on. Trouble with the API is only a late answer.
        Raise JobFailed, JobCancelled or JobEnded of
        :mod:`async_triggers.deferral.errors` when the run has ended in another one,
        JobTimedOut after ``timeout`` seconds; the last of them, JobEnded, catches them all
        and is also named ``DbtCloudJobRunException``.
        """
        given = expected_statuses
        expected = {given} if isinstance(given, int) else set(given)
        DbtCloudJobRunStatus.check_is_valid(expected)
        whole_number("run_id", run_id)
        hook = self._of(account_id)

        async def wait_no_longer(leased: LeasedAccount) -> bool:
            request = requests.get_run(leased.account, run_id)
            if await _has_status(hook, leased, request, expected):
                return True

            try:
                async with asyncio.timeout(timeout):
                    while True:
                        await asyncio.sleep(check_interval)
                        if await _has_status(hook, leased, request, expected):
                            return True
            except TimeoutError:
                msg = f"Run {run_id} had not ended after {timeout:g} s and goes on"
                raise JobTimedOut(msg) from None

        return hook.run(wait_no_longer)

    def log_job_run_failure_details(
        self,
        run_id: int,
        account_id: int | None = None,
        job_run: dict[str, Any] | None = None,
    ) -> None:
        """Log how a run has ended, and the last lines of the step that failed.

        ``job_run`` is the run as dbt Cloud shows it with its ``run_steps``, where it need
        not be requested.
        """
        row = job_run
        if row is None:
            row = self.get_job_run(run_id, account_id, ["run_steps"]).json()["data"]

        _log_failure(self.log, {**row, "id": whole_number("id", run_id)})

    # What runs leave --------------------------------------------------------------

    def list_job_run_artifacts(
        self, run_id: int, account_id: int | None = None, step: int | None = None
    ) -> Response:
        """Return the paths of a run's artifacts, of its last step if none is named."""
        return _ask(
            self._of(account_id),
            lambda leased: requests.list_artifacts(leased.account, run_id, step=step),
        )

    def get_job_run_artifact(
        self,
        run_id: int,
        path: str,
        account_id: int | None = None,
        step: int | None = None,
    ) -> Response:
        """Return one artifact, of the run's last step if none is named."""
        return _ask(
            self._of(account_id),
            lambda leased: requests.get_artifact(
                leased.account, run_id, path, step=step
            ),
        )

    async def get_job_run_artifacts_concurrently(
        self,
        run_id: int,
        artifacts: list[str],
        account_id: int | None = None,
        step: int | None = None,
    ) -> dict[str, Any]:
        """Return artifacts that hold JSON, decoded, by their paths."""

        async def get_all(leased: LeasedAccount, hook: Self) -> dict[str, Any]:
            return await _ask_artifacts(hook, leased, run_id, artifacts, step)

        return await self._run_async(account_id, get_all)

    # From a running loop ----------------------------------------------------------

    async def _run_async(
        self,
        account_id: int | None,
        call: Callable[[LeasedAccount, Self], Awaitable[T]],
    ) -> T:
        hook = self._of(account_id)
        return await hook.run_async(lambda leased: call(leased, hook))

    async def get_job_details(
        self,
        run_id: int,
        account_id: int | None = None,
        include_related: list[str] | None = None,
    ) -> Any:
        """Return a run as dbt Cloud answers, with what is related to it."""

        async def get(leased: LeasedAccount, hook: Self) -> dict[str, Any]:
            request = requests.get_run(
                leased.account, run_id, include_related=include_related or ()
            )
            return (await hook.send(leased, request)).object(request.about)

        return await self._run_async(account_id, get)

    async def get_job_status(
        self,
        run_id: int,
        account_id: int | None = None,
        include_related: list[str] | None = None,
    ) -> int:
        """Return the status of a run, see :class:`~.api.models.DbtCloudJobRunStatus`."""
        details = await self.get_job_details(run_id, account_id, include_related)
        status: int = details["data"]["status"]
        return status

    async def get_headers_tenants_from_connection(self) -> tuple[dict[str, Any], str]:
        """Return the headers of a request, with the token, and the host.

        For requests that the hook does not know.
        """
        connection = await in_thread(self.look_up)
        account = self.read(connection)
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Token {account.credentials.secret}",
        }
        return headers, urlsplit(account.base_url).netloc

    # The connection ---------------------------------------------------------------

    @cached_property
    def connection(self) -> AirflowConnection:
        """The Airflow connection, looked up once (blocking)."""
        connection = self.look_up()
        if not connection.password:
            msg = (
                f"API Token (password) is empty in the connection {self.conn_id!r}: set it"
                " to an API token of dbt Cloud"
            )
            raise ConnectionUnusable(msg)

        return connection

    @staticmethod
    def get_request_url_params(
        tenant: str,
        endpoint: str,
        include_related: list[str] | None = None,
        *,
        api_version: str = "v2",
    ) -> tuple[str, dict[str, Any]]:
        """Return the address of something below ``accounts``, and its query."""
        query = {"include_related": include_related} if include_related else {}
        return f"https://{tenant}/api/{api_version}/accounts/{endpoint or ''}", query


def _ask(hook: CallsByHand, request: Callable[[LeasedAccount], Request]) -> Response:
    """Send one request of a hook, and block until its answer is there."""

    async def call(leased: LeasedAccount) -> Response:
        return respond(await hook.send(leased, request(leased)))

    return hook.run(call)


def _ask_pages(
    hook: CallsByHand, first: Callable[[LeasedAccount], Request]
) -> list[Response]:
    """Request a list page by page, and block until all of them are there."""
    found: list[Response] = []

    async def walk(leased: LeasedAccount) -> list[Response]:
        async def send(request: Request) -> Reply:
            reply = await hook.send(leased, request)
            found.append(respond(reply))
            return reply

        async for _ in list_pages(first(leased), send, replies.read_rows):
            pass

        return found

    return hook.run(walk)


async def _ask_artifacts(
    hook: CallsByHand,
    leased: LeasedAccount,
    run_id: int,
    paths: Sequence[str],
    step: int | None,
) -> dict[str, Any]:
    """Request artifacts that hold JSON at the same time; return them by their paths."""

    async def get(path: str) -> Any:
        request = requests.get_artifact(leased.account, run_id, path, step=step)
        return (await hook.send(leased, request)).json(request.about)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(get(path)) for path in paths]
    except ExceptionGroup as failed:
        # The first one is as good as any.
        raise failed.exceptions[0] from None

    return dict(zip(paths, (task.result() for task in tasks), strict=True))


async def _has_status(
    hook: CallsByHand, leased: LeasedAccount, request: Request, expected: set[int]
) -> bool:
    """Return whether a run has one of some statuses; raise JobEnded if it never will.

    Where the API is in trouble it is not known to have one.
    """
    try:
        row = replies.read_row(request, await hook.send(leased, request))
        job = models.read_run(row)
    except TransientError as error:
        hook.log.warning("%s Checking again", sentence(error.message))
        return False

    if row["status"] in expected:
        return True

    if job.state.is_terminal:
        job = await hook.complete(leased, job)
        failure = _UNEXPECTED.get(job.state, JobEnded)
        raise failure(events.ended(job).message, job=job)

    return False


def _log_failure(log: Logger, row: Row) -> None:
    """Log how a run has ended, and the last lines of the step that failed."""
    job = models.read_run({"status": DbtCloudJobRunStatus.ERROR.value, **row})
    step = replies.read_failed_step(row)
    if step is not None and step.lines:
        log.error(
            "The last lines of step %d, %s, of run %s:\n%s",
            step.index,
            step.name,
            job.id,
            "\n".join(step.lines),
        )

    job = models.explain(job, step, [])
    reason = f": {spaced(job.message)}" if job.message else ""
    words = f"Run {job.id} is {job.word}{reason}"
    log.error("%s", with_url(words, job.url))
