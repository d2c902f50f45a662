"""A dbt that is a script, a project for it, and YAML that names both."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SCRIPT = """#!{python}
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
with (here / "environments").open("a") as environments:
    environments.write(json.dumps(dict(os.environ)) + "\\n")
told = json.loads((here / "answer.json").read_text())
time.sleep(told["seconds"])
print(told["out"])
print(told["err"], file=sys.stderr)
sys.exit(told["code"])
"""


class FakeDbt:
    """A virtualenv with a dbt that says what it is told to, and counts its calls."""

    def __init__(self, folder: Path) -> None:
        self.virtualenv = folder
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True)
        (folder / "pyvenv.cfg").write_text("")
        program = self._bin / "dbt"
        program.write_text(SCRIPT.format(python=sys.executable))
        program.chmod(0o755)
        self.says()

    def says(
        self,
        *tables: str,
        out: str | None = None,
        err: str = "",
        code: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """Let it list tables, each as ``database.schema.table``, or say anything else."""
        text = "\n".join(map(row, tables)) if out is None else out
        told = {"out": text, "err": err, "code": code, "seconds": seconds}
        (self._bin / "answer.json").write_text(json.dumps(told))

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every call so far."""
        return self._noted("calls")

    @property
    def environments(self) -> list[dict[str, str]]:
        """The environment of every call so far."""
        return self._noted("environments")

    def _noted(self, name: str) -> list[Any]:
        log = self._bin / name
        if not log.exists():
            return []
        return [json.loads(line) for line in log.read_text().splitlines()]


def row(table: str) -> str:
    """Return the line that dbt prints for a source table."""
    database, schema, name = table.split(".")
    return json.dumps(
        {
            "unique_id": f"source.shop.{schema}.{name}".lower(),
            "name": name,
            "database": database or None,
            "schema": schema,
            "identifier": name,
        }
    )


def make_project(folder: Path) -> Path:
    """Make the least that counts as a dbt project."""
    folder.mkdir(parents=True)
    (folder / "dbt_project.yml").write_text("name: shop\n")
    return folder


def generator(dbt: FakeDbt | None = None, **changes: Any) -> dict[str, Any]:
    """Return a generator's entry; a change to None takes the key out."""
    entry: dict[str, Any] = {
        "generator": "FivetranDbtGenerator",
        "airflow_connection_id": "fivetran_default",
        "dbt_project_path": "transform",
        "dbt_list_args": "--select tag:daily",
        **({"virtualenv_path": str(dbt.virtualenv)} if dbt else {}),
        **changes,
    }
    return {key: value for key, value in entry.items() if value is not None}
