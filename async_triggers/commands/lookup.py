"""Airflow's connections, as a command line finds them: no supervisor, no task."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Connection

    from async_triggers.deferral.hook import VendorHook

VENDORS: Final = ("airbyte", "fivetran", "dbt_cloud")
"""The connection types that a command understands, in lower case."""

_HOOKS: Final = {
    "airbyte": ("async_triggers.airbyte.hooks", "AirbyteHook"),
    "fivetran": ("async_triggers.fivetran.hooks", "FivetranHook"),
    "dbt_cloud": ("async_triggers.dbt_cloud.hooks", "DbtCloudHook"),
}
_CONTEXT: Final = "_AIRFLOW_PROCESS_CONTEXT"
_VARIABLE: Final = "AIRFLOW_CONN_"


class UnknownConnectionError(Exception):
    """Airflow has no connection of that id, cannot read it, or its type names no vendor."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}: {fix}")
        self.problem = problem
        self.fix = fix


@contextmanager
def airflow_in_server_context() -> Iterator[None]:
    """Let Airflow look connections up in its database, and log to the standard error.

    Outside of a task, Airflow 3 reads its database only in processes that say that they
    are a server's.
    """
    before = os.environ.get(_CONTEXT)
    os.environ.setdefault(_CONTEXT, "server")
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if before is None:
            del os.environ[_CONTEXT]


def find_hook(conn_id: str, vendor: str | None = None) -> VendorHook:
    """Return the hook of a connection; ``vendor`` wins over the connection's type.

    Raise :class:`UnknownConnectionError`.
    """
    connection = _look_up(conn_id)
    if vendor is None:
        kind = connection.conn_type or ""
        vendor = kind.lower()
        if vendor not in _HOOKS:
            raise UnknownConnectionError(
                f"The connection {conn_id!r} has the type {kind!r}, which names no vendor",
                f"add --vendor with one of {', '.join(VENDORS)}",
            )

    module, name = _HOOKS[vendor]
    hook: VendorHook = getattr(import_module(module), name)(conn_id)
    # The commands report what the hook would log.
    hook.is_quiet = True
    return hook


def _look_up(conn_id: str) -> Connection:
    """Return a connection; raise :class:`UnknownConnectionError`."""
    from airflow.sdk import BaseHook

    from async_triggers.deferral.compat import AirflowException

    try:
        return BaseHook.get_connection(conn_id)
    except AirflowException:
        # To Airflow, what it cannot read is not there. Its own error is not shown: it may
        # hold the connection.
        raise _unknown(conn_id) from None


def _unknown(conn_id: str) -> UnknownConnectionError:
    variable = f"{_VARIABLE}{conn_id.upper()}"
    if os.environ.get(variable):
        return UnknownConnectionError(
            f"{variable} holds no connection that Airflow can read",
            "correct it: it takes a JSON object or a URI",
        )

    trouble = database_trouble()
    if trouble:
        return UnknownConnectionError(
            f"The connection {conn_id!r} is not in the environment, and Airflow's"
            f" database cannot be read ({trouble})",
            f"set {variable}, or run this where `airflow db check` passes",
        )

    return UnknownConnectionError(
        f"Airflow has no connection {conn_id!r}",
        f"create it under Admin, Connections, or set {variable}",
    )


def database_trouble() -> str:
    """Return why Airflow's database shows no connections, empty where it does.

    Workers of Airflow 3 need no database, so they often have none.
    """
    return _read_database()[1]


def _read_database() -> tuple[list[str], str]:
    """Return the ids that the database shows, and why it shows none, empty if it does."""
    try:
        return _stored_conn_ids(), ""
    except Exception as error:  # noqa: BLE001 - SQLAlchemy's, the driver's, Airflow's
        # Its words may hold the database's address.
        return [], type(error).__name__


def _stored_conn_ids() -> list[str]:
    from airflow.models.connection import Connection  # the database's, not the SDK's
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    kinds = func.lower(Connection.conn_type)
    with create_session() as session:
        stored = session.scalars(
            select(Connection.conn_id).where(kinds.in_(VENDORS))
        ).all()

    return [*map(str, stored)]


def known_conn_ids() -> list[str]:
    """Return the ids of all connections whose type names a vendor.

    Those in the environment and those in Airflow's database, where it can be read; other
    secrets backends cannot be listed. Those of the environment that cannot be read are
    among them: their type is unknown.
    """
    stored, _ = _read_database()
    set_here = [
        name.removeprefix(_VARIABLE).lower()
        for name, value in os.environ.items()
        if name.startswith(_VARIABLE) and value
    ]
    return sorted({*stored, *filter(_may_be_ours, set_here)})


def _may_be_ours(conn_id: str) -> bool:
    try:
        kind = _look_up(conn_id).conn_type or ""
    except UnknownConnectionError:
        return True

    return kind.lower() in VENDORS
