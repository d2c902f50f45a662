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
       ├─ VendorRefused         the vendor rejected a request, or does not know the job
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

if TYPE_CHECKING:
    from async_triggers.engine.jobs import Job


class AsyncTriggersException(AirflowException):
    """Whatever a task of this package fails with."""


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
    """The vendor rejected a request, or does not know the job."""


class VendorUnavailable(AsyncTriggersException):
    """The vendor could not be asked in time."""


class EventUnusable(AsyncTriggersException):
    """The event that resumed the task is malformed or from another version."""


def translate(error: EngineError, conn_id: str) -> AsyncTriggersException:
    """Turn an error of the engine into one of Airflow's."""
    message = f"{error.message} (connection {conn_id!r})"
    if isinstance(error, CredentialsRejected):
        return ConnectionUnusable(
            f"{message}. Check the connection's login and password, or its token"
        )

    if isinstance(error, AccountMisconfigured):
        return ConnectionUnusable(message)

    if isinstance(error, AlreadyRunning):
        return JobAlreadyRunning(message)

    if isinstance(error, TransientError):
        return VendorUnavailable(message)

    return VendorRefused(message)
