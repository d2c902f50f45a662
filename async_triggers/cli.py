"""The command ``async-triggers``."""

from __future__ import annotations

import argparse
import asyncio
import math
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from async_triggers.commands import check, completion, jobs, listing, versions
from async_triggers.commands.requirement import WHOLE_PACKAGE, MissingError, needs
from async_triggers.pruning import command as pruning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from async_triggers.simulator.server import Simulator

_HIGHEST_PORT: Final = 65535
_INTERRUPTED: Final = 130
"""The exit code that shells give to what SIGINT has ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        chosen = _parser().parse_args(arguments)
        return int(chosen.run(chosen))
    except (OSError, MissingError) as error:
        print(f"async-triggers: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("async-triggers: interrupted", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="async-triggers",
        description="Deferrable Airbyte, Fivetran and dbt Cloud operators for Airflow.",
    )
    parser.add_argument(
        "--version",
        action=versions.ShowVersions,
        help="print the versions of this package, of Airflow and of Python",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="watch a real Airflow run the example DAGs against simulated vendors",
        description=(
            "Start simulated vendor APIs and a real Airflow, run the example DAGs, "
            "show what happens and sum it up. The exit code is 0 if all was as "
            "expected. Everything is stopped at the end, also on Ctrl-C."
        ),
    )
    demo.add_argument(
        "--keep",
        action="store_true",
        help="leave Airflow up at the end, until Ctrl-C",
    )
    demo.add_argument(
        "--home",
        type=Path,
        default=Path(".airflow", "demo"),
        metavar="DIRECTORY",
        help="where Airflow keeps its files; emptied at the start (%(default)s)",
    )
    demo.set_defaults(run=_demo)
    simulate = commands.add_parser(
        "simulate",
        help="serve the vendors' APIs on loopback",
        description=(
            "Serve simulated vendor APIs on loopback until interrupted, and print "
            "their addresses and Airflow connections."
        ),
    )
    _add_simulate_options(simulate)
    simulate.set_defaults(run=_simulate)
    generate = commands.add_parser(
        "generate",
        help="show the tasks that the generators of a YAML file make",
        description=(
            "Replace the generators of a YAML file of DAGs by the tasks that they make, "
            "and print the result as YAML. The exit code is 0 if all of its DAGs can be "
            "built."
        ),
    )
    generate.add_argument("file", type=Path, help="a YAML file of DAGs")
    generate.add_argument(
        "--dry-run",
        action="store_true",
        help="print the tasks as a tree instead, and why each connection was chosen",
    )
    generate.add_argument(
        "--refresh",
        action="store_true",
        help="query dbt and the vendors again, and store the answers for Airflow's parses",
    )
    generate.set_defaults(run=_generate)
    migrate = commands.add_parser(
        "migrate",
        help="move DAGs over from the other Airbyte, Fivetran and dbt Cloud providers",
        description=(
            "Show as a diff how the imports of other providers become imports of this "
            "package, and report what will behave differently. The exit code is 0 if "
            "nothing is left to change, 1 if differences are shown, 2 after an error."
        ),
    )
    migrate.add_argument(
        "paths",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="a Python file, or a directory of them",
    )
    migrate.add_argument(
        "--write",
        action="store_true",
        help="change the files; refused where git has changes that are not committed",
    )
    migrate.add_argument(
        "--allow-dirty",
        action="store_true",
        help="write where git could not undo these changes alone",
    )
    migrate.set_defaults(run=_migrate)
    check.register(commands)
    jobs.register(commands)
    listing.register(commands)
    completion.register(commands, _parser)
    prune = commands.add_parser("prune", help=pruning.HELP, description=pruning.ABOUT)
    pruning.add_options(prune)
    prune.set_defaults(run=_prune)
    return parser


def _add_simulate_options(parser: argparse.ArgumentParser) -> None:
    for vendor, port in (("airbyte", 8000), ("fivetran", 8001), ("dbt", 8002)):
        parser.add_argument(
            f"--{vendor}-port",
            type=_port,
            default=port,
            metavar="PORT",
            help="its port; 0 for any free one (%(default)s)",
        )
    parser.add_argument(
        "--latency",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="time that every answer takes (%(default)s)",
    )
    parser.add_argument(
        "--skew",
        type=_skew,
        default=0.0,
        metavar="SECONDS",
        help="by how much the servers' clocks are ahead (%(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="makes random faults repeatable (%(default)s)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse accounts, connections and jobs that were not arranged before",
    )
    parser.add_argument(
        "--legacy-paths",
        action="store_true",
        help="serve Fivetran's former paths too: /v1/connectors and /force",
    )
    for vendor, life in (
        ("airbyte", "pending:1 running:10 succeeded"),
        ("fivetran", "scheduled:1 syncing:10 succeeded"),
        ("dbt", "queued:1 starting:1 running:10 success"),
    ):
        parser.add_argument(
            f"--{vendor}-life",
            type=_life,
            default=life,
            metavar="LIFE",
            help="what its jobs go through, with seconds (%(default)s)",
        )


def _life(text: str) -> str:
    with needs("aiohttp"):
        from async_triggers.simulator.lives import Life

    try:
        return str(Life.parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _port(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a port; use a number from 1 to {_HIGHEST_PORT}, or 0 for any"
            " free one"
        )
    return value


def _seconds(text: str) -> float:
    value = _skew(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative; use seconds >= 0")
    return value


def _skew(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _demo(chosen: argparse.Namespace) -> int:
    with needs(f"'{WHOLE_PACKAGE}[demo]'"):
        from async_triggers.demo.run import run

    return run(home=chosen.home.resolve(), keep=chosen.keep)


def _simulate(chosen: argparse.Namespace) -> int:
    with needs("aiohttp"):
        from async_triggers.simulator.airbyte import AirbyteSettings
        from async_triggers.simulator.dbt_cloud import DbtCloudSettings
        from async_triggers.simulator.fivetran import FivetranSettings
        from async_triggers.simulator.others import installed
        from async_triggers.simulator.server import CannotListenError, Simulator

    shared = {
        "latency": chosen.latency,
        "skew": chosen.skew,
        "accept_unknown": not chosen.strict,
    }
    simulator = Simulator(
        airbyte_port=chosen.airbyte_port,
        fivetran_port=chosen.fivetran_port,
        dbt_cloud_port=chosen.dbt_port,
        airbyte=AirbyteSettings(life=chosen.airbyte_life, **shared),
        fivetran=FivetranSettings(
            life=chosen.fivetran_life, legacy_paths=chosen.legacy_paths, **shared
        ),
        dbt_cloud=DbtCloudSettings(life=chosen.dbt_life, **shared),
        others=installed(),
        seed=chosen.seed,
    )
    try:
        asyncio.run(_serve(simulator))
    except CannotListenError as error:
        option = f"--{error.vendor.removesuffix('_cloud')}-port"
        print(f"async-triggers: {error.advise(option)}", file=sys.stderr)
        return 1
    return 0


def _generate(chosen: argparse.Namespace) -> int:
    with needs(WHOLE_PACKAGE):
        from async_triggers.generators.command import generate

    return generate(chosen.file, dry_run=chosen.dry_run, refresh=chosen.refresh)


def _prune(chosen: argparse.Namespace) -> int:
    with needs(WHOLE_PACKAGE):
        return pruning.run(chosen)


def _migrate(chosen: argparse.Namespace) -> int:
    try:
        from async_triggers.migrate.command import migrate
    except ModuleNotFoundError as error:
        if error.name != "libcst":
            raise

        print(
            "async-triggers migrate: libcst is not installed; install it with"
            " pip install 'airflow-provider-async-triggers[migrate]'",
            file=sys.stderr,
        )
        return 2

    return migrate(chosen.paths, write=chosen.write, allow_dirty=chosen.allow_dirty)


async def _serve(simulator: Simulator) -> None:
    from async_triggers.simulator.connections import connection_variables

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with simulator:
        print("Simulated vendor APIs, until Ctrl-C:")
        for name, url in simulator.urls.items():
            print(f"  {name:<10} {url}")
        print("\nAirflow connections:")
        for name, value in connection_variables(simulator).items():
            print(f"  export {name}={shlex.quote(value)}")
        print("\nControl API: below /_simulator/ at each address.", flush=True)
        await stop.wait()
    print("Stopped.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
