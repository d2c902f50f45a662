"""``async-triggers list``: the ids that tasks need, without the vendor's web interface."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from async_triggers.commands.lookup import VENDORS, airflow_in_server_context
from async_triggers.commands.requirement import WHOLE_PACKAGE, needs

if TYPE_CHECKING:
    import argparse

    from async_triggers.deferral.finding import Startable


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "list",
        help="list the connections of Airbyte or Fivetran, or the jobs of dbt Cloud",
        description=(
            "List what tasks can start, with its ids: the connections of an Airbyte or"
            " Fivetran account, or the jobs of a dbt Cloud account."
        ),
    )
    parser.add_argument("what", choices=("connections", "jobs"))
    parser.add_argument("conn_id", metavar="CONN_ID", help="an Airflow connection")
    parser.add_argument(
        "--contains",
        default="",
        metavar="TEXT",
        help="only those with this text in the id, the name or the place",
    )
    parser.add_argument(
        "--vendor",
        choices=VENDORS,
        help="whose connection it is, where its type does not say so",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """List, print, and return the exit code."""
    with needs(WHOLE_PACKAGE):
        from async_triggers.commands import table
        from async_triggers.commands.lookup import UnknownConnectionError, find_hook
        from async_triggers.deferral.errors import AsyncTriggersException
        from async_triggers.deferral.hook import words_of_failure

        try:
            with airflow_in_server_context():
                hook = find_hook(chosen.conn_id, chosen.vendor)
                if hook.startables != chosen.what:
                    print(
                        f"async-triggers list: {hook.vendor.name} has {hook.startables};"
                        f" run: async-triggers list {hook.startables} {chosen.conn_id}",
                        file=sys.stderr,
                    )
                    return 2

                account = hook.first_account(lambda: None)
                found = hook.run(hook.list_startables, account=account)
        except UnknownConnectionError as error:
            print(f"async-triggers list: {error}", file=sys.stderr)
            return 2
        except AsyncTriggersException as error:
            print(f"async-triggers list: {words_of_failure(error)}", file=sys.stderr)
            return 2

    rows = [asdict(each) for each in _matching(found, chosen.contains)]
    if chosen.json:
        print(table.as_json(rows))
    elif rows:
        print(table.as_columns(rows))
    elif found:
        print(
            f"None of {len(found)} {chosen.what} contains {chosen.contains!r} in its id,"
            " name or place.",
            file=sys.stderr,
        )
    else:
        print(f"No {chosen.what} found.", file=sys.stderr)

    return 0


def _matching(found: list[Startable], text: str) -> list[Startable]:
    wanted = text.casefold()
    return [
        each
        for each in sorted(found, key=lambda each: (each.place, each.name, each.id))
        if wanted in f"{each.id}\n{each.name}\n{each.place}".casefold()
    ]
