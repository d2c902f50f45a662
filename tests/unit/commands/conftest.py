from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.sdk import BaseHook, Connection

from async_triggers import cli
from async_triggers.commands import lookup
from async_triggers.deferral.compat import AirflowNotFoundException
from async_triggers.simulator import Simulator, SimulatorThread
from async_triggers.simulator.connections import connection_variables
from tests.unit.secrets import planted


@pytest.fixture(scope="module")
def process() -> Iterator[Simulator]:
    with SimulatorThread() as simulator:
        yield simulator


@pytest.fixture
def simulator(process: Simulator) -> Simulator:
    process.reset()
    for vendor in (process.airbyte, process.fivetran, process.dbt_cloud):
        # As ``async-triggers simulate`` serves them.
        vendor.configure(accept_unknown=True)

    return process


@dataclass(frozen=True, slots=True)
class Printed:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Airflow:
    """The connections that the command line finds."""

    def __init__(self, simulator: Simulator) -> None:
        prefix = "AIRFLOW_CONN_"
        self.fields: dict[str, dict[str, Any]] = {
            name.removeprefix(prefix).lower(): json.loads(value)
            for name, value in connection_variables(simulator).items()
        }
        self.has_database = True

    def get_connection(self, conn_id: str) -> Connection:
        try:
            fields = dict(self.fields[conn_id])
        except KeyError:
            raise AirflowNotFoundException(f"no {conn_id}") from None

        extra = fields.pop("extra", None)
        if extra is not None and not isinstance(extra, str):
            extra = json.dumps(extra)

        return Connection(conn_id=conn_id, extra=extra, **fields)

    def stored_conn_ids(self) -> list[str]:
        if not self.has_database:
            msg = f"could not connect to postgresql://airflow:{planted.SECRET}@db.test"
            raise OSError(msg)

        return sorted(self.fields)

    def change(self, conn_id: str, **fields: Any) -> None:
        self.fields[conn_id] |= fields


@pytest.fixture
def airflow(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Airflow:
    found = Airflow(simulator)
    monkeypatch.setattr(BaseHook, "get_connection", staticmethod(found.get_connection))
    monkeypatch.setattr(lookup, "_stored_conn_ids", found.stored_conn_ids)
    return found


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Printed]:
    def run(*words: str) -> Printed:
        code = cli.main(words)
        printed = capsys.readouterr()
        return Printed(code, printed.out, printed.err)

    return run
