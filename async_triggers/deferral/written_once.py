"""What Airflow writes in each segment of an attempt, and need not write again.

A task that resumes renders its templates as before and computes its links as before. Its
database holds both from the segment that deferred, so each would cost a request to
Airflow's API server for nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from async_triggers.deferral import compat
from async_triggers.deferral.link import JobLink

if TYPE_CHECKING:
    from airflow.sdk import Context

_HIDDEN = "_hidden_template_fields"


def hide_rendered(task: Any, context: Context) -> None:
    """Hide the rendered fields of a task that resumes from what sends them to Airflow.

    The user interface goes on showing what the task has started with.
    """
    if compat.is_resumed(context):
        task.__dict__[_HIDDEN] = task.template_fields
        task.template_fields = ()


def show_rendered(task: Any) -> None:
    """Undo :func:`hide_rendered`, once Airflow has come past it."""
    hidden = task.__dict__.pop(_HIDDEN, None)
    if hidden is not None:
        task.template_fields = hidden


def drop_links(task: Any, *, written: bool) -> None:
    """Have Airflow write no link to the job that is, or will be, an XCom without it.

    ``written`` says that an earlier segment has had the job's address.
    """
    task.operator_extra_links = tuple(
        link
        for link in task.operator_extra_links
        if not isinstance(link, JobLink) or not (written or link.is_start_xcom)
    )
