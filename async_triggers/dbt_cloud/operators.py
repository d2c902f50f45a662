"""Runs a job of dbt Cloud, and reads what its runs have left."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from async_triggers.dbt_cloud.links import DbtCloudRunJobOperatorLink
from async_triggers.dbt_cloud.naming import CONNECTION, check_hook_params, optional_id
from async_triggers.deferral.arguments import (
    ArgumentUnusable,
    make_plain,
    needs_deferrable,
    not_negative,
    text,
    time_limit,
    whole_number,
)
from async_triggers.deferral.compat import conf
from async_triggers.deferral.ids import Ids, TakesIds, is_literal
from async_triggers.deferral.on_demand import on_demand
from async_triggers.deferral.operator import JobOperator

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from async_triggers.dbt_cloud.hooks import (
        DbtCloudHook,
        DbtCloudJobRunException,
        DbtCloudJobRunStatus,
        JobRunInfo,
        validate_execute_complete_event,
    )
    from async_triggers.dbt_cloud.remote_job import DbtCloudRunRequest
    from async_triggers.dbt_cloud.triggers import DbtCloudRunJobTrigger
else:
    __getattr__, __dir__ = on_demand(
        __name__,
        {
            "async_triggers.dbt_cloud.hooks": (
                "DbtCloudHook",
                "DbtCloudJobRunException",
                "DbtCloudJobRunStatus",
                "JobRunInfo",
                "validate_execute_complete_event",
            ),
            "async_triggers.dbt_cloud.triggers": ("DbtCloudRunJobTrigger",),
        },
    )

__all__ = [
    "DbtCloudGetJobRunArtifactOperator",
    "DbtCloudHook",
    "DbtCloudJobRunException",
    "DbtCloudJobRunStatus",
    "DbtCloudListJobRunsOperator",
    "DbtCloudListJobsOperator",
    "DbtCloudRunJobOperator",
    "DbtCloudRunJobOperatorLink",
    "DbtCloudRunJobTrigger",
    "JobRunInfo",
    "validate_execute_complete_event",
]


class DbtCloudRunJobOperator(JobOperator):
    """Starts a run of a dbt Cloud job and waits until it has ended.

    Returns the run's id (int) in every mode. As soon as there is a run, its id and address
    are pushed to the XComs ``job_run_id`` and ``job_run_url``; at its end its statistics to
    ``dbt_cloud_run``: job_id (the run), status, url, attached, job_started_at,
    job_definition_id, project_id, environment_id, duration, queued_duration,
    run_duration, dbt_version, git_branch, git_sha. A run that failed adds ``run_results``,
    see :func:`async_triggers.dbt_cloud.api.run_results.summarize`.

    dbt Cloud runs the runs of one job one after another, so another user's run is no
    hindrance: ours waits its turn.

    :param dbt_cloud_conn_id: the Airflow connection (templated)
    :param job_id: the job in dbt Cloud (templated)
    :param project_name: the job's project, where the job is named and not numbered
        (templated)
    :param environment_name: the job's environment, likewise (templated)
    :param job_name: the job's name, likewise (templated)
    :param account_id: the account; else the connection's login (templated)
    :param trigger_reason: the cause that dbt Cloud shows; cut to fit 255 letters together
        with the mark of :attr:`mark_cause` (templated)
    :param steps_override: dbt commands to run instead of the job's (templated)
    :param schema_override: the schema to build into instead of the job's (templated)
    :param wait_for_termination: wait for the run's end; else hand its id back at once
    :param timeout: seconds after which the task gives up; None or 0 for never
    :param check_interval: how often to check the run, in seconds; never more often than
        every five
    :param additional_run_config: further fields of the start, in the API's words; a
        ``cause`` in it wins over ``trigger_reason`` (templated)
    :param reuse_existing_run: attach to the job's newest run that has not ended, if there
        is one; never where something is overridden
    :param retry_from_failure: when the task is retried because its own run failed, run
        what failed in it and what was skipped after it; a cleared task and the next
        scheduled one start a run of the whole job
    :param deferrable: wait on the triggerer and not on a worker
    :param hook_params: ``timeout_seconds`` and ``retry_limit`` of single calls
    :param openlineage_inject_parent_job_info: give as the run's cause this task's run in
        OpenLineage as JSON, as the official provider does; needs its provider
    :param cancel_on_kill: cancel the run when a user stops the task
    :param cancel_on_timeout: cancel the run when ``timeout`` or ``execution_timeout``
        passes
    :param mark_cause: append ``[at:…]`` to the cause, by which a run is found whose start
        was not answered
    :param end_from_trigger: let the trigger end the task, without a worker, where nothing
        of the task needs one
    :param start_in_trigger: leave the start to the triggerer as well; needs ``deferrable``
    :param durable: a retry attaches to what an earlier attempt has started, as Airflow's
        own resumable operators do; False starts a new job in each attempt, and
        leaves an earlier one running
    :param summarize_results: push the summary of ``run_results.json`` after a success too,
        at the cost of one more request; a failed run always has it
    :param log_steps: log the steps that have ended, every ten minutes and at the end, at
        the cost of one request each time; those of a failed run are always logged
    """

    template_fields: Sequence[str] = (
        "dbt_cloud_conn_id",
        "job_id",
        "project_name",
        "environment_name",
        "job_name",
        "account_id",
        "trigger_reason",
        "steps_override",
        "schema_override",
        "additional_run_config",
    )
    ui_color = "#FF694A"
    operator_extra_links = (DbtCloudRunJobOperatorLink(),)

    ids = Ids(
        required={"dbt_cloud_conn_id": text},
        optional={
            "account_id": whole_number,
            "job_id": whole_number,
            "project_name": text,
            "environment_name": text,
            "job_name": text,
        },
        either=(("job_id",), ("project_name", "environment_name", "job_name")),
        hint="Give job_id, or all of project_name, environment_name and job_name",
    )
    statistics_key = "dbt_cloud_run"

    def __init__(
        self,
        *,
        dbt_cloud_conn_id: str = CONNECTION,
        job_id: int | str | XComArg | None = None,
        project_name: str | None = None,
        environment_name: str | None = None,
        job_name: str | None = None,
        account_id: int | str | None = None,
        trigger_reason: str | None = None,
        steps_override: list[str] | None = None,
        schema_override: str | None = None,
        wait_for_termination: bool = True,
        timeout: float | timedelta | None = 60 * 60 * 24 * 7,
        check_interval: float | timedelta = 60,
        additional_run_config: dict[str, Any] | None = None,
        reuse_existing_run: bool = False,
        retry_from_failure: bool = False,
        deferrable: bool = conf.getboolean(
            "operators", "default_deferrable", fallback=False
        ),
        hook_params: dict[str, Any] | None = None,
        openlineage_inject_parent_job_info: bool = conf.getboolean(
            "openlineage", "spark_inject_parent_job_info", fallback=False
        ),
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        mark_cause: bool = True,
        end_from_trigger: bool = False,
        start_in_trigger: bool = False,
        durable: bool = True,
        summarize_results: bool = False,
        log_steps: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dbt_cloud_conn_id = dbt_cloud_conn_id
        self.job_id = job_id
        self.project_name = project_name
        self.environment_name = environment_name
        self.job_name = job_name
        self.account_id = account_id
        self.trigger_reason = trigger_reason
        self.steps_override = steps_override
        self.schema_override = schema_override
        self.wait_for_termination = wait_for_termination
        self.timeout = time_limit("timeout", timeout)
        self.check_interval = not_negative("check_interval", check_interval)
        self.additional_run_config = additional_run_config
        self.reuse_existing_run = reuse_existing_run
        self.retry_from_failure = retry_from_failure
        self.deferrable = deferrable
        self.hook_params = hook_params
        self.openlineage_inject_parent_job_info = openlineage_inject_parent_job_info
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.mark_cause = mark_cause
        self.end_from_trigger = end_from_trigger
        self.start_in_trigger = needs_deferrable(
            "start_in_trigger", start_in_trigger, deferrable=deferrable
        )
        self.durable = durable
        self.summarize_results = summarize_results
        self.log_steps = log_steps
        self.note_ids(kwargs)
        check_hook_params(hook_params)
        for name, check in _CHECKS.items():
            if is_literal(getattr(self, name)):
                check(getattr(self, name))

    @property
    def hook(self) -> DbtCloudHook:
        """The hook of the operator's connection, for calls made by hand."""
        # From this module, where tests of DAGs patch it.
        from async_triggers.dbt_cloud.operators import DbtCloudHook

        return DbtCloudHook.for_task(
            self.dbt_cloud_conn_id,
            account_id=self.account_id,
            hook_params=self.hook_params,
        )

    @property
    def run_id(self) -> int | None:
        """The id of the run, as soon as the task knows it; for callbacks."""
        return int(self._job_id) if self._job_id else None

    def check_arguments(self) -> None:
        """Raise AirflowException when a rendered argument cannot be used."""
        super().check_arguments()
        check_hook_params(self.hook_params)
        for name, check in _CHECKS.items():
            check(getattr(self, name))

    def warn_of_arguments(self) -> None:
        """Log what of the arguments has no effect."""
        from async_triggers.dbt_cloud.api import requests
        from async_triggers.dbt_cloud.hooks import read_hook_params
        from async_triggers.deferral.unknown import unknown_keys

        config = self.additional_run_config or {}
        for advice in unknown_keys(config, requests.RUN_FIELDS).values():
            self.log.warning("additional_run_config: %s", advice)

        read_hook_params(self.hook_params).warn(self.log)
        if self.openlineage_inject_parent_job_info and not self._parent_text:
            self.log.warning(
                "openlineage_inject_parent_job_info has no effect: OpenLineage's provider"
                " is not installed, or the names of DAG and task are too long for a cause"
            )

    @property
    def _parent_text(self) -> str:
        """OpenLineage's parent of the run as JSON, the fullest that fits into a cause."""
        from async_triggers.dbt_cloud.api import requests

        attempt = self._attempt
        if attempt is None or not self.openlineage_inject_parent_job_info:
            return ""

        try:
            from async_triggers.lineage.parent import parent_texts
        except ImportError:
            return ""

        room = requests.LONGEST_CAUSE
        if self.mark_cause:
            room -= requests.LONGEST_MEMBER

        texts = parent_texts(attempt.context["ti"])
        return next((text for text in texts if len(text) <= room), "")

    def make_request(self) -> DbtCloudRunRequest:
        """Return what the rendered arguments request."""
        from async_triggers.dbt_cloud.hooks import read_hook_params
        from async_triggers.dbt_cloud.remote_job import DbtCloudRunRequest

        config = {**(self.additional_run_config or {})}
        cause = config.pop("cause", None) or self._parent_text or self.trigger_reason
        overrides: dict[str, Any] = {}
        if self.schema_override:
            overrides["schema_override"] = self.schema_override

        if self.steps_override:
            overrides["steps_override"] = self.steps_override

        return DbtCloudRunRequest(
            conn_id=self.dbt_cloud_conn_id,
            account_id=_id_if_any("account_id", self.account_id),
            job_id=_id_if_any("job_id", self.job_id),
            project_name=self.project_name,
            environment_name=self.environment_name,
            job_name=self.job_name,
            cause=str(cause or ""),
            overrides={**overrides, **config},
            reuse_existing_run=self.reuse_existing_run,
            retry_from_failure=self.retry_from_failure,
            mark_cause=self.mark_cause,
            hook_params=read_hook_params(self.hook_params).to_json(),
            summarize=self.summarize_results,
            log_steps=self.log_steps,
            poll_interval=self.check_interval,
            waits=self.wait_for_termination,
            if_running="attach",
            cancel_on_kill=self.cancel_on_kill,
            cancel_on_timeout=self.cancel_on_timeout,
        )


def _id_if_any(name: str, value: object) -> int | None:
    """Return an id; None also for what a template has come to since the start."""
    try:
        return optional_id(name, value)
    except ArgumentUnusable:
        return None


def _check_steps(value: object) -> None:
    if value is not None and not (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(step, str) and step for step in value)
    ):
        msg = f"steps_override must be a list of dbt commands, not {value!r}"
        raise ArgumentUnusable(msg)


def _check_related(value: object) -> None:
    if value is not None and not (
        isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
    ):
        msg = f"include_related must be a list such as ['job'], not {value!r:.100}"
        raise ArgumentUnusable(msg)


def _check_config(value: object) -> None:
    if value is None:
        return

    if not isinstance(value, Mapping):
        msg = f"additional_run_config must be an object, not {value!r:.100}"
        raise ArgumentUnusable(msg)

    for key, each in value.items():
        try:
            json.dumps(each, allow_nan=False)
        except (TypeError, ValueError) as error:
            msg = f"additional_run_config[{key!r}] cannot be sent as JSON: {error}"
            raise ArgumentUnusable(msg) from None


def _check_text(name: str, value: object) -> None:
    if value is not None and not isinstance(value, str):
        msg = f"{name} must be a text, not {value!r:.100}"
        raise ArgumentUnusable(msg)


_CHECKS: Mapping[str, Callable[[object], None]] = {
    "steps_override": _check_steps,
    "additional_run_config": _check_config,
    "schema_override": partial(_check_text, "schema_override"),
    "trigger_reason": partial(_check_text, "trigger_reason"),
}


class DbtCloudGetJobRunArtifactOperator(BaseOperator, TakesIds):
    """Downloads an artifact of a run, and returns the name of the file.

    The file is written as dbt Cloud gives it, on the worker that runs the task.

    :param dbt_cloud_conn_id: the Airflow connection (templated)
    :param run_id: the run (templated)
    :param path: the artifact's path, such as ``manifest.json`` (templated)
    :param account_id: the account; else the connection's login (templated)
    :param step: the run's step, counted from 1; else the last one
    :param output_file_name: where to write; else ``<run_id>_<path>`` with dashes for
        slashes (templated)
    :param hook_params: ``timeout_seconds`` and ``retry_limit`` of the call
    """

    template_fields: Sequence[str] = (
        "dbt_cloud_conn_id",
        "run_id",
        "path",
        "account_id",
        "output_file_name",
    )
    ui_color = "#FF694A"

    ids = Ids(
        required={"dbt_cloud_conn_id": text, "run_id": whole_number, "path": text},
        optional={"account_id": whole_number, "output_file_name": text},
    )

    def __init__(
        self,
        *,
        dbt_cloud_conn_id: str = CONNECTION,
        run_id: int | str | XComArg,
        path: str,
        account_id: int | str | None = None,
        step: int | None = None,
        output_file_name: str | None = None,
        hook_params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dbt_cloud_conn_id = dbt_cloud_conn_id
        self.run_id = run_id
        self.path = path
        self.account_id = account_id
        self.step = step
        self.output_file_name = output_file_name
        self.hook_params = hook_params
        self.note_ids(kwargs)
        check_hook_params(hook_params)
        if step is not None:
            whole_number("step", step)

    def execute(self, context: Context) -> str:
        """Download the artifact."""
        from async_triggers.dbt_cloud.hooks import read_hook_params
        from async_triggers.dbt_cloud.operators import DbtCloudHook

        make_plain(self)
        self.settle_ids()
        run_id = whole_number("run_id", self.run_id)
        path = text("path", self.path)
        read_hook_params(self.hook_params).warn(self.log)
        hook = DbtCloudHook.for_task(
            self.dbt_cloud_conn_id,
            account_id=self.account_id,
            hook_params=self.hook_params,
        )
        content = hook.run(
            lambda leased: hook.get_artifact(leased, run_id, path, step=self.step)
        )
        name = self.output_file_name or f"{run_id}_{path}".replace("/", "-")
        file = Path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.log.info("Wrote %s of run %d to %s", path, run_id, file)
        return str(file)


class DbtCloudListJobsOperator(BaseOperator, TakesIds):
    """Returns the ids of the account's jobs.

    :param dbt_cloud_conn_id: the Airflow connection (templated)
    :param account_id: the account; else the connection's login (templated)
    :param project_id: only the jobs of this project (templated)
    :param order_by: a field, with a minus before it for the reverse order
    :param hook_params: ``timeout_seconds`` and ``retry_limit`` of the calls
    """

    template_fields: Sequence[str] = ("account_id", "project_id", "dbt_cloud_conn_id")
    ui_color = "#FF694A"

    ids = Ids(
        required={"dbt_cloud_conn_id": text},
        optional={"account_id": whole_number, "project_id": whole_number},
    )

    def __init__(
        self,
        *,
        dbt_cloud_conn_id: str = CONNECTION,
        account_id: int | str | None = None,
        project_id: int | str | None = None,
        order_by: str | None = None,
        hook_params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dbt_cloud_conn_id = dbt_cloud_conn_id
        self.account_id = account_id
        self.project_id = project_id
        self.order_by = order_by
        self.hook_params = hook_params
        self.note_ids(kwargs)
        check_hook_params(hook_params)

    def execute(self, context: Context) -> list[int]:
        """List the jobs."""
        from async_triggers.dbt_cloud.api import models
        from async_triggers.dbt_cloud.hooks import read_hook_params
        from async_triggers.dbt_cloud.operators import DbtCloudHook

        make_plain(self)
        self.settle_ids()
        project = optional_id("project_id", self.project_id)
        read_hook_params(self.hook_params).warn(self.log)
        hook = DbtCloudHook.for_task(
            self.dbt_cloud_conn_id,
            account_id=self.account_id,
            hook_params=self.hook_params,
        )
        rows = hook.run(
            lambda leased: hook.list_job_definitions(
                leased, project_id=project, order_by=self.order_by
            )
        )
        found = [int(models.row_id(row)) for row in rows]
        self.log.info("dbt Cloud has %d such jobs", len(found))
        return found


class DbtCloudListJobRunsOperator(BaseOperator, TakesIds):
    """Returns runs as dbt Cloud shows them: a list, or one alone.

    :param dbt_cloud_conn_id: the Airflow connection (templated)
    :param account_id: the account; else the connection's login (templated)
    :param job_id: only the runs of this job (templated)
    :param order_by: ``id``, ``created_at`` or ``finished_at``, with a minus before it for
        the reverse order; else the oldest come first (templated)
    :param include_related: what to add: ``trigger``, ``job``, ``audit``, ``debug_logs``
        (templated)
    :param hook_params: ``timeout_seconds`` and ``retry_limit`` of the calls
    :param latest_only: return the newest run alone (the first one by ``order_by``, if that
        is given), None if there is none
    :param status_filter: only runs of this status or these, see
        :class:`~async_triggers.dbt_cloud.api.models.DbtCloudJobRunStatus`
    """

    template_fields: Sequence[str] = (
        "account_id",
        "job_id",
        "order_by",
        "include_related",
        "dbt_cloud_conn_id",
    )
    ui_color = "#FF694A"

    ids = Ids(
        required={"dbt_cloud_conn_id": text},
        optional={"account_id": whole_number, "job_id": whole_number},
    )

    def __init__(
        self,
        *,
        dbt_cloud_conn_id: str = CONNECTION,
        account_id: int | str | None = None,
        job_id: int | str | None = None,
        order_by: str | None = None,
        include_related: list[str] | None = None,
        hook_params: dict[str, Any] | None = None,
        latest_only: bool = False,
        status_filter: int | list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dbt_cloud_conn_id = dbt_cloud_conn_id
        self.account_id = account_id
        self.job_id = job_id
        self.order_by = order_by
        self.include_related = include_related
        self.hook_params = hook_params
        self.latest_only = latest_only
        self.status_filter = status_filter
        self.note_ids(kwargs)
        check_hook_params(hook_params)
        self._statuses()
        if is_literal(include_related):
            _check_related(include_related)

    def execute(self, context: Context) -> list[dict[str, Any]] | dict[str, Any] | None:
        """List the runs."""
        from async_triggers.dbt_cloud.hooks import read_hook_params
        from async_triggers.dbt_cloud.operators import DbtCloudHook

        make_plain(self)
        self.settle_ids()
        statuses = self._statuses()
        _check_related(self.include_related)
        job_id = optional_id("job_id", self.job_id)
        order = self.order_by or ("-id" if self.latest_only else None)
        read_hook_params(self.hook_params).warn(self.log)
        hook = DbtCloudHook.for_task(
            self.dbt_cloud_conn_id,
            account_id=self.account_id,
            hook_params=self.hook_params,
        )
        rows = hook.run(
            lambda leased: hook.list_runs(
                leased,
                job_id=job_id,
                order_by=order,
                include_related=self.include_related or (),
                statuses=statuses,
                latest_only=self.latest_only,
            )
        )
        found = [dict(row) for row in rows]
        if self.latest_only:
            return found[0] if found else None

        return found

    def _statuses(self) -> list[int]:
        given: Any = self.status_filter
        if given is None:
            return []

        from async_triggers.dbt_cloud.api.models import DbtCloudJobRunStatus

        is_one = isinstance(given, str) or not isinstance(given, Collection)
        statuses = [given] if is_one else list(given)
        # The groups are less than nothing.
        known = [status.value for status in DbtCloudJobRunStatus if status > 0]
        for status in statuses:
            if status not in known:
                msg = f"status_filter must be of {known}, not {status!r:.100}"
                raise ArgumentUnusable(msg)

        return [int(status) for status in statuses]
