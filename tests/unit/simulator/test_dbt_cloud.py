from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

import pytest

from async_triggers.simulator import (
    DbtCloudSettings,
    DbtCloudSimulator,
    ListQuirks,
    SimReply,
    SimRequest,
)
from async_triggers.simulator.dbt_cloud import (
    DEFAULT_ACCOUNT,
    DEFAULT_ENVIRONMENT,
    DEFAULT_PROJECT,
    FIRST_RUN_ID,
)
from async_triggers.simulator.faults import Fault

if TYPE_CHECKING:

    class Clock(Protocol):
        time: float

        def __call__(self) -> float: ...

        def advance(self, seconds: float) -> None: ...


A = f"/api/v2/accounts/{DEFAULT_ACCOUNT}"
V3 = f"/api/v3/accounts/{DEFAULT_ACCOUNT}"
JOB = 70_403_103_900_301


@pytest.fixture
def dbt(clock: Clock) -> DbtCloudSimulator:
    simulator = DbtCloudSimulator(clock=clock)
    simulator.add_job(JOB, name="Nightly build")
    return simulator


def ask(
    dbt: DbtCloudSimulator,
    method: str,
    path: str,
    body: object = None,
    token: str = "Bearer simulator-token",
) -> SimReply:
    headers = {"Authorization": token}
    return dbt.respond(SimRequest.to(method, path, headers=headers, json_body=body))


def data(dbt: DbtCloudSimulator, path: str) -> Any:
    reply = ask(dbt, "GET", path)
    assert reply.status == 200, reply.body
    return reply.json()["data"]


def start(dbt: DbtCloudSimulator, job: int = JOB, **body: Any) -> SimReply:
    return ask(dbt, "POST", f"{A}/jobs/{job}/run/", {"cause": "test", **body})


def started(dbt: DbtCloudSimulator, job: int = JOB, **body: Any) -> int:
    reply = start(dbt, job, **body)
    assert reply.status == 200, reply.body
    found: int = reply.json()["data"]["id"]
    return found


def status(dbt: DbtCloudSimulator, run: int) -> int:
    found: int = data(dbt, f"{A}/runs/{run}/")["status"]
    return found


def listed(dbt: DbtCloudSimulator, query: str = "") -> list[int]:
    return [row["id"] for row in data(dbt, f"{A}/runs/?{query}")]


# Credentials, paths, limits


@pytest.mark.parametrize(
    ("token", "status_code"),
    [
        ("Bearer simulator-token", 200),
        ("Token simulator-token", 200),
        ("Token wrong", 401),
        ("simulator-token", 401),
        ("", 401),
    ],
)
def test_tokens(dbt: DbtCloudSimulator, token: str, status_code: int) -> None:
    reply = ask(dbt, "GET", f"{A}/", token=token)
    assert reply.status == status_code
    assert reply.json()["status"]["code"] == status_code
    assert reply.json()["status"]["is_success"] is (status_code == 200)


@pytest.mark.parametrize("status_code", [404, 403])
def test_another_account(dbt: DbtCloudSimulator, status_code: int) -> None:
    dbt.configure(wrong_account_status=status_code)
    assert ask(dbt, "GET", "/api/v2/accounts/1/runs/").status == status_code


def test_accounts(dbt: DbtCloudSimulator) -> None:
    for version in ("v2", "v3"):
        found = data(dbt, f"/api/{version}/accounts/")
        assert [one["id"] for one in found] == [DEFAULT_ACCOUNT]
    assert data(dbt, f"{V3}/")["id"] == DEFAULT_ACCOUNT


def test_a_get_without_the_last_slash_is_redirected(dbt: DbtCloudSimulator) -> None:
    reply = ask(dbt, "GET", f"{A}/runs?limit=1&status__in=%5B1%5D")
    assert reply.status == 301
    assert reply.headers["Location"] == f"{A}/runs/?limit=1&status__in=%5B1%5D"
    assert ask(dbt, "POST", f"{A}/jobs/{JOB}/run", {"cause": "x"}).status == 404
    assert ask(dbt, "GET", f"{A}/planets").status == 404
    assert dbt.record.starts == {}


def test_too_many_requests_cost_five_minutes(
    dbt: DbtCloudSimulator, clock: Clock
) -> None:
    dbt.configure(minute_limit=2)
    codes = [ask(dbt, "GET", f"{A}/").status for _ in range(3)]
    assert codes == [200, 200, 429]
    clock.advance(299)
    reply = ask(dbt, "GET", f"{A}/")
    assert reply.status == 429
    assert "Retry-After" not in reply.headers
    clock.advance(1)
    assert ask(dbt, "GET", f"{A}/").status == 200
    clock.advance(60)
    assert ask(dbt, "GET", f"{A}/").status == 200


# One run


def test_a_run_goes_through_its_life(dbt: DbtCloudSimulator, clock: Clock) -> None:
    dbt.configure(life="queued:2 starting:3 running:10 success")
    first = start(dbt, cause="by hand").json()["data"]
    assert first["id"] == FIRST_RUN_ID
    assert first["id"] > 2**32
    assert first["job_definition_id"] == JOB
    assert first["created_at"] == "2026-03-25 01:30:00.000000+00:00"
    path = f"{A}/runs/{first['id']}/"
    seen = []
    for seconds in (0, 2, 3, 10):
        clock.advance(seconds)
        row = data(dbt, path)
        seen.append((row["status"], row["status_humanized"], row["in_progress"]))
    assert seen == [
        (1, "Queued", True),
        (2, "Starting", True),
        (3, "Running", True),
        (10, "Success", False),
    ]
    assert row["is_complete"]
    assert row["is_success"]
    assert row["dequeued_at"] == "2026-03-25 01:30:02.000000+00:00"
    assert row["started_at"] == "2026-03-25 01:30:05.000000+00:00"
    assert row["finished_at"] == "2026-03-25 01:30:15.000000+00:00"
    assert (row["duration"], row["queued_duration"], row["run_duration"]) == (
        "00:00:15",
        "00:00:05",
        "00:00:10",
    )
    assert row["duration_humanized"] == "15 seconds"
    assert row["href"] == (
        f"http://localhost/deploy/{DEFAULT_ACCOUNT}/projects/{DEFAULT_PROJECT}"
        f"/runs/{first['id']}/"
    )
    assert dbt.record.starts == {str(JOB): 1}
    assert dbt.record.started[0].details == {"cause": "by hand"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"cause": ""},
        {"cause": 1},
        {"cause": "x" * 256},
        {"cause": "x", "steps_override": "dbt run"},
        {"cause": "x", "steps_override": [1]},
        [],
    ],
)
def test_bad_starts_are_400(dbt: DbtCloudSimulator, body: object) -> None:
    assert ask(dbt, "POST", f"{A}/jobs/{JOB}/run/", body).status == 400
    assert dbt.record.starts == {}


def test_unknown_things_are_404(dbt: DbtCloudSimulator) -> None:
    dbt.add_job(7, state=2)
    assert start(dbt, 1).status == 404
    assert start(dbt, 7).status == 404
    assert ask(dbt, "GET", f"{A}/runs/1/").status == 404
    assert ask(dbt, "GET", f"{A}/runs/x/").status == 404
    assert ask(dbt, "POST", f"{A}/runs/1/cancel/").status == 404
    dbt.configure(accept_unknown=True)
    assert start(dbt, 1).status == 200


def test_runs_of_one_job_run_one_after_another(
    dbt: DbtCloudSimulator, clock: Clock
) -> None:
    other = dbt.add_job()
    dbt.configure(life="queued:1 running:10 success")
    first, second, foreign = started(dbt), started(dbt), started(dbt, other)
    clock.advance(1)
    assert [status(dbt, run) for run in (first, second, foreign)] == [3, 1, 3]
    assert data(dbt, f"{A}/runs/{second}/")["blocked_by"] == [first]
    clock.advance(10)
    assert [status(dbt, run) for run in (first, second)] == [10, 3]
    clock.advance(10)
    row = data(dbt, f"{A}/runs/{second}/")
    assert row["finished_at"] == "2026-03-25 01:30:21.000000+00:00"


def test_ci_runs_do_not_wait_for_one_another(dbt: DbtCloudSimulator) -> None:
    ci = dbt.add_job(job_type="ci", lives=["running:10 success"])
    assert [status(dbt, started(dbt, ci)) for _ in range(2)] == [3, 3]


def test_the_trigger_tells_cause_and_overrides(dbt: DbtCloudSimulator) -> None:
    run = started(dbt, cause="why", steps_override=["dbt run"], schema_override="s")
    assert data(dbt, f"{A}/runs/{run}/")["trigger"] is None
    trigger = data(dbt, f"{A}/runs/{run}/?include_related=trigger,job")["trigger"]
    assert trigger["cause"] == "why"
    assert trigger["steps_override"] == ["dbt run"]
    assert trigger["schema_override"] == "s"
    assert trigger["threads_override"] is None


def test_a_status_nobody_knows(dbt: DbtCloudSimulator) -> None:
    assert status(dbt, dbt.add_run(JOB, "7:60 success")) == 7
    other = dbt.add_job(lives=["hibernating"])
    assert status(dbt, started(dbt, other)) == 99


def test_times_can_be_iso_and_are_the_servers(dbt: DbtCloudSimulator) -> None:
    dbt.configure(time_style="iso", skew=60)
    row = start(dbt).json()["data"]
    assert row["created_at"] == "2026-03-25T01:31:00.000000Z"


def test_a_run_can_be_finished_on_demand(dbt: DbtCloudSimulator) -> None:
    run = dbt.add_run(JOB, "running")
    waiting = dbt.add_run(JOB, "running")
    assert [job.state for job in dbt.jobs()] == ["running", "queued"]
    dbt.finish(str(run), "error")
    assert status(dbt, run) == 20
    assert status(dbt, waiting) == 3
    assert [job.job for job in dbt.jobs()] == [str(waiting)]
    with pytest.raises(ValueError, match="no run '5'"):
        dbt.finish("5", "error")


# Cancelling


def test_cancel(dbt: DbtCloudSimulator, clock: Clock) -> None:
    dbt.configure(life="running:60 success", cancel_takes=5)
    run = started(dbt)
    reply = ask(dbt, "POST", f"{A}/runs/{run}/cancel/")
    assert reply.json()["data"]["status"] == 3
    clock.advance(5)
    row = data(dbt, f"{A}/runs/{run}/")
    assert (row["status"], row["is_cancelled"], row["can_retry"]) == (30, True, False)
    assert row["finished_at"] == "2026-03-25 01:30:05.000000+00:00"
    assert ask(dbt, "POST", f"{A}/runs/{run}/cancel/").json()["data"]["status"] == 30
    assert dbt.record.cancels == {str(run): 1}


def test_a_run_cancelled_before_it_began_may_have_no_end(
    dbt: DbtCloudSimulator,
) -> None:
    dbt.configure(life="running:60 success")
    first, second = started(dbt), started(dbt)
    ask(dbt, "POST", f"{A}/runs/{second}/cancel/")
    row = data(dbt, f"{A}/runs/{second}/")
    assert (row["status"], row["finished_at"], row["started_at"]) == (30, None, None)
    dbt.finish(str(first), "success")
    window = quote('["2026-03-25T00:00:00Z","2999-01-01T00:00:00Z"]')
    feed = f"finished_at__range={window}"
    assert listed(dbt, feed) == [first]
    dbt.configure(cancelled_early_has_end=True)
    assert listed(dbt, feed) == [first, second]


# Steps, artifacts, retries


def test_steps_and_logs_of_a_failed_run(dbt: DbtCloudSimulator, clock: Clock) -> None:
    dbt.add_job(
        JOB,
        execute_steps=["dbt seed", "dbt build"],
        lives=["running:10 error"],
    )
    dbt.configure(logs_after=3)
    run = started(dbt)
    path = f"{A}/runs/{run}/?include_related=run_steps"
    assert [one["status"] for one in data(dbt, path)["run_steps"]] == [10, 10, 3]
    clock.advance(5)
    assert [one["status"] for one in data(dbt, path)["run_steps"]] == [10, 10, 10, 3]
    clock.advance(5)
    found = data(dbt, path)
    assert found["status_message"] == "dbt command failed: dbt build"
    steps = found["run_steps"]
    assert [one["status"] for one in steps] == [10, 10, 10, 20]
    assert steps[3]["name"] == "Invoke dbt with `dbt build`"
    assert steps[3]["status_humanized"] == "Error"
    assert steps[3]["logs"] == ""
    clock.advance(3)
    logs = data(dbt, path)["run_steps"][3]["logs"]
    assert "Database Error in model.shop.orders" in logs
    assert data(dbt, f"{A}/runs/{run}/")["run_steps"] == []


def test_steps_of_a_run_that_has_not_begun_or_was_cancelled(
    dbt: DbtCloudSimulator, clock: Clock
) -> None:
    dbt.configure(life="queued:5 running:60 success")
    run = started(dbt)
    path = f"{A}/runs/{run}/?include_related=run_steps"
    assert data(dbt, path)["run_steps"] == []
    clock.advance(10)
    ask(dbt, "POST", f"{A}/runs/{run}/cancel/")
    assert data(dbt, path)["run_steps"][-1]["status"] == 30


def test_artifacts(dbt: DbtCloudSimulator, clock: Clock) -> None:
    dbt.add_job(
        JOB,
        lives=["running:5 error"],
        artifacts={
            "catalog.json": {"nodes": {}},
            "compiled/shop/orders.sql": "select 1",
        },
    )
    run = started(dbt)
    assert data(dbt, f"{A}/runs/{run}/artifacts/") == []
    path = f"{A}/runs/{run}/artifacts/run_results.json"
    assert ask(dbt, "GET", path).status == 404
    clock.advance(5)
    assert data(dbt, f"{A}/runs/{run}/artifacts/") == [
        "catalog.json",
        "compiled/shop/orders.sql",
        "manifest.json",
        "run_results.json",
    ]
    results = ask(dbt, "GET", path).json()["results"]
    assert [(one["unique_id"], one["status"]) for one in results] == [
        ("model.shop.customers", "success"),
        ("model.shop.orders", "error"),
    ]
    assert ask(dbt, "GET", f"{path}?step=3").status == 200
    assert ask(dbt, "GET", f"{path}?step=9").status == 404
    sql = ask(dbt, "GET", f"{A}/runs/{run}/artifacts/compiled/shop/orders.sql")
    assert sql.body == b"select 1"


def test_retry_takes_our_own_failed_run(dbt: DbtCloudSimulator, clock: Clock) -> None:
    dbt.add_job(JOB, lives=["running:5 error", "running:5 success"])
    run = started(dbt, cause="first", steps_override=["dbt run"])
    path = f"{A}/runs/{run}/retry/"
    assert ask(dbt, "POST", path).status == 400
    clock.advance(5)
    row = data(dbt, f"{A}/runs/{run}/")
    assert (row["can_retry"], row["retry_not_supported_reason"]) == (True, None)
    detail = data(dbt, path)
    assert detail["failed_step"] == "Invoke dbt with `dbt run`"
    again = ask(dbt, "POST", path).json()["data"]
    assert again["retrying_run_id"] == run
    assert dbt.record.started[1].details == {"retrying_run_id": run}
    clock.advance(5)
    row = data(dbt, f"{A}/runs/{run}/")
    assert row["retry_not_supported_reason"] == "RETRY_NOT_LATEST_RUN"
    assert status(dbt, again["id"]) == 10
    assert dbt.record.refused_starts == {str(JOB): 1}


def test_retry_can_be_unsupported(dbt: DbtCloudSimulator) -> None:
    job = dbt.add_job(retry_refusal="RETRY_UNSUPPORTED_CMD", lives=["error"])
    run = started(dbt, job)
    row = data(dbt, f"{A}/runs/{run}/")
    assert row["retry_not_supported_reason"] == "RETRY_UNSUPPORTED_CMD"
    reply = ask(dbt, "POST", f"{A}/runs/{run}/retry/")
    assert reply.json()["status"]["user_message"] == "RETRY_UNSUPPORTED_CMD"


def test_rerun_takes_anybodys_latest_failure_or_starts_anew(
    dbt: DbtCloudSimulator,
) -> None:
    path = f"{A}/jobs/{JOB}/rerun/"
    assert ask(dbt, "POST", path).json()["data"]["retrying_run_id"] is None
    failed = dbt.add_run(JOB, "error")
    dbt.finish(str(failed), "error")
    assert ask(dbt, "POST", path).json()["data"]["retrying_run_id"] == failed


# The list of runs


@pytest.fixture
def four(dbt: DbtCloudSimulator, clock: Clock) -> list[int]:
    """Four runs: success, error, running, queued; each created a second later."""
    lives = ["running:1 success", "running:1 error", "running", "running"]
    runs = []
    for life in lives:
        runs.append(dbt.add_run(JOB, life))
        clock.advance(1)
    return runs


def test_the_list_is_oldest_first(dbt: DbtCloudSimulator, four: list[int]) -> None:
    assert listed(dbt) == four
    assert listed(dbt, "order_by=-id&limit=2") == four[:1:-1]
    assert listed(dbt, "order_by=created_at&offset=3") == four[3:]
    # Runs without an end come last, in reverse first.
    assert listed(dbt, "order_by=finished_at") == four
    assert listed(dbt, "order_by=-finished_at") == four[::-1]
    body = ask(dbt, "GET", f"{A}/runs/?limit=3&order_by=-id").json()
    assert body["extra"]["order_by"] == "-id"
    assert body["extra"]["pagination"] == {"count": 3, "total_count": 4}
    assert [row["run_steps"] for row in body["data"]] == [[], [], []]


def test_list_filters(dbt: DbtCloudSimulator, four: list[int]) -> None:
    assert listed(dbt, "status=20") == four[1:2]
    assert listed(dbt, f"pk={four[2]}") == four[2:3]
    assert listed(dbt, f"id__gt={four[1]}") == four[2:]
    assert listed(dbt, f"job_definition_id={JOB}") == four
    assert listed(dbt, "job_definition_id=1") == []
    assert listed(dbt, f"environment_id={DEFAULT_ENVIRONMENT}") == four
    assert listed(dbt, f"project_id={DEFAULT_PROJECT}") == four
    assert listed(dbt, "project_id__in=[1]") == []


def both_forms(name: str, values: list[str]) -> tuple[str, str]:
    brackets = f"{name}={quote('[' + ','.join(values) + ']')}"
    repeated = "&".join(f"{name}={quote(value.strip(chr(34)))}" for value in values)
    return brackets, repeated


FORMS = [
    ("status__in", ["1", "3"], [2, 3]),
    ("finished_at__range", ['"2026-03-25T01:30:02Z"', '"2999-01-01T00:00:00Z"'], [1]),
    ("created_at__range", ['"2026-03-25T01:30:00Z"', '"2026-03-25T01:30:01Z"'], [0, 1]),
]


@pytest.mark.parametrize(("name", "values", "expected"), FORMS)
def test_array_filters_in_both_forms(
    dbt: DbtCloudSimulator,
    four: list[int],
    name: str,
    values: list[str],
    expected: list[int],
) -> None:
    wanted = [four[index] for index in expected]
    brackets, repeated = both_forms(name, values)
    for form, good, bad in (
        ("both", (brackets, repeated), ()),
        ("brackets", (brackets,), (repeated,)),
        ("repeated", (repeated,), (brackets,)),
    ):
        dbt.configure(array_encoding=form, wrong_encoding="ignore")
        for query in good:
            reply = ask(dbt, "GET", f"{A}/runs/?{query}").json()
            assert [row["id"] for row in reply["data"]] == wanted
            assert name in reply["extra"]["filters"]
        for query in bad:
            reply = ask(dbt, "GET", f"{A}/runs/?{query}").json()
            assert [row["id"] for row in reply["data"]] == four
            assert name not in reply["extra"]["filters"]
            dbt.configure(wrong_encoding="refuse")
            assert ask(dbt, "GET", f"{A}/runs/?{query}").status == 400


def test_pk_in(dbt: DbtCloudSimulator, four: list[int]) -> None:
    for query in both_forms("pk__in", [str(four[0]), str(four[3]), "1"]):
        assert listed(dbt, query) == [four[0], four[3]]


def test_filters_can_be_ignored_with_or_without_an_echo(
    dbt: DbtCloudSimulator, four: list[int]
) -> None:
    dbt.quirks = ListQuirks(ignore_filters=("pk__in", "finished_at__range"))
    path = f"{A}/runs/?pk__in={four[0]}&pk__in={four[1]}"
    reply = ask(dbt, "GET", path).json()
    assert [row["id"] for row in reply["data"]] == four
    assert "pk__in" not in reply["extra"]["filters"]
    dbt.configure(echo_ignored=True)
    reply = ask(dbt, "GET", path).json()
    assert reply["extra"]["filters"]["pk__in"] == four[:2]
    dbt.configure(echo_filters=False)
    assert ask(dbt, "GET", path).json()["extra"]["filters"] == {}
    feed = both_forms(
        "finished_at__range", ['"2026-03-25T01:30:02Z"', '"2999-01-01T00:00:00Z"']
    )
    assert listed(dbt, feed[0]) == four


@pytest.mark.parametrize(
    "query",
    [
        "order_by=status",
        "limit=0",
        "limit=x",
        "offset=-1",
        "status=x",
        "status__in=[x]",
        "status__in=[[1]]",
        "finished_at__range=[%222026-03-25T01:30:02Z%22]",
        "finished_at__range=[1,2]",
        "finished_at__range=2026-03-25T01:30:00+00:00&finished_at__range=x",
    ],
)
def test_bad_list_parameters_are_400(dbt: DbtCloudSimulator, query: str) -> None:
    assert ask(dbt, "GET", f"{A}/runs/?{query}").status == 400


def test_a_page_has_a_hundred_rows_at_most(dbt: DbtCloudSimulator) -> None:
    for _ in range(101):
        dbt.add_run(JOB, "success")
    assert len(listed(dbt)) == len(listed(dbt, "limit=500")) == 100
    assert len(listed(dbt, "offset=100")) == 1
    dbt.configure(over_limit="refuse")
    assert ask(dbt, "GET", f"{A}/runs/?limit=101").status == 400


def test_filters_go_by_the_times_that_a_wrong_clock_has_kept(
    dbt: DbtCloudSimulator, clock: Clock
) -> None:
    dbt.faults.add(Fault(kind="clock", seconds=-3600, times=None, lasts=200))
    listed(dbt)
    run = started(dbt)
    clock.advance(150)
    listed(dbt)
    clock.advance(600)
    assert status(dbt, run) == 10

    def ended_since(moment: str) -> list[int]:
        return listed(dbt, f'finished_at__range=["{moment}","2099-01-01T00:00:00Z"]')

    assert ended_since("2026-03-25T01:30:00Z") == []
    assert ended_since("2026-03-25T00:30:00Z") == [run]


def test_the_list_can_lag(dbt: DbtCloudSimulator, clock: Clock) -> None:
    run = started(dbt)
    dbt.quirks = ListQuirks(lag=30)
    clock.advance(20)
    assert listed(dbt) == []
    assert status(dbt, run) == 10
    clock.advance(30)
    assert listed(dbt, "status=10") == [run]


def test_runs_can_end_between_pages(dbt: DbtCloudSimulator, four: list[int]) -> None:
    dbt.quirks = ListQuirks(churn=1)
    assert listed(dbt, "status__in=[1,3]") == four[2:]
    assert listed(dbt, "status__in=[1,3]") == four[3:]


# Runs of others


def test_foreign_runs_fill_the_feed_of_finished_runs(
    dbt: DbtCloudSimulator, clock: Clock
) -> None:
    dbt.configure(foreign_runs_per_minute=5000)
    own = dbt.add_run(JOB, "running:60.005 success")
    clock.advance(61)
    window = quote('["2026-03-25T01:31:00Z","2999-01-01T00:00:00Z"]')
    feed = f"finished_at__range={window}&order_by=finished_at"
    body = ask(dbt, "GET", f"{A}/runs/?{feed}").json()
    # 5,000 a minute, both ends of the second included, and our own.
    assert body["extra"]["pagination"]["total_count"] == 85
    rows = body["data"]
    assert [row["finished_at"] for row in rows] == sorted(
        row["finished_at"] for row in rows
    )
    assert rows[1]["id"] == own
    assert len({row["id"] for row in rows}) == 85
    back = ask(dbt, "GET", f"{A}/runs/?{feed.replace('=fin', '=-fin')}").json()["data"]
    assert [row["id"] for row in back] == [row["id"] for row in rows][::-1]


def test_foreign_runs_are_filtered_like_all(
    dbt: DbtCloudSimulator, clock: Clock
) -> None:
    dbt.configure(foreign_runs_per_minute=60)
    own = dbt.add_run(JOB, "running")
    clock.advance(10)
    newest = listed(dbt, "order_by=-id&limit=1")[0]
    assert status(dbt, newest) == 3
    assert listed(dbt, f"job_definition_id={JOB}") == [own]
    assert listed(dbt, f"pk__in=[{own},{newest},5]") == sorted([own, newest])
    assert listed(dbt, f"id__gt={newest}") == []
    assert listed(dbt, f"id__gt={newest - 1}") == [newest]
    running = listed(dbt, "status__in=[1,2,3]")
    assert own in running
    assert len(running) == 31
    assert len(listed(dbt, "status=10")) == 11
    assert listed(dbt, "status=20") == []
    created = quote('["2026-03-25T01:30:05Z","2026-03-25T01:30:07Z"]')
    assert len(listed(dbt, f"created_at__range={created}")) == 3
    assert ask(dbt, "GET", f"{A}/runs/{newest + 1}/").status == 404


def test_the_time_of_the_last_row_is_a_lower_bound_that_includes_it(
    dbt: DbtCloudSimulator, clock: Clock
) -> None:
    clock.advance(0.123_456_789)
    dbt.configure(foreign_runs_per_minute=5000, skew=1234.5)
    own = dbt.add_run(JOB, "running:30.1234567 success")
    clock.advance(60)
    for run in [own, *listed(dbt, "status=10&order_by=-finished_at&limit=20")]:
        end = data(dbt, f"{A}/runs/{run}/")["finished_at"]
        window = quote(f'["{end}","2999-01-01T00:00:00Z"]')
        assert (
            listed(dbt, f"finished_at__range={window}&order_by=finished_at")[0] == run
        )


# Looking up by name


def test_projects_environments_and_jobs_by_name(dbt: DbtCloudSimulator) -> None:
    dbt.arrange(
        projects=[{"project_id": 5, "name": "Shop"}],
        environments=[{"environment_id": 6, "project_id": 5, "name": "Staging"}],
        jobs=[
            {
                "job_id": 7,
                "name": "Nightly shop",
                "project_id": 5,
                "environment_id": 6,
                "lives": ["success"],
            }
        ],
        runs=[{"job_id": 7}],
    )
    found = data(dbt, f"{V3}/projects/?name__icontains=shop")
    assert [one["id"] for one in found] == [5]
    found = data(dbt, f"{V3}/projects/5/environments/?name__icontains=STAG")
    assert [one["id"] for one in found] == [6]
    found = data(
        dbt, f"{A}/jobs/?project_id=5&environment_id=6&name__icontains=nightly"
    )
    assert [one["id"] for one in found] == [7]
    assert len(data(dbt, f"{A}/jobs/?name__icontains=nightly")) == 2
    assert [one["id"] for one in data(dbt, f"{A}/jobs/?order_by=-id")] == [JOB, 7]
    assert [one["id"] for one in data(dbt, f"{A}/jobs/?limit=1&offset=1")] == [7]
    assert data(dbt, f"{V3}/projects/5/")["name"] == "Shop"
    assert data(dbt, f"{V3}/projects/5/environments/6/")["name"] == "Staging"
    job = data(dbt, f"{A}/jobs/7/?include_related=most_recent_run")
    assert job["most_recent_run"]["status"] == 10
    for path in (
        "projects/1/",
        "projects/1/environments/",
        "projects/5/environments/1/",
    ):
        assert ask(dbt, "GET", f"{V3}/{path}").status == 404


def test_deleted_jobs_are_listed_only_where_asked_for(dbt: DbtCloudSimulator) -> None:
    dbt.add_job(8, state=2)
    assert [one["id"] for one in data(dbt, f"{A}/jobs/")] == [JOB]
    assert [one["id"] for one in data(dbt, f"{A}/jobs/?state=deleted")] == [8]
    assert len(data(dbt, f"{A}/jobs/?state=all")) == 2


def test_bad_arrangements_are_told(dbt: DbtCloudSimulator) -> None:
    with pytest.raises(ValueError, match="no 'planets' to arrange"):
        dbt.arrange(planets=[{}])
    with pytest.raises(ValueError, match="no job 3"):
        dbt.add_run(3)


# Accounts


OTHER = 106277


def test_any_number_of_accounts_each_with_its_own_jobs_and_runs(
    dbt: DbtCloudSimulator,
) -> None:
    dbt.add_account(OTHER, name="Finance")
    job = dbt.add_job(account_id=OTHER, name="Ledger")
    run = dbt.add_run(job)
    own = dbt.add_run(JOB)

    accounts = {one["id"]: one["name"] for one in data(dbt, "/api/v2/accounts/")}
    assert accounts == {DEFAULT_ACCOUNT: "Simulated account", OTHER: "Finance"}

    root = f"/api/v2/accounts/{OTHER}"
    assert [one["id"] for one in data(dbt, f"{root}/jobs/")] == [job]
    assert [one["id"] for one in data(dbt, f"{root}/runs/")] == [run]
    assert [one["id"] for one in data(dbt, f"{A}/jobs/")] == [JOB]
    assert listed(dbt) == [own]
    shown = data(dbt, f"{root}/runs/{run}/?include_related=job")
    assert shown["account_id"] == shown["job"]["account_id"] == OTHER
    assert f"/deploy/{OTHER}/" in shown["href"]


@pytest.mark.parametrize(
    "path",
    [
        "jobs/{job}/",
        "runs/{run}/",
        "runs/{run}/artifacts/",
        "projects/{project}/",
        "environments/{environment}/",
    ],
)
def test_what_belongs_to_one_account_is_unknown_in_another(
    dbt: DbtCloudSimulator, path: str
) -> None:
    dbt.add_account(OTHER)
    names = {
        "job": JOB,
        "run": dbt.add_run(JOB),
        "project": DEFAULT_PROJECT,
        "environment": DEFAULT_ENVIRONMENT,
    }
    one = path.format(**names)
    assert ask(dbt, "GET", f"{A}/{one}").status == 200
    assert ask(dbt, "GET", f"/api/v2/accounts/{OTHER}/{one}").status == 404
    start = f"/api/v2/accounts/{OTHER}/jobs/{JOB}/run/"
    assert ask(dbt, "POST", start, {"cause": "test"}).status == 404
    assert not dbt.record.starts


def test_each_account_has_its_own_limit(dbt: DbtCloudSimulator) -> None:
    dbt.add_account(OTHER)
    dbt.configure(minute_limit=2)
    statuses = [ask(dbt, "GET", f"{A}/runs/").status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert ask(dbt, "GET", f"/api/v2/accounts/{OTHER}/runs/").status == 200


def test_accounts_projects_and_environments_are_arranged_as_json(
    dbt: DbtCloudSimulator,
) -> None:
    dbt.arrange(
        accounts=[{"account_id": 5, "name": "Five"}],
        projects=[{"project_id": 50, "name": "Fifty", "account_id": 5}],
        environments=[{"environment_id": 500, "project_id": 50, "name": "Staging"}],
        jobs=[{"job_id": 7, "project_id": 50, "environment_id": 500}],
    )
    root = "/api/v2/accounts/5"
    assert data(dbt, f"{root}/jobs/7/")["account_id"] == 5
    assert data(dbt, f"{root}/environments/500/")["account_id"] == 5
    assert len(data(dbt, f"{root}/projects/")) == 2
    with pytest.raises(ValueError, match="above zero"):
        dbt.arrange(accounts=[{"account_id": -1}])


def test_a_changed_account_id_takes_over_what_there_is(dbt: DbtCloudSimulator) -> None:
    run = dbt.add_run(JOB)
    dbt.configure(account_id=OTHER)
    root = f"/api/v2/accounts/{OTHER}"
    assert data(dbt, f"{root}/runs/{run}/")["account_id"] == OTHER
    assert data(dbt, f"{root}/jobs/{JOB}/")["project"]["account_id"] == OTHER
    assert ask(dbt, "GET", f"{A}/").status == 404
    dbt.reset()
    assert ask(dbt, "GET", f"{A}/").status == 200


def accepting(clock: Clock) -> DbtCloudSimulator:
    return DbtCloudSimulator(DbtCloudSettings(accept_unknown=True), clock=clock)


def test_an_account_springs_into_being_with_all_that_its_job_names(
    clock: Clock,
) -> None:
    dbt = accepting(clock)
    root = f"/api/v2/accounts/{OTHER}"
    job = data(dbt, f"{root}/jobs/48617/")
    assert data(dbt, f"{root}/projects/{job['project_id']}/")["account_id"] == OTHER
    environment = data(dbt, f"{root}/environments/{job['environment_id']}/")
    assert [one["id"] for one in environment["jobs"]] == [48617]
    assert data(dbt, f"{root}/")["id"] == OTHER
    # Ids are an account's own: the same job is not in another.
    assert ask(dbt, "GET", "/api/v2/accounts/39151/jobs/48617/").status == 404


@pytest.mark.parametrize(
    "text",
    ["None", "null", "undefined", "abc", "0", "-5", "1.5", "%20", "1e3", "²", "[5]",
     "9223372036854775808", "1" * 5000],
)  # fmt: skip
@pytest.mark.parametrize(
    "path",
    ["accounts/{}/jobs/", "accounts/5/jobs/{}/", "accounts/5/runs/{}/",
     "accounts/5/projects/{}/", "accounts/5/environments/{}/"],
)  # fmt: skip
def test_what_is_no_integer_id_is_refused_even_where_all_are_accepted(
    clock: Clock, path: str, text: str
) -> None:
    dbt = accepting(clock)
    assert ask(dbt, "GET", "/api/v2/" + path.format(text)).status == 404
    if path.startswith("accounts/5/jobs"):
        reply = ask(dbt, "POST", f"/api/v2/{path.format(text)}run/", {"cause": "test"})
        assert reply.status == 404
    assert not dbt.all_jobs


# What https://docs.getdbt.com/dbt-cloud/api-v2 requires of each object.
REQUIRED = {
    "account": """
        account_migration_events agent_credit_locked analyst_seats billing_email_address
        business_critical copilot_locked_until created_at
        develop_pod_memory_request_mebibytes developer_seats enterprise_login_slug
        explorer_seats git_auth_level groups id identifier it_seats lock_cause
        lock_reason locked pending_cancel plan pod_memory_request_mebibytes queue_limit
        read_only_seats run_duration_limit_seconds run_locked_until run_slots
        starter_repo_url static_subdomain trial_end_date unlocked_at updated_at
        vanity_subdomain""",
    "job": """
        account created_at environment fusion_readiness id is_deferrable
        job_completion_trigger_condition lifecycle_webhooks_url project raw_dbt_version
        run_failure_count updated_at""",
    "job of a run": """
        account_id environment_id errors_on_lint_failure execution generate_docs
        lifecycle_webhooks name project_id run_compare_changes run_generate_sources
        run_lint settings state triggers""",
    "project": """
        connection created_at default_version docs_job environments freshness_job
        fusion_readiness group_permissions id repository updated_at""",
    "environment": """
        connection created_at custom_environment_variables id jobs raw_dbt_version
        repository updated_at""",
    "run": "created_at updated_at",
    "trigger of a run": "cause job_definition_id",
    "step of a run": "account_id index name run_id status",
}


def test_objects_are_complete_by_the_specification(
    dbt: DbtCloudSimulator, clock: Clock
) -> None:
    run = started(dbt)
    clock.advance(60)
    related = "?include_related=trigger,job,run_steps"
    shown = data(dbt, f"{A}/runs/{run}/{related}")
    found = {
        "account": data(dbt, f"{A}/"),
        "job": data(dbt, f"{A}/jobs/{JOB}/"),
        "job of a run": shown["job"],
        "project": data(dbt, f"{A}/projects/{DEFAULT_PROJECT}/"),
        "environment": data(dbt, f"{A}/environments/{DEFAULT_ENVIRONMENT}/"),
        "run": shown,
        "trigger of a run": shown["trigger"],
        "step of a run": shown["run_steps"][0],
    }
    assert {name: set(REQUIRED[name].split()) - set(found[name]) for name in found} == {
        name: set() for name in REQUIRED
    }
    [listed_run] = data(dbt, f"{A}/runs/{related}")
    assert set(REQUIRED["job of a run"].split()) <= set(listed_run["job"])
    for path, name in (("jobs", "job"), ("projects", "project")):
        for row in data(dbt, f"{A}/{path}/"):
            assert set(REQUIRED[name].split()) <= set(row)


def test_a_job_counts_its_failures_in_a_row(
    dbt: DbtCloudSimulator, clock: Clock
) -> None:
    for life in ("error", "success", "error", "error", "running"):
        dbt.add_run(JOB, life)
        clock.advance(1)
    assert data(dbt, f"{A}/jobs/{JOB}/")["run_failure_count"] == 2


@pytest.mark.parametrize(
    "query",
    [
        "include_related=trigger,job",
        "include_related=trigger&include_related=job",
        'include_related=["trigger","job"]',
    ],
)
def test_related_objects_are_chosen_in_every_form_that_clients_send(
    dbt: DbtCloudSimulator, query: str
) -> None:
    run = started(dbt)
    found = data(dbt, f"{A}/runs/{run}/?{query}")
    assert (found["trigger"]["cause"], found["job"]["id"]) == ("test", JOB)


def test_the_host_serves_a_web_page_too(dbt: DbtCloudSimulator) -> None:
    reply = ask(dbt, "GET", "/", token="")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("git_sha", ""),
        ("git_branch", ["main"]),
        ("schema_override", ""),
        ("dbt_version_override", {}),
        ("target_name_override", 5),
        ("threads_override", "None"),
        ("threads_override", True),
        ("timeout_seconds_override", 1.5),
        ("timeout_seconds_override", ""),
        ("github_pull_request_id", "five"),
        ("generate_docs_override", "None"),
        ("generate_docs_override", []),
        ("steps_override", []),
        ("steps_override", [""]),
    ],
)
def test_an_override_of_another_type_is_refused(
    dbt: DbtCloudSimulator, name: str, value: Any
) -> None:
    reply = start(dbt, **{name: value})

    assert reply.status == 400
    assert reply.json()["status"]["user_message"].startswith(f"{name}: ")
    assert not dbt.record.starts


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads_override", 4),
        ("threads_override", "4"),
        ("timeout_seconds_override", "-1"),
        ("generate_docs_override", False),
        ("generate_docs_override", "True"),
        ("steps_override", None),
        ("schema_override", None),
        ("unheard_of", "x"),
    ],
)
def test_an_override_that_reads_as_its_type_is_taken(
    dbt: DbtCloudSimulator, name: str, value: Any
) -> None:
    assert start(dbt, **{name: value}).status == 200


def test_jobs_are_found_by_their_id_and_by_several_projects(
    dbt: DbtCloudSimulator,
) -> None:
    for project, job in ((5, 51), (6, 61), (7, 71)):
        dbt.add_project(project, name=f"Project {project}")
        dbt.add_job(job, project_id=project)

    def found(query: str) -> list[int]:
        return [one["id"] for one in data(dbt, f"{A}/jobs/?{query}")]

    assert found("pk=61") == [61]
    assert found("pk=999") == []
    assert found("project_id__in=5&project_id__in=7") == [51, 71]
    assert found("project_id__in=[5,6]") == [51, 61]
    assert found("project_id=6") == [61]
    refused = ask(dbt, "GET", f"{A}/jobs/?pk=nightly")
    assert refused.status == 400
    assert refused.json()["status"]["user_message"] == "pk: Enter a number."
