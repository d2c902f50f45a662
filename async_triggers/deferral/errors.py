"""What a task fails with.

::

    AirflowException
    └─ AsyncTriggersException
       ├─ JobFailed             the job ended in failure; carries the job
       ├─ JobCancelled          the job was cancelled at the vendor
       ├─ JobTimedOut           a deadline passed while the job was running
       ├─ JobAlreadyRunning     somebody else's job runs, and if_running is "fail"
       ├─ TaskKilled            the task was stopped while it waited on a worker
       ├─ ConnectionUnusable    the connection is missing, malformed or not accepted
       ├─ VendorRefused         the vendor rejected a request or does not know the job, or
       │                        something in between refused every request
       ├─ VendorUnavailable     the vendor could not be asked until it was too late
       └─ EventUnusable         the trigger's event cannot be trusted

A retry policy may key on these classes. Messages name the job, its URL where there is
one, and the next step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from async_triggers.deferral.compat import AirflowException
from async_triggers.engine.errors import (
    AccountMisconfigured,
    AlreadyRunning,
    CredentialsRejected,
    EngineError,
    TransientError,
)
from async_triggers.provider_info import field_label, has_field

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job


class AsyncTriggersException(AirflowException):
    """Base class of all that a task of this package fails with.

    ``cause`` is the engine's error where one led to it.
    """

    cause: EngineError | None = None


class JobEnded(AsyncTriggersException):
    """The job is over, and not well. ``job`` is what the vendor last said of it."""

    def __init__(self, message: str, *, job: Job | None = None) -> None:
        super().__init__(message)
        self.job = job


class JobFailed(JobEnded):
    """The job ended in failure."""


class JobCancelled(JobEnded):
    """The job was cancelled at the vendor."""


class JobTimedOut(JobEnded):
    """A deadline of the task passed while the job was running."""


class JobAlreadyRunning(AsyncTriggersException):
    """A job that is not this task's runs already."""


class TaskKilled(AsyncTriggersException):
    """The task was stopped while it waited on a worker."""


class ConnectionUnusable(AsyncTriggersException):
    """The Airflow connection is missing, malformed, or not accepted by the vendor."""


class VendorRefused(AsyncTriggersException):
    """The vendor rejected a request or does not know the job.

    Also where something between Airflow and the vendor refused every request.
    """


class VendorUnavailable(AsyncTriggersException):
    """The vendor could not be asked in time."""


class EventUnusable(AsyncTriggersException):
    """The event that resumed the task is malformed or from another version."""


def explain(error: EngineError, conn_id: str, conn_type: str = "") -> str:
    """Say what went wrong with which connection.

    Where there is evidence of a wrong field, also which field that is, as the form of
    ``conn_type`` and Airflow call it, and what to write instead.
    """
    told = f"{error.message} (connection {conn_id!r})"
    suspect = error.suspect
    if suspect is None:
        return told

    told = f"{told}. {field_label(conn_type, suspect.field)}: {suspect.fix}"
    if suspect.is_path and has_field(conn_type, "extra.api_path"):
        told += f", or set {field_label(conn_type, 'extra.api_path')}"

    return told


def requested(error: EngineError | None) -> str:
    """Say what was requested, for the end of a message; empty where nothing was sent."""
    return f". Requested: {error.url}" if error is not None and error.url else ""


def translate(
    error: EngineError, conn_id: str, conn_type: str = ""
) -> AsyncTriggersException:
    """Turn an error of the engine into one of Airflow's."""
    message = explain(error, conn_id, conn_type)
    if error.suspect is not None or isinstance(error, AccountMisconfigured):
        message += requested(error)

    failure: AsyncTriggersException
    if isinstance(error, CredentialsRejected):
        login, password = (field_label(conn_type, f) for f in ("login", "password"))
        failure = ConnectionUnusable(
            f"{message}. Check the connection's {login} and {password}"
        )
    elif isinstance(error, AccountMisconfigured):
        failure = ConnectionUnusable(message)
    elif isinstance(error, AlreadyRunning):
        failure = JobAlreadyRunning(message)
    elif isinstance(error, TransientError):
        failure = VendorUnavailable(message)
    else:
        failure = VendorRefused(message)

    failure.cause = error
    return failure
