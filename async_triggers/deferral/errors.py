"""What a task fails with.

::

    AirflowException
    └─ AsyncTriggersException
       ├─ JobFailed             the job ended in failure; carries the job
       ├─ JobCancelled          the job was cancelled at the vendor
       ├─ JobTimedOut           a deadline passed while the job was running
       ├─ JobAlreadyRunning     another user's job runs, and if_running is "fail"
       ├─ TaskKilled            the task was stopped while it waited on a worker
       ├─ ConnectionUnusable    the connection is missing, malformed or not accepted
       ├─ VendorRefused         the vendor rejected a request or does not know the job, or
       │                        something in between refused every request
       ├─ VendorUnavailable     the vendor could not be reached until it was too late
       ├─ TriggerUnusable       the triggerer could not read the stored trigger
       └─ EventUnusable         the trigger's event cannot be trusted

A retry policy may key on these classes. Messages name the job, its URL where there is
one, and the next step.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from async_triggers.deferral.compat import AirflowException
from async_triggers.engine.errors import (
    AccountMisconfigured,
    AlreadyRunning,
    CredentialsRejected,
    EngineError,
    RefusedInBetween,
    TransientError,
)
from async_triggers.engine.wording import sentence, with_url
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
    """The vendor could not be reached in time."""


class TriggerUnusable(AsyncTriggersException):
    """The triggerer could not read the stored trigger: it is from another release."""


class EventUnusable(AsyncTriggersException):
    """The event that resumed the task is malformed or from another version."""


# What Airflow calls a connection's fields, where a message speaks of them.
_FIELDS = re.compile(
    r"(?<![\w(/.])(host|login|password|schema|extra\.\w+)(?![-\w(/]|\.\w)"
)


def name_fields(text: str, conn_type: str) -> str:
    """Call the fields of a connection in a text as its form does and as Airflow does."""
    return _FIELDS.sub(lambda match: field_label(conn_type, match[0]), text)


def explain(error: EngineError, conn_id: str, conn_type: str = "") -> str:
    """Say what went wrong with which connection.

    Where there is evidence of a wrong field, also which field that is, as the form of
    ``conn_type`` and Airflow call it, and what to write instead.
    """
    message = error.message
    if isinstance(error, AccountMisconfigured):
        message = name_fields(message, conn_type)

    words = f"{message} (connection {conn_id!r})"
    suspect = error.suspect
    if suspect is None:
        if isinstance(error, RefusedInBetween):
            words = (
                f"{sentence(words)} Search for this answer at the proxies, gateways and"
                " firewalls on the way"
            )

        return words

    words = f"{sentence(words)} {field_label(conn_type, suspect.field)}: {suspect.fix}"
    if suspect.is_path and has_field(conn_type, "extra.api_path"):
        words += f", or set {field_label(conn_type, 'extra.api_path')}"

    return words


def with_request(text: str, error: EngineError | None) -> str:
    """Add what was requested at the end of a message, unless nothing was sent."""
    if error is None or not error.url:
        return text

    return f"{sentence(text)} Requested: {error.url}"


def translate(
    error: EngineError, conn_id: str, conn_type: str = ""
) -> AsyncTriggersException:
    """Turn an error of the engine into one of Airflow's."""
    message = explain(error, conn_id, conn_type)
    if isinstance(error, CredentialsRejected):
        fields = (field_label(conn_type, each) for each in ("login", "password"))
        check = f"Check the connection's {' and '.join(fields)}"
        message = f"{sentence(message)} {check}"

    of_address = AccountMisconfigured | RefusedInBetween
    if error.suspect is not None or isinstance(error, of_address):
        message = with_request(message, error)

    failure = _class_for(error)(with_url(message, error.link))
    failure.cause = error
    return failure


def _class_for(error: EngineError) -> type[AsyncTriggersException]:
    if isinstance(error, CredentialsRejected | AccountMisconfigured):
        return ConnectionUnusable

    if isinstance(error, AlreadyRunning):
        return JobAlreadyRunning

    return VendorUnavailable if isinstance(error, TransientError) else VendorRefused
