from __future__ import annotations

import json
import logging
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.generators import dbt as module
from async_triggers.generators import refreshing
from async_triggers.generators.cache import Cache, Entry, default_cache
from async_triggers.generators.dialect import DbtSelection
from async_triggers.generators.errors import GeneratorError, Place
from async_triggers.generators.lookup import Lookup
from async_triggers.generators.questions import (
    DbtQuestion,
    InventoryQuestion,
    Question,
    question_from_json,
)
from async_triggers.simulator import Fault

if TYPE_CHECKING:
    from async_triggers.simulator.server import Simulator
    from tests.unit.generators.stage import FakeDbt

HERE = Place("dags.yml", ("d", "tasks", "load"))


@dataclass
class World:
    """Look-ups that share a clock and a cache, one for each parse."""

    cache: Cache
    time: float = 1_000_000.0
    spawned: list[Question] = field(default_factory=list)

    def parse(self, **changes: Any) -> Lookup:
        def spawn(_cache: Cache, questions: Sequence[Question]) -> None:
            self.spawned += questions

        settings = {"seconds": 20.0, "max_age": 3600.0, **changes}
        return Lookup(cache=self.cache, now=lambda: self.time, spawn=spawn, **settings)


@pytest.fixture
def world(cache: Cache) -> World:
    return World(cache)


@pytest.fixture
def selection(dbt: FakeDbt, project: Path) -> DbtSelection:
    return DbtSelection(
        project=project,
        manifest=None,
        dbt=str(dbt.virtualenv / "bin" / "dbt"),
        arguments=("--select", "tag:daily"),
        run_deps=False,
    )


def sources(lookup: Lookup, selection: DbtSelection) -> list[str]:
    try:
        return [str(each) for each in lookup.sources(selection, HERE)]
    finally:
        lookup.finish()


def loaders(lookup: Lookup, vendor: str = "fivetran") -> list[str]:
    try:
        found = lookup.loaders(vendor, f"{vendor}_default", ("raw",), HERE)
        return [each.id for each in found]
    finally:
        lookup.finish()


# dbt


def test_dbt_is_asked_once_while_the_project_stays(
    world: World, dbt: FakeDbt, selection: DbtSelection
) -> None:
    for _ in range(50):
        assert sources(world.parse(), selection) == ["RAW.shop.orders"]

    assert len(dbt.calls) == 1
    assert world.spawned == []


def test_a_changed_project_is_asked_about_at_once(
    world: World, dbt: FakeDbt, selection: DbtSelection, project: Path
) -> None:
    sources(world.parse(), selection)
    (project / "new.sql").write_text("select 1")
    dbt.says("RAW.shop.orders", "RAW.shop.people")

    assert len(sources(world.parse(), selection)) == 2
    assert len(dbt.calls) == 2


def test_a_project_that_dbt_refuses_is_an_error_and_not_run_again_for_a_minute(
    world: World, dbt: FakeDbt, selection: DbtSelection, project: Path
) -> None:
    sources(world.parse(), selection)
    (project / "new.sql").write_text("{{")
    dbt.says(out="Compilation Error", code=2)

    for _ in range(3):
        with pytest.raises(GeneratorError, match=r"(?s)load: dbt.*Compilation Error"):
            sources(world.parse(), selection)
    assert len(dbt.calls) == 2

    world.time += 61
    with pytest.raises(GeneratorError, match="Compilation Error"):
        sources(world.parse(), selection)
    assert len(dbt.calls) == 3


def test_what_is_mended_is_seen_at_once(
    world: World, dbt: FakeDbt, selection: DbtSelection, project: Path
) -> None:
    dbt.says(out="Compilation Error", code=2)
    with pytest.raises(GeneratorError):
        sources(world.parse(), selection)

    (project / "mended.sql").write_text("select 1")
    dbt.says("RAW.shop.orders")

    assert sources(world.parse(), selection) == ["RAW.shop.orders"]


def test_the_last_answer_is_used_where_there_is_no_dbt(
    world: World,
    dbt: FakeDbt,
    selection: DbtSelection,
    project: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sources(world.parse(), selection)
    (project / "new.sql").write_text("select 1")
    (dbt.virtualenv / "bin" / "dbt").unlink()
    lookup = world.parse()

    with caplog.at_level(logging.WARNING):
        assert sources(lookup, selection) == ["RAW.shop.orders"]

    assert "1970-01-12" in lookup.warnings[0]
    assert "set virtualenv_path" in caplog.text


def test_a_slow_dbt_delays_one_parse_of_a_changed_project(
    world: World, dbt: FakeDbt, selection: DbtSelection, project: Path
) -> None:
    sources(world.parse(), selection)
    (project / "new.sql").write_text("select 1")
    dbt.says(seconds=3600)

    for _ in range(3):
        lookup = world.parse(seconds=0.3)
        assert sources(lookup, selection) == ["RAW.shop.orders"]
        assert "did not finish" in lookup.warnings[0]

    assert len(dbt.calls) == 2
    assert [each.kind for each in world.spawned] == ["dbt"]


def test_trouble_with_a_change_that_was_taken_back_is_forgotten(
    world: World, dbt: FakeDbt, selection: DbtSelection, project: Path
) -> None:
    sources(world.parse(), selection)
    (project / "new.sql").write_text("{{")
    dbt.says(out="Compilation Error", code=2)
    with pytest.raises(GeneratorError):
        sources(world.parse(), selection)
    (project / "new.sql").unlink()
    lookup = world.parse()

    assert sources(lookup, selection) == ["RAW.shop.orders"]
    assert lookup.warnings == []


def test_a_first_parse_that_takes_too_long_says_what_to_do(
    world: World, dbt: FakeDbt, selection: DbtSelection
) -> None:
    dbt.says(seconds=3600)

    with pytest.raises(GeneratorError, match=r"generate dags\.yml --refresh"):
        sources(world.parse(seconds=0.3), selection)

    assert [each.kind for each in world.spawned] == ["dbt"]
    # The next parse does not wait for it once more.
    with pytest.raises(GeneratorError, match="queried again"):
        sources(world.parse(seconds=0.3), selection)
    assert len(dbt.calls) == 1


def test_another_environment_is_another_question(
    world: World,
    dbt: FakeDbt,
    selection: DbtSelection,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (project / "sources.yml").write_text("database: \"{{ env_var('RAW_DB') }}\"")
    monkeypatch.setenv("RAW_DB", "RAW")
    assert sources(world.parse(), selection) == ["RAW.shop.orders"]
    monkeypatch.setenv("RAW_DB", "PROD")
    dbt.says("PROD.shop.orders")

    assert sources(world.parse(), selection) == ["PROD.shop.orders"]
    # Two processes that differ do not push each other's answers out.
    monkeypatch.setenv("RAW_DB", "RAW")
    assert sources(world.parse(), selection) == ["RAW.shop.orders"]
    assert len(dbt.calls) == 2


def test_the_answer_for_one_environment_is_not_used_for_another(
    world: World,
    dbt: FakeDbt,
    selection: DbtSelection,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (project / "sources.yml").write_text("database: \"{{ env_var('RAW_DB') }}\"")
    monkeypatch.setenv("RAW_DB", "RAW")
    sources(world.parse(), selection)
    monkeypatch.setenv("RAW_DB", "PROD")
    dbt.says(seconds=3600)

    with pytest.raises(GeneratorError, match="did not finish"):
        sources(world.parse(seconds=0.3), selection)


def test_what_dbt_itself_writes_is_no_reason_to_ask_twice(
    world: World, dbt: FakeDbt, selection: DbtSelection, project: Path
) -> None:
    sources(world.parse(), selection)
    (project / ".user.yml").write_text("id: 1")

    assert sources(world.parse(), selection) == ["RAW.shop.orders"]
    assert len(dbt.calls) == 1


def test_packages_that_dbt_installs_are_no_reason_to_ask_twice(
    world: World,
    dbt: FakeDbt,
    selection: DbtSelection,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = project / "dbt_packages" / "x" / "sources.yml"
    install = module.install_packages

    def install_and_write(*args: Any, **kwargs: Any) -> None:
        install(*args, **kwargs)
        installed.parent.mkdir(parents=True, exist_ok=True)
        installed.write_text("sources: []")

    monkeypatch.setattr(module, "install_packages", install_and_write)
    wanted = replace(selection, run_deps=True)

    for _ in range(3):
        assert sources(world.parse(), wanted) == ["RAW.shop.orders"]

    assert ["deps" in call for call in dbt.calls] == [True, False]


@pytest.mark.parametrize("kind", ["dbt", "inventory"])
def test_a_moment_in_the_future_counts_as_never(
    world: World, dbt: FakeDbt, vendors: Simulator, selection: DbtSelection, kind: str
) -> None:
    """A clock that was a day ahead is right again."""

    def find() -> list[str]:
        if kind == "dbt":
            return sources(world.parse(), selection)
        return loaders(world.parse())

    right = world.time
    world.time += 86_400
    dbt.says(out="Compilation Error", code=2)
    vendors.fivetran.configure(api_secret="another")
    with pytest.raises(GeneratorError):
        find()
    world.time = right
    dbt.says("RAW.shop.orders")
    vendors.fivetran.configure(api_secret="simulator-secret")

    assert find()


def test_an_answer_from_the_future_is_renewed(world: World, vendors: Simulator) -> None:
    right = world.time
    world.time += 86_400
    loaders(world.parse())
    world.time = right

    assert loaders(world.parse()) == ["f1"]
    assert [each.kind for each in world.spawned] == ["inventory"]


def test_parses_at_the_same_time_run_dbt_once(
    world: World, dbt: FakeDbt, selection: DbtSelection
) -> None:
    dbt.says("RAW.shop.orders", seconds=0.3)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(sources(world.parse(), selection)))
        for _ in range(4)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert found == [["RAW.shop.orders"]] * 4
    assert len(dbt.calls) == 1


# Vendors


@pytest.mark.parametrize("vendor", ["fivetran", "airbyte"])
def test_fifty_parses_of_a_hundred_connections_ask_no_more_than_one(
    world: World, vendors: Simulator, vendor: str
) -> None:
    simulated = vendors.fivetran if vendor == "fivetran" else vendors.airbyte
    for number in range(99):
        vendors.fivetran.add_connection(
            f"c{number}", group_id="wh", tables={"s": ["t"]}
        )
        vendors.airbyte.add_connection(f"c{number}", destination_id="d", streams=["t"])

    assert len(loaders(world.parse(), vendor)) == 100
    after_one = simulated.record.total
    for _ in range(49):
        assert len(loaders(world.parse(), vendor)) == 100

    assert simulated.record.total == after_one


def test_an_old_answer_is_used_and_renewed_in_the_background_once(
    world: World, vendors: Simulator
) -> None:
    loaders(world.parse())
    asked = vendors.fivetran.record.total
    world.time += 3601

    for _ in range(3):
        assert loaders(world.parse()) == ["f1"]

    assert vendors.fivetran.record.total == asked
    assert [each.kind for each in world.spawned] == ["inventory"]
    world.time += 301
    loaders(world.parse())
    assert len(world.spawned) == 2


def test_the_last_answer_outlives_the_vendor(world: World, vendors: Simulator) -> None:
    loaders(world.parse())
    vendors.fivetran.faults.add(Fault(kind="status", status=503, times=None))
    world.time += 3601
    loaders(world.parse())
    question = world.spawned[0]
    with world.cache.lock(question.key, seconds=0) as locked:
        assert locked
        with pytest.raises(Exception, match="503"):
            refreshing.fetch(
                question, world.cache, question.fingerprint(), 5, lambda: world.time
            )

    lookup = world.parse()

    assert loaders(lookup) == ["f1"]
    assert "503" in lookup.warnings[0]


def test_wrong_credentials_are_an_error_that_names_the_place(
    world: World, vendors: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendors.fivetran.configure(api_secret="another")
    asked = vendors.fivetran.record

    for _ in range(3):
        with pytest.raises(GeneratorError, match=r"API Secret \(password\)"):
            loaders(world.parse())

    assert asked.unauthorized <= 2


def test_another_account_is_asked_at_once(
    world: World, vendors: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaders(world.parse())
    vendors.fivetran.configure(api_key="another")
    told = {"conn_type": "fivetran", "host": vendors.fivetran_url}
    told |= {"login": "another", "password": vendors.fivetran.settings.api_secret}
    monkeypatch.setenv("AIRFLOW_CONN_FIVETRAN_DEFAULT", json.dumps(told))
    vendors.fivetran.add_connection("f2", group_id="wh")

    assert loaders(world.parse()) == ["f1", "f2"]


def test_a_connection_that_cannot_be_looked_up_changes_no_dag(
    world: World, vendors: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaders(world.parse())
    monkeypatch.delenv("AIRFLOW_CONN_FIVETRAN_DEFAULT")

    assert loaders(world.parse()) == ["f1"]
    with pytest.raises(GeneratorError, match="'airbyte_none' was not found: make it"):
        world.parse().loaders("airbyte", "airbyte_none", None, HERE)


def test_who_asks_to_renew_gets_new_answers_once(
    world: World, vendors: Simulator
) -> None:
    loaders(world.parse())
    vendors.fivetran.add_connection("f2", group_id="wh")
    asked = vendors.fivetran.record.requests
    lookup = world.parse(renew=True)

    assert loaders(lookup) == ["f1", "f2"]
    assert loaders(lookup) == ["f1", "f2"]
    assert asked["GET /v1/groups"] == 2


def test_nothing_secret_is_stored(world: World, vendors: Simulator) -> None:
    vendors.fivetran.add_group(
        "wh", name="Warehouse", config={"database": "raw", "password": "hush-hush"}
    )
    loaders(world.parse())
    loaders(world.parse(), "airbyte")

    stored = "".join(each.read_text() for each in world.cache.folder.glob("*.json"))
    assert "f1" in stored
    for secret in ("hush-hush", "simulator-secret", "simulator-key"):
        assert secret not in stored


# The cache


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 0}', '{"version": 1, "no": 1}']
)
def test_what_cannot_be_read_counts_as_nothing(cache: Cache, text: str) -> None:
    cache.write("k", Entry(answer=[1]))
    assert cache.read("k").answer == [1]
    (cache.folder / "k.json").write_text(text)

    assert cache.read("k") == Entry()


def test_a_write_that_fails_leaves_nothing_behind(cache: Cache) -> None:
    cache.write("k", Entry(answer=[1]))

    with pytest.raises(TypeError):
        cache.write("k", Entry(answer=object()))

    assert [each.name for each in cache.folder.iterdir()] == ["k.json"]
    assert cache.read("k").answer == [1]


def test_what_nobody_has_asked_for_a_month_is_removed(cache: Cache) -> None:
    for key in ("old", "new"):
        cache.write(key, Entry(answer=[1]))
        cache.scratch(key).mkdir()
        (cache.scratch(key) / "manifest.json").write_text("{}")
        with cache.lock(key, seconds=0):
            pass
    month_ago = time.time() - 31 * 86_400
    os.utime(cache.folder / "old.json", (month_ago, month_ago))

    cache.write("other", Entry(answer=[1]))

    left = {each.name for each in cache.folder.iterdir()}
    assert left == {"new.json", "new.dbt", "new.lock", "other.json"}


def test_a_lock_is_held_by_one(cache: Cache) -> None:
    with cache.lock("k", seconds=0) as first, cache.lock("k", seconds=0.1) as second:
        assert (first, second) == (True, False)
    with cache.lock("k", seconds=0) as again:
        assert again


def test_the_cache_is_below_airflows_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.delenv("AIRFLOW__ASYNC_TRIGGERS__GENERATORS_CACHE", raising=False)

    assert default_cache().folder == tmp_path / "async_triggers" / "generators"

    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert default_cache().folder.parent.parent == tmp_path


def test_a_cache_that_cannot_be_written_is_told(
    world: World, selection: DbtSelection
) -> None:
    world.cache.folder.write_text("a file")

    with pytest.raises(GeneratorError, match=r"set .async_triggers. generators_cache"):
        sources(world.parse(), selection)


# The background


def test_another_process_does_the_errand(
    cache: Cache, vendors: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its pipe tells when it has ended: nobody else holds the other end.
    ended, held = os.pipe()

    class Popen(subprocess.Popen[str]):
        def __init__(self, command: list[str], **kwargs: Any) -> None:
            assert kwargs["stdout"] == kwargs["stderr"] == subprocess.DEVNULL
            super().__init__(command, pass_fds=[held], **kwargs)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    question = InventoryQuestion(
        vendor="fivetran", conn_id="fivetran_default", databases=("raw",)
    )

    refreshing.refresh_in_background(cache, [question])

    os.close(held)
    assert os.read(ended, 1) == b""
    os.close(ended)
    assert [each["id"] for each in cache.read(question.key).answer] == ["f1"]


def test_questions_survive_the_way_to_another_process() -> None:
    for question in (
        DbtQuestion(
            project="/p", dbt="dbt", arguments=("--select", "x"), run_deps=True
        ),
        InventoryQuestion(vendor="airbyte", conn_id="c", databases=None),
        InventoryQuestion(vendor="fivetran", conn_id="c", databases=("a", "")),
    ):
        told = json.loads(json.dumps(question.to_json()))
        assert question_from_json(question.kind, told) == question
        assert question_from_json(question.kind, told).key == question.key
