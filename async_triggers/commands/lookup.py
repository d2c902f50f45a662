"""Airflow's connections, as a command line finds them: no supervisor, no task."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """Airflow has no connection of that id, or its type names no vendor."""

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
    from airflow.sdk import BaseHook

    from async_triggers.deferral.compat import AirflowException

    if vendor is None:
        try:
            kind = BaseHook.get_connection(conn_id).conn_type or ""
        except AirflowException as error:
            raise UnknownConnectionError(
                f"Airflow has no connection {conn_id!r}",
                f"create it under Admin, Connections, or set {_VARIABLE}{conn_id.upper()}",
            ) from error

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


def known_conn_ids() -> list[str]:
    """Return the ids of all connections whose type names a vendor.

    Those in the environment and those in Airflow's database; other secrets backends
    cannot be listed.
    """
    from airflow.models.connection import Connection  # the database's, not the SDK's
    from airflow.sdk import BaseHook
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    kinds = func.lower(Connection.conn_type)
    with create_session() as session:
        stored = session.scalars(
            select(Connection.conn_id).where(kinds.in_(VENDORS))
        ).all()

    set_here = [
        name.removeprefix(_VARIABLE).lower()
        for name in os.environ
        if name.startswith(_VARIABLE)
    ]
    from_environment = [
        conn_id
        for conn_id in set_here
        if (BaseHook.get_connection(conn_id).conn_type or "").lower() in VENDORS
    ]
    return sorted({*map(str, stored), *from_environment})
