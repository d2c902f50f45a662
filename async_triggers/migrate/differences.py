"""What a task does differently with this package's classes, and why.

Each sentence is about a class or about one argument of it. Faults that are gone are no
differences; values, times and job lives that a DAG may rely on are.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference, and where it shows."""

    classes: frozenset[str]
    says: str
    # Only where this argument is given.
    argument: str = ""
    # Only where this argument is not given.
    without: str = ""
    # Only for a class that comes from this package.
    package: str = ""

    @property
    def place(self) -> str:
        """How a report names the argument, behind the name of the class."""
        if self.without:
            return f" without {self.without}"

        return f"({self.argument}=)" if self.argument else ""


ANY_OTHER = "**"
"""Stands among the arguments of a call for those that are not known."""


def differences(
    class_name: str,
    package: str,
    arguments: AbstractSet[str] | None = None,
    defaults: AbstractSet[str] = frozenset(),
) -> Iterator[Difference]:
    """Yield what is different about a class, or about the arguments of a call of it.

    ``defaults`` are arguments that are given elsewhere.
    """
    for each in _ALL:
        if class_name not in each.classes or each.package not in {"", package}:
            continue

        if arguments is None:
            applies = not each.argument and not each.without
        elif each.without:
            applies = not {each.without, ANY_OTHER} & {*arguments, *defaults}
        else:
            applies = each.argument in arguments

        if applies:
            yield each


def _about(*classes: str, says: str, argument: str = "") -> Difference:
    return Difference(frozenset(classes), says, argument=argument)


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
        says="the job is cancelled when it has passed, in a deferred task too",
    ),
    _about(
        "AirbyteJobSensor",
        says=(
            "a deferred sensor polls every poke_interval seconds and not every 60; where"
            " its job fails, soft_fail and never_fail hold for it too"
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
        argument="reschedule_wait_time",
        says=(
            "0 waits until the time to which Fivetran has put the sync off; it started the"
            " sync again at once"
        ),
    ),
    _about(
        "FivetranOperator",
        "FivetranResyncOperator",
        argument="timeout_seconds",
        says="it limits the wait, as timeout does; it was refused or had no effect",
    ),
    _about(
        "FivetranOperator",
        "FivetranResyncOperator",
        "FivetranSensor",
        argument="fivetran_retry_delay",
        says="it has no effect: waits between tries double from one second",
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
        frozenset({"FivetranOperator", "FivetranSensor"}),
        'the default connection is "fivetran_default"; it was "fivetran"',
        without="fivetran_conn_id",
        package=_OLD_FIVETRAN,
    ),
    # dbt Cloud
    _about(
        "DbtCloudRunJobOperator",
        says=(
            "the cause of each run ends with a marker, by which a start is found whose"
            " answer was lost; mark_cause=False leaves it out"
        ),
    ),
    _about(
        "DbtCloudRunJobOperator",
        argument="timeout",
        says="the run is cancelled when it has passed",
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
)
