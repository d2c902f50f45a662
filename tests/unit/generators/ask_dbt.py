"""Puts selections to a real dbt: run it with the Python that dbt is installed for.

ask_dbt.py PROJECT SELECTIONS MANIFEST ANSWERS: reads a list of lists of arguments, and
writes the project's manifest and for each selection the ids of its sources, or dbt's error.
One process parses once, so that hundreds of selections take a minute.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

from dbt.cli.main import dbtRunner  # type: ignore[import-not-found]


def main(project: str, selections: str, manifest: str, answers: str) -> None:
    """Ask, and write down what dbt says."""
    target = Path(manifest).parent / "target"
    options = ["--quiet", "--no-use-colors", "--log-path", str(target)]
    ours = [
        "--resource-type",
        "source",
        "--output",
        "json",
        "--output-keys",
        "unique_id",
    ]
    wanted = json.loads(Path(selections).read_text())
    os.chdir(project)
    parsed = dbtRunner().invoke([*options, "parse", "--target-path", str(target)])
    if not parsed.success:
        sys.exit(f"dbt cannot parse the project: {parsed.exception}")

    Path(manifest).write_text((target / "manifest.json").read_text())
    found: list[list[str] | str] = []
    for arguments in wanted:
        command = [*options, "ls", "--target-path", str(target), *arguments, *ours]
        with contextlib.redirect_stdout(io.StringIO()):
            done = dbtRunner(manifest=parsed.result).invoke(command)
        if done.success:
            rows = [json.loads(row)["unique_id"] for row in done.result]
            found.append(sorted(row for row in rows if row.startswith("source.")))
        else:
            found.append(str(done.exception))

    Path(answers).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
