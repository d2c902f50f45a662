"""What ``async-triggers check`` finds, against the simulated vendors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.request import Request, urlopen

import pytest

from async_triggers.commands import check, check_triggerer, lookup
from async_triggers.commands.check_report import Section, as_json, as_text, worst
from async_triggers.commands.check_triggerer import TriggererSettings
from async_triggers.deferral.finding import Finding, Level
from async_triggers.simulator import Fault, Simulator
from tests.unit.commands.conftest import Airflow, Printed
from tests.unit.secrets import planted

Command = Callable[..., Printed]
CONN_IDS = ["airbyte_default", "fivetran_default", "dbt_cloud_default"]


def findings(printed: Printed, conn_id: str) -> list[dict[str, Any]]:
    sections = {each["name"]: each for each in printed.json()["sections"]}
    found: list[dict[str, Any]] = sections[conn_id]["findings"]
    return found


def about(printed: Printed, conn_id: str, topic: str) -> dict[str, Any]:
    """Return the last finding about a topic."""
    return [each for each in findings(printed, conn_id) if each["topic"] == topic][-1]


def test_sound_connections_pass(
    airflow: Airflow, simulator: Simulator, command: Command
) -> None:
    simulator.airbyte.add_connection()

    printed = command("check", *CONN_IDS, "--json")

    assert printed.code == 0, printed.out
    assert printed.json()["worst"] == "note"
    assert [each["name"] for each in printed.json()["sections"]] == CONN_IDS
    assert "Simulated workspace" in printed.out
    assert "Simulated account" in printed.out


def test_an_airbyte_without_a_connection_need_not_lack_a_role(
    airflow: Airflow, command: Command
) -> None:
    printed = command("check", "airbyte_default", "--json")

    found = about(printed, "airbyte_default", "read connections")
    assert printed.code == 1
    assert found["level"] == "warning"
    assert "it has none yet" in found["text"]
    assert found["fix"].startswith("Check again once Airbyte has a connection")
    assert "a simulator has one after its first sync" in found["fix"]


def test_nothing_is_started_or_changed(
    airflow: Airflow, simulator: Simulator, command: Command
) -> None:
    command("check", *CONN_IDS)

    for vendor in (simulator.airbyte, simulator.fivetran, simulator.dbt_cloud):
        assert vendor.record.total > 0
        assert vendor.record.started == []
        assert not vendor.record.cancels


@pytest.mark.parametrize(
    ("conn_id", "vendor", "fields"),
    [
        ("airbyte_default", "airbyte", {"password": "wrong"}),
        ("fivetran_default", "fivetran", {"password": "wrong"}),
        ("dbt_cloud_default", "dbt_cloud", {"password": "wrong"}),
    ],
)
def test_wrong_credentials_are_an_error_that_names_the_fields(
    airflow: Airflow,
    command: Command,
    conn_id: str,
    vendor: str,
    fields: dict[str, str],
) -> None:
    airflow.change(conn_id, **fields)

    printed = command("check", conn_id, "--json")

    found = about(printed, conn_id, "credentials")
    assert printed.code == 2
    assert found["level"] == "error"
    assert "(password)" in found["text"]


@pytest.mark.parametrize(
    ("conn_id", "fields", "words"),
    [
        ("airbyte_default", {"password": ""}, "Client Secret (password)"),
        ("airbyte_default", {"extra": "{"}, "extra is not JSON"),
        ("fivetran_default", {"login": "", "password": ""}, "API Key (login)"),
        ("fivetran_default", {"host": "ftp://x"}, "host is not a URL"),
        ("dbt_cloud_default", {"login": ""}, "Account ID (login)"),
        ("dbt_cloud_default", {"login": "ten"}, "Account ID (login)"),
    ],
)
def test_a_malformed_field_is_named_as_the_form_has_it(
    airflow: Airflow,
    command: Command,
    conn_id: str,
    fields: dict[str, str],
    words: str,
) -> None:
    airflow.change(conn_id, **fields)

    printed = command("check", conn_id, "--json")

    assert printed.code == 2
    assert words in about(printed, conn_id, "fields")["text"]


def test_a_host_that_does_not_answer_is_an_error(
    airflow: Airflow, command: Command
) -> None:
    airflow.change("dbt_cloud_default", host="http://127.0.0.1:9")

    printed = command("check", "dbt_cloud_default", "--json")

    found = about(printed, "dbt_cloud_default", "answer")
    assert printed.code == 2
    assert "Tenant (host)" in found["text"]
    assert "http://127.0.0.1:9" in found["text"]


@pytest.mark.parametrize(
    ("conn_id", "vendor", "path", "topic"),
    [
        ("fivetran_default", "fivetran", "*/sync", "start"),
        ("fivetran_default", "fivetran", "*no_such_connection", "cancel by pausing"),
        ("fivetran_default", "fivetran", "/v1/connections", "read"),
        ("dbt_cloud_default", "dbt_cloud", "*/run/", "start"),
        ("dbt_cloud_default", "dbt_cloud", "*/cancel/", "cancel"),
        ("dbt_cloud_default", "dbt_cloud", "*/runs/", "read runs"),
        ("dbt_cloud_default", "dbt_cloud", "*/jobs/", "read jobs"),
        ("airbyte_default", "airbyte", "*/connections", "read connections"),
        ("airbyte_default", "airbyte", "*/jobs", "read jobs"),
    ],
)
def test_a_right_that_is_missing_is_an_error_with_what_to_give(
    airflow: Airflow,
    simulator: Simulator,
    command: Command,
    conn_id: str,
    vendor: str,
    path: str,
    topic: str,
) -> None:
    simulator.airbyte.add_connection()
    fault = Fault(kind="status", status=403, path=path, times=None)
    getattr(simulator, vendor).faults.add(fault)

    printed = command("check", conn_id, "--json")

    found = about(printed, conn_id, topic)
    assert printed.code == 2
    assert found["level"] == "error"
    assert found["fix"].startswith("Give the ")


def test_a_right_that_cannot_be_probed_is_a_note(
    airflow: Airflow, simulator: Simulator, command: Command
) -> None:
    simulator.fivetran.faults.add(Fault(kind="status", status=500, path="*/sync"))

    printed = command("check", "fivetran_default", "--json")

    assert printed.code == 0
    assert about(printed, "fivetran_default", "start")["level"] == "note"


@pytest.mark.parametrize(
    ("skew", "level", "words"),
    [
        (0.0, "ok", "agrees"),
        (20.0, "note", "ahead of this machine's"),
        (-3600.0, "warning", "3,600 s behind this machine's"),
    ],
)
def test_the_difference_of_the_clocks_is_shown(
    airflow: Airflow,
    simulator: Simulator,
    command: Command,
    skew: float,
    level: str,
    words: str,
) -> None:
    simulator.fivetran.faults.add(Fault(kind="date", seconds=skew, times=None))

    found = about(
        command("check", "fivetran_default", "--json"), "fivetran_default", "clock"
    )

    assert found["level"] == level
    assert words.partition(" s ")[2] in found["text"]


def test_an_account_with_a_lower_limit_is_pointed_out(
    airflow: Airflow, simulator: Simulator, command: Command
) -> None:
    simulator.fivetran.configure(hourly_limit=500)

    printed = command("check", "fivetran_default", "--json")

    found = about(printed, "fivetran_default", "limit")
    assert printed.code == 1
    assert found["fix"] == (
        "Set Requests per minute (extra.requests_per_minute) to 8.333"
    )


def test_a_limit_that_is_nearly_used_up_is_pointed_out(
    airflow: Airflow, simulator: Simulator, command: Command
) -> None:
    simulator.fivetran.configure(hourly_limit=30)
    key = "Basic c2ltdWxhdG9yLWtleTpzaW11bGF0b3Itc2VjcmV0"
    for _ in range(28):
        request = Request(simulator.fivetran_url + "/v1/account/info")
        request.add_header("Authorization", key)
        urlopen(request).close()

    found = findings(command("check", "fivetran_default", "--json"), "fivetran_default")

    texts = {each["text"]: each["level"] for each in found if each["topic"] == "limit"}
    assert {level for text, level in texts.items() if "are left" in text} == {"warning"}
    # The rest is not spent on probing rights.
    assert simulator.fivetran.record.total == 29


@pytest.mark.parametrize(
    ("conn_id", "vendor", "retry_after", "pause"),
    [
        ("fivetran_default", "fivetran", 3600, "1 h"),
        ("dbt_cloud_default", "dbt_cloud", 90, "1 min"),
        # It names no time: dbt Cloud's cool-down.
        ("dbt_cloud_default", "dbt_cloud", None, "5 min"),
        ("airbyte_default", "airbyte", 120, "2 min"),
    ],
)
def test_an_account_at_its_limit_is_said_to_be_and_for_how_long(
    airflow: Airflow,
    simulator: Simulator,
    command: Command,
    conn_id: str,
    vendor: str,
    retry_after: int | None,
    pause: str,
) -> None:
    fault = Fault(kind="status", status=429, retry_after=retry_after, times=None)
    getattr(simulator, vendor).faults.add(fault)

    printed = command("check", conn_id, "--json")

    found = about(printed, conn_id, "limit")
    assert printed.code == 2
    assert "429" in found["text"]
    assert found["fix"].startswith(f"Wait {pause}, and find out which other program")


@pytest.mark.parametrize(
    ("conn_id", "fields", "topic", "words"),
    [
        (
            "fivetran_default",
            {"extra": {"verify": False}},
            "TLS",
            "does not check TLS certificates",
        ),
        (
            "airbyte_default",
            {"extra": {"tiemout": 5}},
            "extra",
            "Did you mean 'timeout'?",
        ),
    ],
)
def test_what_is_odd_is_a_warning_with_what_to_change(
    airflow: Airflow,
    simulator: Simulator,
    command: Command,
    conn_id: str,
    fields: dict[str, Any],
    topic: str,
    words: str,
) -> None:
    simulator.airbyte.add_connection()
    airflow.change(conn_id, **fields)

    printed = command("check", conn_id, "--json")

    found = about(printed, conn_id, topic)
    assert printed.code == 1
    assert found["level"] == "warning"
    assert words in found["text"]
    assert found["fix"]


@pytest.mark.parametrize("option", [(), ("--vendor", "fivetran")])
def test_a_connection_that_is_not_there_is_an_error(
    airflow: Airflow, command: Command, option: tuple[str, ...]
) -> None:
    printed = command("check", "nowhere", *option, "--json")

    found = about(printed, "nowhere", "connection")
    assert printed.code == 2
    assert "AIRFLOW_CONN_NOWHERE" in found["fix"]


def test_a_variable_that_holds_no_connection_is_named_and_not_shown(
    airflow: Airflow, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_BROKEN", f"fivetran://k:{planted.SECRET}@[x/")

    printed = command("check", "broken", "--json")

    found = about(printed, "broken", "connection")
    assert printed.code == 2
    assert found["text"].startswith("AIRFLOW_CONN_BROKEN holds no connection")
    assert planted.SECRET not in printed.out + printed.err


def test_a_connection_that_is_sought_without_a_database_names_the_database(
    airflow: Airflow, command: Command
) -> None:
    airflow.has_database = False

    printed = command("check", "nowhere", "--json")

    found = about(printed, "nowhere", "connection")
    assert printed.code == 2
    assert "database cannot be read (OSError)" in found["text"]
    assert "AIRFLOW_CONN_NOWHERE" in found["fix"]
    assert planted.SECRET not in printed.out + printed.err


def test_a_type_that_names_no_vendor_needs_the_option(
    airflow: Airflow, command: Command
) -> None:
    airflow.change("fivetran_default", conn_type="http")

    without = command("check", "fivetran_default", "--json")
    named = command("check", "fivetran_default", "--vendor", "fivetran", "--json")

    assert without.code == 2
    assert "--vendor" in about(without, "fivetran_default", "connection")["fix"]
    found = about(named, "fivetran_default", "type")
    assert named.code == 0
    assert found["level"] == "note"
    assert "has the type 'http', and Fivetran's have 'fivetran'" in found["text"]
    assert found["fix"].endswith("set its type to 'fivetran'")


def test_a_type_of_the_vendor_s_is_not_pointed_out(
    airflow: Airflow, command: Command
) -> None:
    airflow.change("fivetran_default", conn_type="Fivetran")

    assert "has the type" not in command("check", "fivetran_default").out


@pytest.mark.parametrize(
    "fields",
    [
        {"password": planted.SECRET, "login": planted.CLIENT},
        {"password": planted.SECRET, "host": f"https://u:{planted.TOKEN}@x"},
        {"password": planted.SECRET, "host": f"ftp://{planted.TOKEN}"},
        {"password": "", "login": planted.TOKEN},
        {
            "password": planted.SECRET,
            "extra": {
                "proxies": f"http://{planted.PROXY_USER}:{planted.PROXY_PASSWORD}@p.test",
                "auth": planted.TOKEN,
            },
        },
    ],
)
@pytest.mark.parametrize("conn_id", CONN_IDS)
@pytest.mark.parametrize("as_json", [False, True])
def test_no_secret_is_printed(
    airflow: Airflow,
    command: Command,
    conn_id: str,
    fields: dict[str, Any],
    *,
    as_json: bool,
) -> None:
    if conn_id == "dbt_cloud_default":
        fields = {"login": airflow.fields[conn_id]["login"], **fields}

    airflow.change(conn_id, **fields)

    printed = command("check", conn_id, *(["--json"] if as_json else []))

    shown = printed.out + printed.err
    assert [each for each in planted.forms() if each in shown] == []


# The triggerer ----------------------------------------------------------------------


def settings(**changes: Any) -> TriggererSettings:
    given: dict[str, Any] = {
        "capacity": 1000,
        "adopted_in_a_round": 50,
        "open_files": 4096,
        "health_threshold": 30,
        "heartbeat": 5,
        "versions": {"apache-airflow": "3.3.2"},
    }
    return TriggererSettings(**{**given, **changes})


def test_airflow_s_defaults_pass_with_enough_files() -> None:
    found = check_triggerer.check_triggerer(settings())

    assert {each.level for each in found} == {Level.OK}
    assert {each.fix for each in found} == {""}


@pytest.mark.parametrize(
    ("changes", "level", "fix"),
    [
        ({"open_files": 1024}, Level.WARNING, "ulimit -n 2000"),
        ({"open_files": 1999}, Level.WARNING, "ulimit -n 2000"),
        (
            {"capacity": 6000, "open_files": 9999},
            Level.WARNING,
            "Set it to 100 or more",
        ),
        ({"health_threshold": 10}, Level.WARNING, "Set it to 15 or more"),
        ({"versions": {"apache-airflow": "3.1.7"}}, Level.ERROR, "Upgrade Airflow"),
    ],
)
def test_what_limits_the_triggerer_is_a_line_with_what_to_set(
    changes: dict[str, Any], level: Level, fix: str
) -> None:
    found = check_triggerer.check_triggerer(settings(**changes))

    bad = [each for each in found if each.level is not Level.OK]
    assert [each.level for each in bad] == [level]
    assert fix in bad[0].fix


def test_a_triggerer_without_a_limit_of_a_round_has_no_line_of_it() -> None:
    found = check_triggerer.check_triggerer(settings(adopted_in_a_round=None))

    assert not [each for each in found if check_triggerer.ADOPTED in each.topic]


def test_a_setting_that_airflow_does_not_have_is_not_read(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_triggerer, "ADOPTED", "triggers_of_another_version")
    monkeypatch.setenv("AIRFLOW__TRIGGERER__TRIGGERS_OF_ANOTHER_VERSION", "7")

    assert check_triggerer.read_settings().adopted_in_a_round is None


@pytest.mark.parametrize(
    "number", ["3.1.8", "3.3.2", "3.3.2rc1", "4.0.0", "not installed"]
)
def test_other_versions_pass(number: str) -> None:
    found = check_triggerer.check_triggerer(
        settings(versions={"apache-airflow": number})
    )

    assert found[0].level is Level.OK


def test_the_settings_of_this_machine_are_read(
    airflow: Airflow, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "known_conn_ids", list)
    monkeypatch.setenv("AIRFLOW__TRIGGERER__CAPACITY", "7000")

    printed = command("check")

    assert "7,000 tasks can wait" in printed.out
    assert "needs 8,000" in printed.out


def test_all_connections_of_the_database_and_of_the_environment_are_checked(
    airflow: Airflow, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow.fields["elsewhere"] = {"conn_type": "postgres", "password": "x"}
    for name in ("ELSEWHERE", "BROKEN"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", "x")

    monkeypatch.setenv("AIRFLOW_CONN_UNSET", "")
    monkeypatch.setattr(
        lookup, "_stored_conn_ids", lambda: ["airbyte_default", "fivetran_default"]
    )

    printed = command("check", "--json")

    names = [each["name"] for each in printed.json()["sections"]]
    assert names == ["airbyte_default", "broken", "fivetran_default", "triggerer"]
    assert printed.code == 2


def test_without_a_database_the_environment_s_are_checked_all_the_same(
    airflow: Airflow, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow.has_database = False
    monkeypatch.setenv("AIRFLOW_CONN_FIVETRAN_DEFAULT", "x")

    printed = command("check", "--json")

    assert about(printed, "fivetran_default", "credentials")["level"] == "ok"
    found = about(printed, "triggerer", "database")
    assert (found["level"], printed.code) == ("warning", 1)
    assert "OSError" in found["text"]
    assert planted.SECRET not in printed.out + printed.err


# The report -------------------------------------------------------------------------


def section(*levels: Level) -> Section:
    made = [
        Finding(topic=f"topic {at}", level=level, text="text", fix=f"do {level.name}")
        for at, level in enumerate(levels)
    ]
    return Section(name="c", kind="connection", findings=made)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([], Level.OK),
        ([Level.OK, Level.NOTE], Level.NOTE),
        ([Level.ERROR, Level.WARNING], Level.ERROR),
    ],
)
def test_the_worst_finding_counts(levels: list[Level], expected: Level) -> None:
    sections = [section(each) for each in levels]

    assert worst(sections) is expected
    assert f'"worst": "{expected.name.lower()}"' in as_json(sections)


def test_what_to_change_stands_line_by_line_at_the_end() -> None:
    shown = as_text([section(Level.ERROR, Level.WARNING)])

    assert shown.endswith(
        "To change:\n  c, topic 0: do ERROR\n  c, topic 1: do WARNING"
    )


def test_a_check_without_findings_says_so() -> None:
    sound = Finding(topic="topic", level=Level.OK, text="text")
    made = Section(name="c", kind="connection", findings=[sound])

    assert as_text([made]).endswith("Nothing to change.")
