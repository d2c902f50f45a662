"""``async-triggers list`` finds the ids that tasks need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.unit.commands.conftest import Airflow, Printed

if TYPE_CHECKING:
    from async_triggers.simulator import Simulator

Command = Callable[..., Printed]


def test_connections_of_airbyte_are_listed_with_their_workspaces(
    airflow: Airflow, simulator: Simulator, command: Command
) -> None:
    known = [simulator.airbyte.add_connection(name=f"sales {at}") for at in range(130)]

    printed = command("list", "connections", "airbyte_default", "--json")

    assert printed.code == 0
    assert {each["id"] for each in printed.json()} == {*known}
    assert {each["place"] for each in printed.json()} == {"Simulated workspace"}


def test_connections_of_fivetran_are_listed_with_their_destinations(
    airflow: Airflow, simulator: Simulator, command: Command
) -> None:
    simulator.fivetran.add_connection("abc_def", schema="salesforce")
    simulator.fivetran.add_connection("ghi_jkl", schema="stripe")

    printed = command(
        "list", "connections", "fivetran_default", "--contains", "SALES", "--json"
    )

    assert printed.json() == [
        {"id": "abc_def", "name": "salesforce", "place": "simulated_warehouse"}
    ]


def test_jobs_of_dbt_cloud_are_listed_as_columns(
    airflow: Airflow, simulator: Simulator, command: Command
) -> None:
    job = simulator.dbt_cloud.add_job(name="nightly")

    printed = command("list", "jobs", "dbt_cloud_default")

    head, row = printed.out.splitlines()
    assert head.split() == ["ID", "NAME", "PLACE"]
    assert row.split()[:2] == [str(job), "nightly"]


def test_a_text_that_nothing_contains_is_said_on_the_standard_error(
    airflow: Airflow, simulator: Simulator, command: Command
) -> None:
    simulator.fivetran.add_connection("abc_def", schema="salesforce")

    printed = command("list", "connections", "fivetran_default", "--contains", "stripe")

    assert printed.code == 0
    assert printed.out == ""
    assert "None of 1 connections contains 'stripe'" in printed.err


def test_nothing_found_is_said_on_the_standard_error(
    airflow: Airflow, command: Command
) -> None:
    printed = command("list", "jobs", "dbt_cloud_default")

    assert (printed.code, printed.out) == (0, "")
    assert "No jobs found" in printed.err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ("jobs", "airbyte_default"),
            "run: async-triggers list connections airbyte_default",
        ),
        (
            ("connections", "dbt_cloud_default"),
            "run: async-triggers list jobs dbt_cloud_default",
        ),
        (("jobs", "nowhere"), "Airflow has no connection 'nowhere'"),
        (
            ("connections", "nowhere", "--vendor", "airbyte"),
            "Airflow has no connection 'nowhere'",
        ),
    ],
)
def test_what_cannot_be_listed_is_refused_with_the_next_step(
    airflow: Airflow, command: Command, words: tuple[str, str], error: str
) -> None:
    printed = command("list", *words)

    assert printed.code == 2
    assert error in printed.err


def test_wrong_credentials_are_named(airflow: Airflow, command: Command) -> None:
    airflow.change("fivetran_default", password="wrong")

    printed = command("list", "connections", "fivetran_default")

    assert printed.code == 2
    assert "API Secret (password)" in printed.err
