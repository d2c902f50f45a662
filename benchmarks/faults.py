"""Trouble at the vendors' APIs, and what becomes of the tasks that wait.

The first part makes one fault at a time, for this package's triggers and the official
ones: the first look goes well, the fault hits at the second one, the job goes on at the
vendor as if nothing had happened, and succeeds. The second part does the same with what
stands between Airflow and a vendor. The third waits for what cannot come any more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from benchmarks.machine import machine
from benchmarks.peers import python_of_peers
from benchmarks.sides import INTERVALS, PACKAGES, VENDORS
from benchmarks.stage import ROOT
from benchmarks.trouble.cases import (
    BRIEF,
    CASES,
    HURRY,
    LATENCY,
    LONG,
    PATIENCE,
    Case,
    Cell,
    Result,
    between,
)
from benchmarks.trouble.ends import ENDS, End, Ended
from benchmarks.trouble.real import play_all
from benchmarks.trouble.tables import ends_table, table, tell, tell_end

if TYPE_CHECKING:
    from benchmarks.sides import Side, Vendor

MEASURED = ROOT / "docs" / "measured"

Part: TypeAlias = Literal["faults", "between", "long", "ends", "first-contact"]
PARTS: Mapping[Part, str] = {
    "faults": "one fault at a time, beside the official triggers",
    "between": f"what stands in between, for {BRIEF:g} s, beside the official triggers",
    "long": f"what stands in between, for {LONG / 60:g} min on a virtual clock",
    "ends": "what must end, on a virtual clock",
    "first-contact": "a wrong host, in an Airflow of its own",
}


def cases_of(part: Part) -> Sequence[Case]:
    """Return the kinds of trouble of one part."""
    match part:
        case "faults":
            return CASES
        case "between":
            return between(BRIEF)
        case "long":
            return between(LONG)
        case _:
            return ()


@dataclass(slots=True)
class Measured:
    """What each part that was run has come to."""

    sides: Sequence[Side]
    results: dict[Part, Sequence[Result]] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether this package survived what it should, and ended what it should."""
        ours = (
            each
            for results in self.results.values()
            for each in results
            if each.cell.side == "ours"
        )
        return all(each.survived for each in ours) and all(
            each.failed for each in self.ended
        )

    def markdown(self) -> str:
        """Return the tables of all parts, each below what it is of."""
        found = [
            f"### {PARTS[part].capitalize()}\n\n"
            + table(results, ["ours"] if part == "long" else self.sides, cases_of(part))
            for part, results in self.results.items()
        ]
        if self.ended:
            found.append(f"### What must end\n\n{ends_table(self.ended)}")

        return "\n".join(found)

    def write(self, folder: Path) -> None:
        """Write the tables and the raw results to ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "faults.md").write_text(self.markdown())
        raw: dict[str, Any] = {
            "machine": machine(),
            "patience_s": PATIENCE,
            "latency_s": LATENCY,
            "intervals_s": dict(INTERVALS),
            "peers": list(PACKAGES.values()),
            "results": [
                {"part": part, **each.as_dict()}
                for part, results in self.results.items()
                for each in results
            ],
            "ends": [asdict(each) for each in self.ended],
        }
        (folder / "faults.json").write_text(f"{json.dumps(raw, indent=1)}\n")


def check_names(only: Sequence[str], parts: Sequence[Part]) -> None:
    """Raise :class:`ValueError` for a fault that none of the parts knows."""
    known = {case.name for part in parts for case in cases_of(part)}
    known |= {case.name for case in ENDS if "ends" in parts}
    for name in only:
        if name not in known:
            raise ValueError(
                f"there is no fault {name!r}; these there are:"
                f" {', '.join(sorted(known))}"
            )


def chosen_cells(
    cases: Sequence[Case],
    *,
    only: Sequence[str],
    vendors: Sequence[Vendor],
    sides: Sequence[Side],
) -> list[Cell]:
    """Return the cells to run, the slow ones first."""
    cells = [
        Cell(case, vendor, side)
        for case in cases
        if not only or case.name in only
        for vendor in vendors
        if vendor in case.vendors
        for side in sides
    ]
    return sorted(
        cells,
        key=lambda cell: (
            cell.case.name != "429",
            cell.case.name not in {"hang", "outage-30", "rescheduled", "slow"},
            cell.vendor != "fivetran",
        ),
    )


def _play_virtually(cells: Sequence[Cell]) -> list[Result]:
    """Run cells on a virtual clock, one after the other."""
    # What this imports, Airflow among it, is not wanted by the rest.
    from benchmarks.trouble.virtual import open_keys, survive  # noqa: PLC0415

    results = []
    with open_keys() as keys:
        for done, cell in enumerate(cells, start=1):
            results.append(survive(cell, keys))
            print(f"[{done}/{len(cells)}] {cell.name}: {tell(results[-1])}", flush=True)

    return results


def _end_virtually(cases: Sequence[End], vendors: Sequence[Vendor]) -> list[Ended]:
    """Wait in vain on a virtual clock."""
    from benchmarks.trouble.virtual import end, open_keys  # noqa: PLC0415

    found = []
    with open_keys() as keys:
        for case in cases:
            for vendor in vendors:
                found.append(end(case, vendor, keys))
                print(tell_end(found[-1]), flush=True)

    return found


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description="Trouble of all kinds against our triggers and the official ones.",
    )
    parser.add_argument(
        "--part",
        action="append",
        choices=get_args(Part),
        help="just this one, may be given again: "
        + "; ".join(f"{name}: {what}" for name, what in PARTS.items()),
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="FAULT",
        help="just this one of the chosen parts, may be given again;"
        " a wrong name shows all there are",
    )
    parser.add_argument(
        "--vendor", action="append", choices=VENDORS, help="may be given again"
    )
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument(
        "--out",
        type=Path,
        help=f"where to write faults.md and faults.json ({MEASURED.relative_to(ROOT)})",
    )
    parser.add_argument(
        "--hurry",
        action="store_true",
        help="poll every second: to try the machinery out, not to measure",
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=900.0,
        metavar="SECONDS",
        help="for how long a first contact is waited for (900)",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    The exit code is 1 where this package failed a task that it should not have, or went on
    where it should have failed.
    """
    chosen = _parse(arguments)
    parts: Sequence[Part] = chosen.part or list(PARTS)
    vendors: Sequence[Vendor] = chosen.vendor or VENDORS
    sides: list[Side] = ["ours"] if chosen.ours else ["ours", "peer"]
    beside = [part for part in parts if part in {"faults", "between"}]
    try:
        check_names(chosen.only, parts)
        pythons: dict[Side, str] = {"ours": sys.executable}
        if "peer" in sides and beside:
            pythons["peer"] = str(python_of_peers())
    except (ValueError, RuntimeError) as error:
        print(f"python -m benchmarks.faults: {error}", file=sys.stderr)
        return 2

    began = time.monotonic()
    measured = Measured(sides)
    for part in parts:
        choice: dict[str, Any] = {"only": chosen.only, "vendors": vendors}
        if part in beside:
            cells = chosen_cells(cases_of(part), sides=sides, **choice)
            floor = HURRY if chosen.hurry else 0.0
            if cells:
                measured.results[part] = asyncio.run(
                    play_all(cells, pythons=pythons, floor=floor)
                )
        elif part == "long":
            cells = chosen_cells(cases_of(part), sides=["ours"], **choice)
            measured.results[part] = _play_virtually(cells)
        elif part == "ends":
            ends = [
                each for each in ENDS if not chosen.only or each.name in chosen.only
            ]
            measured.ended += _end_virtually(ends, vendors)
        else:
            from benchmarks.trouble.first_contact import meet  # noqa: PLC0415

            measured.ended += meet(vendors, limit=chosen.limit)

    print(f"\n{measured.markdown()}")
    print(f"took {time.monotonic() - began:.0f} s")
    restricted = (chosen.part, chosen.only, chosen.vendor, chosen.ours, chosen.hurry)
    if chosen.out is not None or not any(restricted):
        measured.write(chosen.out or MEASURED)

    return int(not measured.good)


if __name__ == "__main__":
    sys.exit(main())
