from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Connection

from async_triggers.dbt_cloud import hooks
from async_triggers.dbt_cloud.api import replies
from async_triggers.dbt_cloud.api.requests import BRACKETS, FEED, LIVE, REPEATED
from async_triggers.dbt_cloud.api.vendor import DBT_CLOUD
from async_triggers.dbt_cloud.hooks import DbtCloudHook, read_hook_params
from async_triggers.deferral.arguments import ArgumentUnusable
from async_triggers.deferral.errors import ConnectionUnusable, VendorRefused
from async_triggers.engine.errors import AccountMisconfigured
from async_triggers.engine.jobs import JobState
from async_triggers.engine.wire import CredentialKind, Page, Source
from async_triggers.simulator import Simulator, SimulatorThread
from async_triggers.simulator.dbt_cloud import DEFAULT_ENVIRONMENT, DEFAULT_PROJECT
from tests.unit.dbt_cloud.stage import ACCOUNT, JOB

if TYPE_CHECKING:
    from async_triggers.engine.accounts import LeasedAccount


def connection(**changes: Any) -> Connection:
    fields = {
        "conn_id": "dbt_cloud_default",
        "conn_type": "dbt_cloud",
        "host": "ab123.us1.dbt.com",
        "login": str(ACCOUNT),
        "password": "a-token",
        **changes,
    }
    return Connection(**fields)


def test_a_connection_is_read() -> None:
    account = DbtCloudHook().read(connection())

    assert account.base_url == "https://ab123.us1.dbt.com"
    assert account.account_id == str(ACCOUNT)
    assert account.credentials.kind is CredentialKind.BEARER
    assert account.credentials.secret == "a-token"
    assert account.budget.requests == 5000
    assert account.budget.per == 60.0
    assert account.budget.share == 0.6
    assert account.budget.cooldown == 300.0


def test_the_extra_of_a_connection() -> None:
    extra = {"proxies": {"https": "http://proxy:3128"}, "timeout": 7, "share": 0.25}

    account = DbtCloudHook().read(connection(extra=json.dumps(extra)))

    assert account.route.proxies == (("https", "http://proxy:3128"),)
    assert account.route.total == 7.0
    assert account.budget.share == 0.25
    assert account.budget.cooldown == 300.0
    by_hand = DbtCloudHook(timeout_seconds=3).read(connection(extra=json.dumps(extra)))
    assert by_hand.route.total == 3.0


@pytest.mark.parametrize("given", [None, 0])
def test_a_timeout_that_is_none_leaves_the_connection_s(given: float | None) -> None:
    account = DbtCloudHook(timeout_seconds=given).read(
        connection(extra='{"timeout": 7}')
    )

    assert account.route.total == 7.0
    assert read_hook_params({"timeout_seconds": given}).timeout_seconds is None


def test_the_account_of_a_task_wins_over_the_connection() -> None:
    hook = DbtCloudHook(account_id=5)

    assert hook.read(connection()).account_id == "5"
    assert hook.read(connection(login=None)).account_id == "5"
    assert hook.key != DbtCloudHook().key


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"password": None}, "password is empty"),
        ({"login": None}, "login is empty"),
        ({"login": "me@example.test"}, "login is not an account id"),
        ({"host": "ftp://x"}, "host is not an address"),
        ({"extra": "{"}, "extra is not JSON"),
    ],
)
def test_a_connection_that_cannot_be_used(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(AccountMisconfigured, match=told):
        DbtCloudHook().read(connection(**changes))


@pytest.mark.parametrize("host", ["", "cloud.getdbt.com"])
def test_an_older_host_is_warned_about_once(
    host: str, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    monkeypatch.setattr(hooks, "_warned_hosts", set())

    accounts = [DbtCloudHook().read(connection(host=host)) for _ in range(2)]

    assert {account.base_url for account in accounts} == {"https://cloud.getdbt.com"}
    assert logged().count("the account's own access URL") == 1


def test_hook_params() -> None:
    params = read_hook_params(
        {"timeout_seconds": 9, "retry_limit": 7, "retry_args": {}}
    )

    assert params.to_json() == {"timeout_seconds": 9, "retry_limit": 7}
    assert params.ignored == ("retry_args",)
    assert read_hook_params(params.to_json()) == read_hook_params(
        {"timeout_seconds": 9, "retry_limit": 7}
    )
    with pytest.raises(ArgumentUnusable, match="hook_params must be an object"):
        read_hook_params("x")


# Over HTTP -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served() -> Iterator[Simulator]:
    with SimulatorThread() as simulator:
        yield simulator


@pytest.fixture
def hook(served: Simulator, monkeypatch: pytest.MonkeyPatch) -> DbtCloudHook:
    served.reset()
    served.dbt_cloud.configure(account_id=ACCOUNT, array_encoding="both")
    served.dbt_cloud.add_job(JOB, name="Nightly", lives=["running"])
    found = connection(host=served.urls["dbt_cloud"], password="simulator-token")
    monkeypatch.setattr(DbtCloudHook, "get_connection", staticmethod(lambda _: found))
    return DbtCloudHook()


def test_the_calls_people_make_by_hand(hook: DbtCloudHook, served: Simulator) -> None:
    started = hook.run(lambda leased: hook.start_run(leased, JOB, "By hand")).job
    assert started.url.startswith(served.urls["dbt_cloud"])
    assert (
        hook.run(lambda leased: hook.get_run(leased, started.id)).job.id == started.id
    )
    related = ("trigger",)
    row = hook.run(
        lambda leased: hook.get_run_details(leased, started.id, include_related=related)
    )
    assert replies.read_cause(row) == "By hand"
    assert (
        hook.run(lambda leased: hook.cancel_run(leased, started.id)).state
        is JobState.CANCELLED
    )
    # Once more is no error.
    assert (
        hook.run(lambda leased: hook.cancel_run(leased, started.id)).state
        is JobState.CANCELLED
    )


def test_a_job_is_found_by_name(hook: DbtCloudHook, served: Simulator) -> None:
    served.dbt_cloud.add_project(5, name="Simulated project, the other")
    served.dbt_cloud.add_environment(6, name="Production, too")

    found = hook.run(
        lambda leased: hook.find_job(
            leased,
            project_name="Simulated project",
            environment_name="Production",
            job_name="Nightly",
        )
    )

    assert found == JOB
    jobs = hook.run(
        lambda leased: hook.list_job_definitions(
            leased, project_id=DEFAULT_PROJECT, environment_id=DEFAULT_ENVIRONMENT
        )
    )
    assert [job["id"] for job in jobs] == [JOB]


def test_artifacts(hook: DbtCloudHook, served: Simulator) -> None:
    served.dbt_cloud.add_job(JOB, artifacts={"compiled/a b.sql": "select 1"})
    run = served.dbt_cloud.add_run(JOB, "success")

    paths = hook.run(lambda leased: hook.list_artifacts(leased, run))
    content = hook.run(
        lambda leased: hook.get_artifact(leased, run, "compiled/a b.sql")
    )

    assert paths == ["compiled/a b.sql", "manifest.json", "run_results.json"]
    assert content == b"select 1"


def test_the_test_button(hook: DbtCloudHook) -> None:
    fine, told = hook.test_connection()

    assert fine
    assert f"account {ACCOUNT}, Simulated account" in told


def test_the_test_button_with_a_wrong_token(
    hook: DbtCloudHook, served: Simulator
) -> None:
    served.dbt_cloud.configure(tokens=("another",))
    try:
        fine, told = hook.test_connection()
    finally:
        served.dbt_cloud.configure(tokens=("simulator-token",))

    assert not fine
    assert "rejected the credentials" in told
    assert "simulator-token" not in told


def test_a_wrong_token_is_the_connections_fault(
    hook: DbtCloudHook, served: Simulator
) -> None:
    served.dbt_cloud.configure(tokens=("another",))
    try:
        with pytest.raises(ConnectionUnusable, match="dbt_cloud_default"):
            hook.run(lambda leased: hook.get_run(leased, 1))
    finally:
        served.dbt_cloud.configure(tokens=("simulator-token",))


def test_an_unknown_run(hook: DbtCloudHook) -> None:
    with pytest.raises(VendorRefused, match="does not know run 1"):
        hook.run(lambda leased: hook.get_run(leased, 1))


@pytest.mark.parametrize(
    ("source", "encoding", "sound"),
    [
        (BRACKETS, "brackets", True),
        (BRACKETS, "repeated", False),
        (REPEATED, "repeated", True),
        (REPEATED, "brackets", False),
        (FEED, "brackets", True),
        (LIVE, "brackets", True),
    ],
)
def test_filters_on_the_wire(
    hook: DbtCloudHook, served: Simulator, source: Source, encoding: str, *, sound: bool
) -> None:
    served.dbt_cloud.configure(array_encoding=encoding)
    over = [served.dbt_cloud.add_run(JOB, "success", age=60) for _ in range(3)]
    running = [served.dbt_cloud.add_run(JOB, "running") for _ in range(3)]
    expected = {FEED.name: over, LIVE.name: running}.get(
        source.name, [over[0], running[0]]
    )

    async def ask(leased: LeasedAccount) -> Page:
        request = DBT_CLOUD.many(
            leased.account,
            source,
            subjects=(str(over[0]), str(running[0])),
            since=1_700_000_000.5,
        )
        return DBT_CLOUD.read(request, await leased.call(request))

    found = hook.run(ask)

    assert found.sound is sound
    if sound:
        assert set(found.rows) == set(map(str, expected))
