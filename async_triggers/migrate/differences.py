"""What a task does differently with this package's classes, and why.

Each sentence is about a class, or about an argument or a method of it. Faults that are gone
are no differences; values, times and job lives that a DAG may rely on are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta

from async_triggers.migrate.values import TEXT, UNKNOWN


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference, and where it shows."""

    classes: frozenset[str]
    says: str
    # Only where this argument is given.
    argument: str = ""
    # Only where it has one of these values; None for any.
    where: Callable[[object], bool] | None = None
    # Only where this argument is not given.
    without: str = ""
    # Only for a class that comes from this package.
    package: str = ""
    # Only where this method is called or named.
    method: str = ""

    @property
    def place(self) -> str:
        """How a report names the argument or the method, behind the name of the class."""
        if self.without:
            return f" without {self.without}"

        if self.method:
            return f".{self.method}"

        return f"({self.argument}=)" if self.argument else ""


ANY_OTHER = "**"
"""Stands among the arguments of a call for those that are not known."""


def differences(
    class_name: str,
    package: str,
    arguments: Mapping[str, Sequence[object]] | None = None,
    defaults: AbstractSet[str] = frozenset(),
) -> Iterator[Difference]:
    """Yield what is different about a class, or about the arguments of a call of it.

    ``arguments`` are those of the call, each with the values that it may have.
    ``defaults`` are arguments that are given elsewhere.
    """
    for each in _ALL:
        if class_name not in each.classes or each.package not in {"", package}:
            continue

        if each.method:
            # Where it is called, see below.
            continue

        if arguments is None:
            applies = not each.argument and not each.without
        elif each.without:
            applies = not {each.without, ANY_OTHER} & {*arguments, *defaults}
        elif each.where is None:
            applies = each.argument in arguments
        else:
            applies = any(map(each.where, arguments.get(each.argument, ())))

        if applies:
            yield each


def differences_of_method(class_name: str, method: str) -> Iterator[Difference]:
    """Yield what is different about a method that is called by hand."""
    return (
        each
        for each in _ALL
        if method and each.method == method and class_name in each.classes
    )


def _about(
    *classes: str,
    says: str,
    argument: str = "",
    where: Callable[[object], bool] | None = None,
    package: str = "",
    method: str = "",
) -> Difference:
    return Difference(
        frozenset(classes),
        says,
        argument=argument,
        where=where,
        package=package,
        method=method,
    )


# Values of arguments -----------------------------------------------------------------


def _is_text(value: object) -> bool:
    return value is TEXT or isinstance(value, str)


def _seconds(value: object) -> float | None:
    """Return a number of seconds; None for what is none, or is not known."""
    if isinstance(value, timedelta):
        return value.total_seconds()

    if isinstance(value, int | float) and not isinstance(value, bool):
        return value

    return None


def _is_zero(value: object) -> bool:
    return _seconds(value) == 0


def _is_positive(value: object) -> bool:
    seconds = _seconds(value)
    return seconds is not None and seconds > 0


def _is_negative(value: object) -> bool:
    seconds = _seconds(value)
    return seconds is not None and seconds < 0


def _may_be_zero(value: object) -> bool:
    return value is UNKNOWN or _is_zero(value)


def _may_be_limit(value: object) -> bool:
    return value is UNKNOWN or _is_positive(value)


def _may_be_on(value: object) -> bool:
    return value is UNKNOWN or bool(value)


def _may_be_off(value: object) -> bool:
    return value is UNKNOWN or not value


def _is_off_but_not_false(value: object) -> bool:
    return value is None or _is_zero(value)


# The differences ---------------------------------------------------------------------

_SWITCHES = {
    "AirbyteTriggerSyncOperator": ("asynchronous", "deferrable"),
    "AirbyteJobSensor": ("deferrable",),
    "FivetranOperator": ("deferrable", "wait_for_completion"),
    "FivetranResyncOperator": ("deferrable", "wait_for_completion"),
    "FivetranSensor": (
        "always_wait_when_syncing",
        "deferrable",
        "propagate_failures_forward",
    ),
    "DbtCloudRunJobOperator": (
        "deferrable",
        "openlineage_inject_parent_job_info",
        "retry_from_failure",
        "reuse_existing_run",
        "wait_for_termination",
    ),
    "DbtCloudJobRunSensor": ("deferrable",),
}
"""What is on or off in the other providers' classes."""

_FIVETRAN = "fivetran_provider_async"
_OLD_FIVETRAN = "fivetran_provider"

_ALL = (
    _about(
        "AirbyteTriggerSyncOperator",
        "DbtCloudRunJobOperator",
        says=(
            "a task that is stopped or that times out cancels its job, also while it is"
            " deferred; cancel_on_kill=False and cancel_on_timeout=False prevent it"
        ),
    ),
    _about(
        "AirbyteTriggerSyncOperator",
        "DbtCloudRunJobOperator",
        "FivetranOperator",
        "FivetranResyncOperator",
        says=(
            "a retry attaches to the job of the earlier attempt while that job runs,"
            " so that no second one starts"
        ),
    ),
    *(
        _about(
            name,
            argument=argument,
            where=_is_text,
            says=(
                'a text is an error, "False" as well, which turned it on: write True or'
                " False"
            ),
        )
        for name, arguments in _SWITCHES.items()
        for argument in arguments
    ),
    _about(
        "AirbyteTriggerSyncOperator",
        "DbtCloudRunJobOperator",
        argument="timeout",
        where=_is_negative,
        says="a negative number is an error; the task failed once its job had started",
    ),
    _about(
        "AirbyteJobSensor",
        "DbtCloudJobRunSensor",
        "FivetranSensor",
        argument="soft_fail",
        where=_may_be_on,
        says=(
            "a job that has failed skips the sensor in every mode, and a broken connection"
            " fails it; on a worker a job that had failed failed the sensor"
        ),
    ),
    # Airbyte
    _about(
        "AirbyteTriggerSyncOperator",
        says=(
            "a deferred task returns the job's id, as the other modes do; it returned"
            " None"
        ),
    ),
    _about(
        "AirbyteTriggerSyncOperator",
        says=(
            "where a sync already runs, the task waits for it and then starts its own;"
            ' if_running="fail" makes it fail, as it did'
        ),
    ),
    _about(
        "AirbyteTriggerSyncOperator",
        argument="wait_seconds",
        says="it holds for a deferred task too, which polled every 60 seconds",
    ),
    _about(
        "AirbyteTriggerSyncOperator",
        argument="timeout",
        where=_may_be_limit,
        says="the job is cancelled when it has passed, in a deferred task too",
    ),
    _about(
        "AirbyteTriggerSyncOperator",
        argument="timeout",
        where=_is_zero,
        says="0 sets no limit for a deferred task either, which failed at once",
    ),
    _about(
        "AirbyteJobSensor",
        says=(
            "a deferred sensor polls every poke_interval seconds and not every 60; where"
            " its job fails, soft_fail and never_fail hold for it too"
        ),
    ),
    _about(
        "AirbyteHook",
        method="cancel_job",
        says=(
            "it first checks that the job has not ended: Airbyte would cancel whichever job"
            " of the connection runs then"
        ),
    ),
    _about(
        "AirbyteHook",
        method="wait_for_job",
        says=(
            "a refusal that lasts ends it, which was tried again until the timeout; a job"
            " is checked at most every five seconds"
        ),
    ),
    # Fivetran
    _about(
        "FivetranOperator",
        "FivetranResyncOperator",
        says=(
            "a sync that already runs is not stopped (no force): the task waits for it and"
            " then starts its own, see if_running"
        ),
    ),
    _about(
        "FivetranOperator",
        "FivetranResyncOperator",
        package=_FIVETRAN,
        says=(
            "a sync that Fivetran has put off is started again at the time that it names,"
            " unless reschedule_wait_time is set; a deferred task started it again at once"
        ),
    ),
    _about(
        "FivetranOperator",
        "FivetranResyncOperator",
        argument="deferrable",
        where=_may_be_off,
        package=_FIVETRAN,
        says=(
            "a task that waits on a worker returns the time of the success, as a deferred"
            " one does; it returned None"
        ),
    ),
    _about(
        "FivetranOperator",
        "FivetranResyncOperator",
        argument="reschedule_wait_time",
        where=_may_be_zero,
        says=(
            "0 waits until the time to which Fivetran has put the sync off; a deferred"
            " task started the sync again at once"
        ),
    ),
    _about(
        "FivetranOperator",
        "FivetranResyncOperator",
        argument="reschedule_wait_time",
        where=_is_positive,
        says="it holds for a task on a worker too, which ignored it",
    ),
    _about(
        "FivetranOperator",
        "FivetranResyncOperator",
        argument="timeout_seconds",
        where=_may_be_limit,
        says=(
            "it limits the wait, as timeout does; a timedelta was the execution_timeout,"
            " and a number was refused or had no effect"
        ),
    ),
    _about(
        "FivetranOperator",
        "FivetranResyncOperator",
        "FivetranSensor",
        argument="fivetran_retry_delay",
        says="it has no effect: waits between tries double from one second",
    ),
    _about(
        "FivetranHook",
        "FivetranHookAsync",
        method="start_fivetran_sync",
        says=(
            "it does not stop a sync that already runs (no force), nor start another one"
            " after it"
        ),
    ),
    _about(
        "FivetranHook",
        "FivetranHookAsync",
        argument="timeout_seconds",
        package=_FIVETRAN,
        says="it limits each request; it had no effect",
    ),
    _about(
        "FivetranHook",
        "FivetranHookAsync",
        argument="retry_delay",
        says="it has no effect: waits between tries double from one second",
    ),
    _about(
        "FivetranSensor",
        package=_FIVETRAN,
        says=(
            "a connection that is broken fails it, which was waited for until the sensor"
            " gave up"
        ),
    ),
    _about(
        "FivetranSensor",
        argument="xcom",
        says="it is deprecated: write completed_after_time",
    ),
    *(
        _about(
            "FivetranSensor",
            argument=argument,
            package=_FIVETRAN,
            says="it holds for a deferred sensor too, which ignored it",
        )
        for argument in (
            "always_wait_when_syncing",
            "propagate_failures_forward",
            "timeout",
        )
    ),
    Difference(
        frozenset({"FivetranOperator"}),
        "it waits for the sync to end and returns the time of its success, where it"
        " returned at once: a FivetranSensor behind it would wait for one more sync;"
        " remove the sensor, or write wait_for_completion=False here",
        package=_OLD_FIVETRAN,
    ),
    Difference(
        frozenset({"FivetranSensor"}),
        "it defers, which needs a triggerer; deferrable=False waits on a worker",
        package=_OLD_FIVETRAN,
    ),
    Difference(
        frozenset({"FivetranHook", "FivetranOperator", "FivetranSensor"}),
        'the default connection is "fivetran_default"; it was "fivetran"',
        without="fivetran_conn_id",
        package=_OLD_FIVETRAN,
    ),
    # dbt Cloud
    _about(
        "DbtCloudRunJobOperator",
        says=(
            "the cause of each run ends with a mark, by which a start is found whose"
            " answer was lost; mark_cause=False leaves it out"
        ),
    ),
    _about(
        "DbtCloudRunJobOperator",
        argument="timeout",
        where=_may_be_limit,
        says="the run is cancelled when it has passed",
    ),
    _about(
        "DbtCloudRunJobOperator",
        argument="timeout",
        where=_is_zero,
        says=(
            "0 sets no limit; the task failed unless its run had ended when it was first"
            " checked"
        ),
    ),
    _about(
        "DbtCloudRunJobOperator",
        argument="deferrable",
        where=_is_off_but_not_false,
        says="it waits on a worker; anything but False was deferred",
    ),
    _about(
        "DbtCloudRunJobOperator",
        argument="retry_from_failure",
        says=(
            "it retries the failed run of this very task, on a retry of the task; it took"
            " the last run of the job, also one that something else had started"
        ),
    ),
    _about(
        "DbtCloudRunJobOperator",
        "DbtCloudJobRunSensor",
        "DbtCloudGetJobRunArtifactOperator",
        "DbtCloudListJobsOperator",
        "DbtCloudListJobRunsOperator",
        argument="hook_params",
        says="timeout_seconds and retry_limit count; other keys have no effect",
    ),
    _about(
        "DbtCloudJobRunSensor",
        says="it returns the run's id in every mode; it did so only after a deferral",
    ),
    _about(
        "DbtCloudHook",
        argument="retry_delay",
        says="it has no effect: waits between tries double from one second",
    ),
    _about(
        "DbtCloudHook",
        argument="retry_args",
        says="it has no effect: retry_limit= says how often a call is tried",
    ),
    _about(
        "DbtCloudHook",
        method="get_conn",
        says=(
            "it returns the account that the connection describes, and no session of"
            " requests: see get_headers_tenants_from_connection"
        ),
    ),
    _about(
        "DbtCloudHook",
        method="run",
        says=(
            "it runs a coroutine function over the account, and sends no request to an"
            " endpoint: see get_headers_tenants_from_connection"
        ),
    ),
)
