"""No secret in any log file, nor anywhere in the database, after all that can happen."""

from __future__ import annotations

import configparser
import json
from typing import TYPE_CHECKING

import psycopg2
import pytest
from cryptography.fernet import Fernet
from psycopg2 import sql

from async_triggers.demo.deployment import Deployment
from async_triggers.simulator import Fault, SimulatorThread
from async_triggers.simulator.airbyte import AirbyteSettings
from async_triggers.simulator.dbt_cloud import DbtCloudSettings
from async_triggers.simulator.fivetran import FivetranSettings
from tests.stack.conftest import DAG_FOLDER
from tests.unit.secrets.planted import CLIENT, SECRET, TOKEN, forms, pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from async_triggers.demo.airflow_api import AirflowApi, Run
    from async_triggers.simulator import Simulator
    from tests.stack.postgres import PostgresServer

WRONG = "planted-Wrong_4717"
NO_SECRET = "planted-in-the-open-4718"
SUCCEED = {
    "airbyte_succeeds",
    "fivetran_succeeds",
    "begun_airbyte_succeeds",
    "begun_fivetran_succeeds",
    "sensed_fivetran_succeeds",
}
STOPPED = {
    "airbyte_killed": ("airbyte", "killed"),
    "begun_airbyte_killed": ("airbyte", "begun_killed"),
    "fivetran_killed": ("fivetran", "killed"),
    "begun_fivetran_killed": ("fivetran", "begun_killed"),
    "lost_fivetran_killed": ("fivetran", "lost"),
}
"""The tasks that a user stops, and what they start."""
PACE = 1.0
"""Seconds between two dumps of the database, each of which holds up Airflow."""
TRIGGERS = (
    "airbyte.triggers.AirbyteSyncTrigger",
    "fivetran.triggers.FivetranTrigger",
    "dbt_cloud.triggers.DbtCloudRunJobTrigger",
    "deferral.start_later.StartLaterTrigger",
    "deferral.sensor_trigger.SensorTrigger",
    "deferral.start_trigger.StartTrigger",
)


@pytest.fixture
def vendors() -> Iterator[Simulator]:
    """Vendors that know the planted credentials, and repeat wrong ones."""
    with SimulatorThread(
        airbyte=AirbyteSettings(client_id=CLIENT, client_secret=SECRET),
        fivetran=FivetranSettings(api_key=CLIENT, api_secret=SECRET),
        dbt_cloud=DbtCloudSettings(tokens=(TOKEN,)),
    ) as simulator:
        for end, rest in (
            ("succeeds", ":3 succeeded"),
            ("fails", ":3 failed"),
            ("killed", ""),
            ("late", ""),
        ):
            for way in ("", "begun_"):
                simulator.airbyte.add_connection(way + end, lives=[f"running{rest}"])
                simulator.fivetran.add_connection(way + end, lives=[f"syncing{rest}"])

        seen = simulator.airbyte.add_connection("seen")
        for job, life in ((9001, "running:3 failed"), (9002, "running")):
            simulator.airbyte.add_job(seen, life, job_id=job)

        simulator.fivetran.add_connection("seen", succeeded_ago=60)
        simulator.dbt_cloud.add_job(4711, lives=["running:3 error"] * 2)
        simulator.dbt_cloud.add_job(4712, lives=["running"] * 2)
        simulator.dbt_cloud.add_run(4712, "running", run_id=9101)
        told = f"What is Authorization: Bearer {WRONG}?"
        words = {"user_message": told, "developer_message": told}
        body = {"message": told, "detail": told, "code": told, "status": words}
        wrong = json.dumps(body)
        simulator.dbt_cloud.faults.add(
            Fault(kind="status", path="*/4710/*", status=401, times=None, body=wrong)
        )
        _lose_a_start(simulator)
        yield simulator


def _lose_a_start(simulator: Simulator) -> None:
    """Take one start and break the connection, and be out of reach for a while."""
    simulator.fivetran.add_connection("lost", lives=["syncing"])
    there = simulator.fivetran.faults
    there.add(Fault(kind="reset", path="*/lost/sync", takes_effect=True))
    # The look before the start is answered.
    body = json.dumps({"code": "Gone", "message": f"Basic {pair(CLIENT, SECRET)}?"})
    there.add(
        Fault(kind="status", method="GET", path="*/lost", skip=1, times=7, body=body)
    )


def _connect(api: AirflowApi, vendors: Simulator) -> None:
    airbyte = {"conn_type": "airbyte", "host": vendors.airbyte_url}
    dbt = {"conn_type": "dbt_cloud", "host": vendors.dbt_cloud_url}
    keys = {"login": CLIENT, "password": SECRET}
    account = str(vendors.dbt_cloud.settings.account_id)
    api.add_connection("planted_airbyte", **airbyte, **keys)
    api.add_connection(
        "planted_fivetran", conn_type="Fivetran", host=vendors.fivetran_url, **keys
    )
    api.add_connection("planted_dbt", **dbt, login=account, password=TOKEN)
    api.add_connection("planted_wrong", **airbyte, login=CLIENT, password=WRONG)
    api.add_connection("planted_wrong_dbt", **dbt, login=account, password=WRONG)


class Dump:
    """All that was seen in the tables of a database, at any time."""

    def __init__(self, database: str, fernet_key: str) -> None:
        # Airflow's URL names the driver, which the driver does not understand.
        self._dsn = database.replace("+psycopg2", "")
        self._fernet = Fernet(fernet_key)
        self.rows: dict[str, set[bytes]] = {}

    def take(self) -> None:
        """Add all rows of all tables as they are now, encrypted values in the clear."""
        connection = psycopg2.connect(self._dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT table_name, column_name, data_type"
                    " FROM information_schema.columns JOIN information_schema.tables"
                    " USING (table_schema, table_name)"
                    " WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
                )
                columns: dict[str, list[sql.Composable]] = {}
                for table, column, kind in cursor.fetchall():
                    name: sql.Composable = sql.Identifier(column)
                    if kind != "bytea":
                        name = sql.SQL("{}::text").format(name)

                    columns.setdefault(table, []).append(name)

                for table, names in columns.items():
                    cursor.execute(
                        sql.SQL("SELECT {} FROM {}").format(
                            sql.SQL(", ").join(names), sql.Identifier(table)
                        )
                    )
                    found = self.rows.setdefault(table, set())
                    for row in cursor:
                        # What is not there at all tells a row apart from the next.
                        values = [self._in_the_clear(table, value) for value in row]
                        found.add(b"\n".join(values))
        finally:
            connection.close()

    def _in_the_clear(self, table: str, value: object) -> bytes:
        raw = bytes(value) if isinstance(value, memoryview) else str(value).encode()
        # A connection is where the secrets live.
        if table == "connection" or not raw.startswith(b"gAAAA"):
            return raw

        return self._fernet.decrypt(raw)

    def has(self, table: str, *words: str) -> bool:
        """Tell whether one row of a table holds all of some words."""
        return any(
            all(word.encode() in row for word in words) for row in self.rows[table]
        )


@pytest.fixture
def deployment(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Deployment]:
    """An Airflow of its own, which logs all that it can."""
    with Deployment(
        tmp_path_factory.mktemp("secrets"),
        dags=[DAG_FOLDER],
        database=postgres_server.create_database("secrets"),
        parallelism=6,
        config={
            "logging": {"logging_level": "DEBUG"},
            # Whether Airflow puts asterisks over secrets is not the question.
            "core": {"hide_sensitive_var_conn_fields": "False"},
            # What refuses everything is given up within a minute.
            "async_triggers": {"first_contact_seconds": "60", "doubt_seconds": "60"},
        },
    ) as found:
        yield found


@pytest.fixture
def dump(deployment: Deployment) -> Dump:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(deployment.home / "airflow.cfg")
    return Dump(
        settings["database"]["sql_alchemy_conn"], settings["core"]["fernet_key"]
    )


def _written(deployment: Deployment) -> Iterator[tuple[str, bytes]]:
    """Return all that the deployment has written to the disk."""
    for path in sorted(deployment.home.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            yield str(path.relative_to(deployment.home)), path.read_bytes()


def _stop(deployment: Deployment, run: Run, vendors: Simulator, dump: Dump) -> None:
    """Stop the tasks whose jobs never end, each as soon as its trigger waits."""
    api = deployment.api
    waiting: dict[str, tuple[str, str] | None] = {
        **STOPPED,
        "sensed_airbyte_killed": None,
    }

    def are_stopped() -> bool:
        states = {each.task_id: each.state for each in api.task_instances(run)}
        ready = [
            task
            for task, job in waiting.items()
            if states.get(task) == "deferred"
            # One that no triggerer has seen yet is told of nothing.
            and any(deployment.home.rglob(f"task_id={task}/*.trigger.*"))
            and (job is None or job[1] in _targets(vendors, job[0]))
        ]
        # Their triggers are there still.
        dump.take()
        for task in ready:
            del waiting[task]
            api.set_state(run, task, "failed")

        return not waiting

    api.wait_until(
        are_stopped, what="the jobs that are to be stopped", timeout=600, every=PACE
    )


def _targets(vendors: Simulator, vendor: str) -> set[str]:
    """Return what has a job at a vendor that has not ended."""
    return {view.target for view in getattr(vendors, vendor).jobs()}


@pytest.mark.timeout(1500)
def test_nothing_that_airflow_keeps_holds_a_secret(
    deployment: Deployment, dump: Dump, vendors: Simulator
) -> None:
    api = deployment.api
    _connect(api, vendors)
    run = api.trigger_run("planted_secrets", conf={"note": NO_SECRET})
    _stop(deployment, run, vendors, dump)

    def has_ended() -> bool:
        dump.take()
        return all(each.end_date for each in api.task_instances(run))

    api.wait_until(has_ended, what="the end of all tasks", timeout=600, every=PACE)
    states = {each.task_id: each.state for each in api.task_instances(run)}
    assert {task for task, state in states.items() if state == "success"} == SUCCEED
    assert set(states.values()) == {"success", "failed"}
    for vendor, target in STOPPED.values():
        api.wait_until(
            lambda vendor=vendor, target=target: (  # type: ignore[misc]
                target not in _targets(vendors, vendor)
            ),
            what=f"the end of the job of {target}",
            timeout=90,
        )

    assert vendors.airbyte.record.tokens_issued
    wanted = forms(WRONG, pair(CLIENT, WRONG), *vendors.airbyte.tokens.issued)
    # The login of a connection is kept as it is, by Airflow.
    wanted = {form for form in wanted if form not in forms() or "Client" not in form}
    dump.take()
    places = [
        *_written(deployment),
        *(
            (f"table {table}", row)
            for table, rows in dump.rows.items()
            for row in rows
            # Airflow writes down what the test has asked it for.
            if table != "log" or b"post_connection" not in row
        ),
    ]
    found = [
        f"{name}: {form}"
        for name, content in places
        for form in wanted
        if form.encode() in content
    ]
    # With a message, which is not cut.
    assert not found, "\n".join(sorted(set(found)))
    _check_search(deployment, dump)


def _check_search(deployment: Deployment, dump: Dump) -> None:
    """Make sure that a secret would be found if it were there."""
    for trigger in TRIGGERS:
        assert dump.has("trigger", f"async_triggers.{trigger}", "planted_"), trigger

    assert dump.has("xcom", "async_triggers_owner", "record", "fingerprint")
    assert dump.has("xcom", "airbyte_job", "job_started_at")
    assert dump.has("task_state_store", "fingerprint")
    assert dump.has("rendered_task_instance_fields", "planted_airbyte")
    assert dump.has("dag_run", NO_SECRET)
    # Events, as they wait for their worker.
    assert dump.has("task_instance", "event", "rejected the credentials")
    files = dict(_written(deployment))
    for task in ("airbyte_fails", "begun_airbyte_fails", "sensed_airbyte_fails"):
        logs = [each for name, each in files.items() if f"task_id={task}/" in name]
        assert any(b"failed" in each for each in logs), task

    assert any(b'"level":"debug"' in each for each in files.values())
