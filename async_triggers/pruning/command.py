"""The command ``async-triggers prune``."""

from __future__ import annotations

import argparse
import math
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_triggers.pruning.leftovers import Leftover

HELP = "delete what tasks have left behind in Airflow Variables"
ABOUT = (
    "Where Airflow has no task state store, tasks remember their jobs in Variables, and "
    "delete them when they succeed. Show those that failed or abandoned tasks have left, "
    "and with --delete delete them. Kept are those of tasks that have not ended, and young "
    "ones. Needs the access to Airflow's database that `airflow` commands need."
)
ERROR = 2
DAYS = 30.0
"""Days for which what a task has left behind is kept: as long as Airflow's own store
keeps it by default."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--days",
        type=_days,
        default=DAYS,
        metavar="DAYS",
        help="keep what is younger (%(default)g)",
    )
    parser.add_argument(
        "--delete",
        action="store_true",
        help="delete; without it, show only what would be deleted",
    )


def run(chosen: argparse.Namespace) -> int:
    """Show or delete the Variables that no task needs; return the exit code."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - takes seconds

    try:
        deleted, kept = _prune(days=chosen.days, delete=chosen.delete)
    except SQLAlchemyError as error:
        # Its words repeat the statement, with what the Variables hold.
        print(
            f"async-triggers prune: Airflow's database cannot be used"
            f" ({type(error).__name__}), nothing was deleted. Run this where"
            " `airflow variables list` works",
            file=sys.stderr,
        )
        return ERROR

    done = "deleted" if chosen.delete else "to delete (--delete does so)"
    print(f"{deleted} Variables {done}, {kept} kept")
    return 0


def _prune(*, days: float, delete: bool) -> tuple[int, int]:
    """Return how many Variables no task needs, and how many are kept."""
    from airflow.utils.session import create_session  # noqa: PLC0415 - takes seconds

    deleted = kept = 0
    with create_session() as session:
        for leftover in leftovers(session, now=time.time(), days=days):
            if leftover.kept:
                kept += 1
                print(f"keep    {leftover.name}  {leftover.task}: {leftover.kept}")
                continue

            deleted += 1
            print(
                f"delete  {leftover.name}  {leftover.task}, {leftover.days:.0f} days old"
            )
            if delete:
                _delete(session, leftover.name)

    return deleted, kept


def leftovers(session: Any, *, now: float, days: float) -> Iterator[Leftover]:
    """Judge each Variable of ours in Airflow's database."""
    from airflow.models import import_all_models  # noqa: PLC0415 - as above
    from airflow.models.taskinstance import TaskInstance  # noqa: PLC0415
    from airflow.models.variable import Variable  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    from async_triggers.deferral.compat.store import (  # noqa: PLC0415
        PREFIX,
        read_variable,
    )
    from async_triggers.pruning.leftovers import GONE, judge  # noqa: PLC0415

    # They name one another.
    import_all_models()
    ours = select(Variable).where(Variable.key.startswith(PREFIX, autoescape=True))
    for variable in session.scalars(ours.order_by(Variable.key)).all():
        held = read_variable(variable.val)
        state: str | None = None
        if held is not None:
            row = session.execute(
                select(TaskInstance.state).where(
                    TaskInstance.dag_id == held["dag_id"],
                    TaskInstance.run_id == held["run_id"],
                    TaskInstance.task_id == held["task_id"],
                    TaskInstance.map_index == held["map_index"],
                )
            ).first()
            state = GONE if row is None else row[0]

        yield judge(variable.key, held, state, now=now, days=days)


def _delete(session: Any, name: str) -> None:
    from airflow.models.variable import Variable  # noqa: PLC0415 - as above
    from sqlalchemy import delete  # noqa: PLC0415

    session.execute(delete(Variable).where(Variable.key == name))


def _days(text: str) -> float:
    days = float(text)
    if not math.isfinite(days) or days < 0:
        msg = f"{text} is not a number of days: give 0 or more"
        raise argparse.ArgumentTypeError(msg)

    return days
