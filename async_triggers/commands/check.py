"""``async-triggers check``: what is wrong with a connection or with the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from async_triggers.commands.lookup import (
    VENDORS,
    airflow_in_server_context,
    database_trouble,
    known_conn_ids,
)
from async_triggers.commands.requirement import WHOLE_PACKAGE, needs

if TYPE_CHECKING:
    import argparse

    from async_triggers.commands.check_report import Section
    from async_triggers.deferral.finding import Finding


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "check",
        help="check connections, the vendors behind them and the triggerer's settings",
        description=(
            "Check Airflow connections from their fields to the vendor's answers, and the"
            " settings of the triggerer. Nothing is started or changed at a vendor. With"
            " connections named, only these are checked. The"
            " exit code is 0 if all is well, 1 after a warning, 2 after an error."
        ),
    )
    parser.add_argument(
        "conn_ids",
        nargs="*",
        metavar="CONN_ID",
        help="a connection; without one, all of them and the triggerer's settings",
    )
    parser.add_argument(
        "--vendor",
        choices=VENDORS,
        help="whose connections they are, where their type does not say so",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Check, print, and return the exit code."""
    with needs(WHOLE_PACKAGE):
        from async_triggers.commands import check_report

        with airflow_in_server_context():
            sections = _sections(chosen.conn_ids, chosen.vendor)

    show = check_report.as_json if chosen.json else check_report.as_text
    print(show(sections))
    return check_report.EXIT_CODES[check_report.worst(sections)]


def _sections(conn_ids: list[str], vendor: str | None) -> list[Section]:
    from async_triggers.commands.check_connection import check_connection
    from async_triggers.commands.check_report import Section
    from async_triggers.commands.check_triggerer import check_triggerer, read_settings

    found = [
        Section(
            name=conn_id, kind="connection", findings=check_connection(conn_id, vendor)
        )
        for conn_id in conn_ids or known_conn_ids()
    ]
    if not conn_ids:
        settings = [*check_triggerer(read_settings()), *_database()]
        found.append(Section(name="triggerer", kind="settings", findings=settings))

    return found


def _database() -> list[Finding]:
    """Return what it means that Airflow's database cannot be read."""
    from async_triggers.deferral.finding import Finding, Level

    trouble = database_trouble()
    if not trouble:
        return []

    text = f"cannot be read ({trouble}): its connections are not checked"
    fix = "Run this where `airflow db check` passes, or name the connections"
    return [Finding(topic="database", level=Level.WARNING, text=text, fix=fix)]
