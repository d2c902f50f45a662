from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from async_triggers.demo.airflow_api import Run, TaskInstance
from async_triggers.simulator import (
    AirbyteSimulator,
    DbtCloudSimulator,
    FivetranSimulator,
)
from benchmarks.end_to_end import _measured, _parse, main, page, tell
from benchmarks.machine import machine
from benchmarks.sides import VENDORS, Vendor
from benchmarks.task_cost import import_table
from benchmarks.whole.calls import calls_in, count_calls
from benchmarks.whole.play import Cost, cost_from, delays
from benchmarks.whole.segments import Segment, read_segments, summarize
from benchmarks.whole.tables import (
    allowed,
    call_table,
    calls_of_a_task,
    medians_of,
    process_table,
    ratio,
    ratio_table,
)
from benchmarks.whole.ways import (
    FLOOR,
    WAYS,
    Plan,
    arrange,
    begin_jobs,
    lengths_of,
    plans_of,
)

NOON = 1_795_000_000.0
WAY = {way.name: way for way in WAYS}


def segment(cpu: float, peak_mb: float = 150.0) -> Segment:
    return Segment(count=200, cpu=cpu, peak_mb=peak_mb, modules=60, threads=0, loops=1)


def cost(way: str, *, vendor: str = "airbyte", **more: Any) -> Cost:
    given: dict[str, Any] = {
        "tasks": 200,
        "wall": 100.0,
        "workers": 400,
        "cpu": 100.0,
        "idle": 0.5,
        "delays": [] if way == "floor" else [1.0, 2.0, 9.0],
        "requests": 300,
        "calls": {"start": {"run": 200}, "resume": {"run": 200}},
        "segments": {"start": segment(0.2), "resume": segment(0.1)},
        "lines": 4000,
    }
    return Cost(vendor=vendor, way=way, **given | more)


# The ways -------------------------------------------------------------------------------


def test_lengths_are_drawn_evenly_and_alike_for_each_side() -> None:
    lengths = lengths_of(2000, shortest=45, longest=105, seed=1)

    assert lengths == lengths_of(2000, shortest=45, longest=105, seed=1)
    assert lengths != lengths_of(2000, shortest=45, longest=105, seed=2)
    assert 45 <= min(lengths) < 46
    assert 104 < max(lengths) <= 105
    assert statistics.mean(lengths) == pytest.approx(75, abs=1)


def test_the_floor_is_run_once_and_a_common_interval_where_it_is_one() -> None:
    plans = plans_of(VENDORS, [*WAY], [60.0])

    names = [plan.name for plan in plans]
    assert len(names) == len({*names})
    assert names[0] == "floor"
    assert names.count("floor") == 1
    assert [name for name in names if "common" in name] == [
        "dbt_cloud_peer_common",
        "dbt_cloud_ours_common",
    ]
    # Airbyte documents no limit of which a part could be spared.
    assert [name for name in names if "spare" in name] == [
        "fivetran_ours_spare",
        "dbt_cloud_ours_spare",
    ]
    assert len(plans) == 1 + 3 * 5 + 2 + 2


def test_both_sides_poll_alike_where_the_interval_is_common() -> None:
    assert {
        WAY[f"{side}_common"].interval("dbt_cloud") for side in ("ours", "peer")
    } == {5.0}
    assert WAY["peer"].interval("airbyte") == 60.0


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("waits_only", [True, False])
def test_the_vendor_knows_what_the_tasks_wait_for(
    vendor: Vendor, *, waits_only: bool
) -> None:
    now = NOON
    simulators: Mapping[str, Any] = {
        "airbyte": AirbyteSimulator,
        "fivetran": FivetranSimulator,
        "dbt_cloud": DbtCloudSimulator,
    }
    simulator = simulators[vendor](clock=lambda: now)
    plan = Plan(vendor, WAY["ours"], [50.0, 70.0])
    control: Any = simulator

    arrange(plan, control)
    if waits_only:
        begin_jobs(plan, control)

    running = {view.target for view in simulator.jobs()}
    assert running == ({*plan.targets} if waits_only else set())
    if waits_only:
        now += 60.0
        assert {view.target for view in simulator.jobs()} == {plan.targets[1]}


# Delays ---------------------------------------------------------------------------------


def instance(task_id: str, ended: float) -> TaskInstance:
    return TaskInstance(
        id=task_id,
        run=Run("ours", "run"),
        task_id=task_id,
        map_index=-1,
        state="success",
        try_number=1,
        max_tries=0,
        start_date=None,
        end_date=datetime.fromtimestamp(ended, tz=UTC).isoformat(),
        operator=None,
        trigger_id=None,
        triggerer_host=None,
    )


def test_a_delay_is_counted_from_the_end_of_the_tasks_own_job() -> None:
    ends = {"c0": NOON + 10, "c1": NOON + 30}
    instances = [instance(f"sync_{number}", NOON + 45) for number in (1, 0)]

    assert delays(["c0", "c1"], instances, ends) == pytest.approx([15, 35])


# Calls ----------------------------------------------------------------------------------

_TI = "01a22789-d6c1-7b0b-a4af-51802ece2978"
_OTHER = "01a22789-d6c1-7b0b-a4af-000000000000"


def line(method: str, path: str, status: int = 200) -> str:
    return (
        "2026-11-29T13:41:24.7Z [info     ] request finished               [http.access]"
        f" client_addr=127.0.0.1:1 duration_us=9 loc=http_access_log.py:130"
        f" method={method} path={path} query= status_code={status}"
    )


LOG = "\n".join(
    [
        line("GET", "/api/v2/dags/ours"),
        "Task started [airflow.api_fastapi]",
        line("PATCH", f"/execution/task-instances/{_TI}/run", 400),
        line("PATCH", f"/execution/task-instances/{_TI}/run"),
        line("PATCH", f"/execution/task-instances/{_OTHER}/run"),
        line("PATCH", f"/execution/task-instances/{_TI}/run"),
        line("PUT", f"/execution/task-instances/{_TI}/rtif", 201),
        line("PUT", f"/execution/task-instances/{_TI}/heartbeat", 204),
        line("GET", f"/execution/store/ti/{_TI}/async_triggers", 404),
        line("PATCH", f"/execution/task-instances/{_TI}/state", 204),
        line("POST", "/execution/xcoms/ours/manual__1/sync_0/_link_X", 201),
        line("PATCH", f"/execution/task-instances/{_TI}/run"),
        line("POST", "/execution/xcoms/ours/manual__1/sync_0/return_value", 201),
        line("POST", "/execution/xcoms/ours/manual__1/sync_1/return_value", 201),
    ]
)


def test_calls_are_counted_by_segment_without_heartbeats() -> None:
    counted = count_calls(calls_in(LOG), [(_TI, "sync_0")])

    assert counted == {
        "start": {
            "run": 1,
            "rendered fields": 1,
            "read store": 1,
            "state": 1,
            "write XCom `_link_X`": 1,
        },
        "resume": {"run": 1, "write XCom `return_value`": 1},
    }
    written = json.loads(json.dumps(asdict(cost("ours", calls=counted))))
    assert written["calls"] == counted


# Processes ------------------------------------------------------------------------------


def test_the_second_process_of_a_task_is_its_resume(tmp_path: Path) -> None:
    for number, (task, cpu) in enumerate([("b", 0.3), ("a", 0.1), ("b", 0.2)]):
        used = {
            "task": task,
            "at": NOON + number,
            "cpu": cpu,
            "peak_mb": 100.0 + number,
            "modules": ["x"] * number,
            "threads": [],
            "loops": 1,
        }
        (tmp_path / f"{number}.json").write_text(json.dumps(used))

    found = read_segments(tmp_path)

    assert [each["cpu"] for each in found["start"]] == [0.3, 0.1]
    start, resume = summarize(found["start"]), summarize(found["resume"])
    assert start is not None
    assert start.cpu == pytest.approx(0.2)
    assert resume is not None
    assert (resume.count, resume.cpu, resume.peak_mb) == (1, 0.2, 102.0)
    assert summarize([]) is None


# Tables ---------------------------------------------------------------------------------


def test_cpu_counts_above_the_floor_of_the_same_round() -> None:
    rounds = [
        [cost("floor", cpu=floor), cost("peer", cpu=peer), cost("ours", cpu=ours)]
        for floor, peer, ours in ((60, 100, 90), (70, 130, 95), (80, 140, 96))
    ]

    floor, peer, ours = medians_of(rounds)

    assert floor.above == 0
    assert (peer.cpu, peer.above) == (130, 60)
    assert (ours.cpu, ours.above) == (95, 25)
    assert ours.rounds == 3
    assert (ours.median, ours.slowest) == (2.0, 9.0)


def test_each_call_more_allows_some_cpu() -> None:
    more = {"start": {"run": 200}, "resume": {"run": 200, "state": 400}}
    peer, ours = (
        replace(found, above=40.0)
        for found in medians_of([[cost("peer"), cost("ours", calls=more)]])
    )

    assert (ours.calls, peer.calls) == (4, 2)
    assert allowed(ours, peer) == pytest.approx(40 + 2 * 200 * 0.025)
    assert allowed(peer, ours) == 40.0, "fewer calls allow no less"
    assert allowed(ours, replace(peer, above=None)) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "shown"),
    [(9.0, 10.0, "0.90"), (None, 1.0, "-"), (1.0, None, "-"), (1.0, 0.0, "-")],
)
def test_a_ratio_is_shown_where_there_is_one(
    ours: float | None, theirs: float | None, shown: str
) -> None:
    assert ratio(ours, theirs) == shown


def test_ratios_compare_with_the_side_of_the_same_interval() -> None:
    costs = [
        cost("floor", cpu=50.0),
        *(
            cost(way, vendor="dbt_cloud", cpu=cpu)
            for way, cpu in (
                ("peer", 100.0),
                ("ours", 90.0),
                ("peer_common", 200.0),
                ("ours_common", 100.0),
            )
        ),
    ]

    _, _, *rows = ratio_table(medians_of([costs])).splitlines()

    assert len(rows) == 2 + 2
    assert rows[0].startswith("| dbt Cloud: this package | 0.90 | 0.80 |")
    assert rows[1].startswith("| dbt Cloud: this package, every 5 s | 0.50 | 0.33 |")


def test_a_ratio_above_its_target_is_bold() -> None:
    costs = [
        cost("floor", cpu=50.0),
        cost("peer"),
        cost("ours", cpu=91.0, wall=95.0, delays=[2.5]),
        cost("ours_ended", cpu=60.0, wall=300.0),
        cost("ours_sensors", cpu=23.0),
    ]

    _, _, *rows = ratio_table(medians_of([costs])).splitlines()

    plain, ended, sensors = (row.split(" | ")[1:] for row in rows[:3])
    assert plain[:5] == ["**0.91**", "0.82", "1.00", "0.95", "**1.25**"]
    assert ended[:2] == ["0.60", "0.20"]
    assert ended[3] == "3.00", "there is no target for the wall time of this way"
    assert sensors[0] == "**0.23**"
    targets = [row.split(" | ")[0] for row in rows[3:]]
    assert targets == [
        "| *target*: this package",
        "| *target*: … with `end_from_trigger`",
        "| *target*: … a sensor with `start_from_trigger` and `end_from_trigger`",
    ]
    shown = rows[3].replace("\N{NO-BREAK SPACE}", " ")
    assert "≤ 0.90 | what is allowed | - | ≤ 0.95 | ≤ 1.00 |" in shown


def test_a_number_is_judged_as_it_is_shown() -> None:
    above = [cost("floor", cpu=50.0), cost("peer"), cost("ours", cpu=100.4)]
    more = [cost("floor", cpu=50.0), cost("peer"), cost("ours", cpu=101.0)]

    cells = [
        ratio_table(medians_of([costs])).splitlines()[2].split(" | ")
        for costs in (above, more)
    ]

    assert [row[2] for row in cells] == ["**1.01**", "**1.02**"]
    assert ratio(0.904, 1.0, 0.9) == "0.90"
    assert ratio(0.906, 1.0, 0.9) == "**0.91**"


def test_calls_above_their_target_are_bold() -> None:
    many = {"start": {"run": 200 * 12}, "resume": {}}
    eleven = {"start": {"run": 200 * 11}, "resume": {}}

    cells = [
        ratio_table(medians_of([[cost("peer"), cost("ours", calls=calls)]]))
        .splitlines()[2]
        .split(" | ")[-1]
        for calls in (many, eleven)
    ]

    assert cells == ["**12** to 2 |", "11 to 2 |"]


def test_ratios_come_first_on_the_page() -> None:
    rounds = [[cost("floor"), cost("peer"), cost("ours"), cost("ours_ended")]]

    first, second = page(rounds).split("\n\n")

    assert len(first.splitlines()) == 2 + 2 + 2
    assert len(second.splitlines()) == 2 + 4
    assert "| floor: defers until a time, and returns | 1 | 100 s | 400 |" in second


def test_a_way_that_a_later_round_adds_stands_with_its_vendors() -> None:
    first = [cost("peer"), cost("peer", vendor="fivetran"), cost("floor")]

    found = medians_of([first, [cost("ours"), cost("ours", vendor="fivetran")]])

    assert [(each.vendor, each.way) for each in found] == [
        ("airbyte", "floor"),
        ("airbyte", "peer"),
        ("airbyte", "ours"),
        ("fivetran", "peer"),
        ("fivetran", "ours"),
    ]


def test_a_way_without_workers_has_dashes() -> None:
    sensors = cost("ours_sensors", segments={"start": None, "resume": None})

    row = ratio_table(medians_of([[cost("peer"), sensors]])).splitlines()[2]

    assert row.count(" - |") == 5, row
    assert "9.0 s after" in tell(0, sensors)
    assert "after the job's end" not in tell(0, cost("floor"))


def test_a_call_that_one_side_alone_makes_has_a_row() -> None:
    ours = {"start": {"run": 200, "write store": 400}, "resume": {"run": 200}}
    costs = [cost("peer"), cost("ours", calls=ours)]

    rows = call_table(costs).splitlines()

    assert "| start | write store |  | 2 |" in rows
    assert rows[-1] == "| both | **all** | **2** | **4** |"
    assert calls_of_a_task(costs[1]) == 4


def test_processes_are_shown_by_segment() -> None:
    rows = process_table([cost("peer"), cost("ours")]).splitlines()

    assert "| start | CPU, ms | 200 | 200 |" in rows
    assert "| resume | CPU, ms | 100 | 100 |" in rows
    assert rows[-1] == "| both | lines logged | 20 | 20 |"


def test_imports_are_compared() -> None:
    found: Sequence[Mapping[str, Any]] = [
        {"vendor": "airbyte", "peer": [0.05, 53], "ours": [0.04, 30]}
    ]

    row = import_table(found).splitlines()[2]

    assert row == "| Airbyte | 50 ms, 53 | 40 ms, 30 | 0.80 |"


@pytest.mark.parametrize("option", ["--ways", "--vendors"])
def test_what_nobody_knows_is_refused(
    capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit):
        main([option, "theirs"])

    assert "theirs" in capsys.readouterr().err


def test_a_stored_cost_is_read_as_it_was() -> None:
    costs = [cost("ours"), cost("ours_ended", segments={"start": None, "resume": None})]

    stored = json.loads(json.dumps([*map(asdict, costs)]))

    assert [*map(cost_from, stored)] == costs


def hold_a_round(folder: Path, **changed: Any) -> None:
    held = {
        **machine(),
        "shortest": 45.0,
        "longest": 105.0,
        "seed": 1,
        "parallelism": 4,
        "rounds": [[asdict(cost("ours"))]],
        **changed,
    }
    (folder / "end_to_end.json").write_text(json.dumps(held))


@pytest.mark.parametrize(
    "option", ["--tasks", "--shortest", "--longest", "--seed", "--parallelism"]
)
def test_rounds_of_other_jobs_are_not_added_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    hold_a_round(tmp_path)

    code = main(["--add", "--out", str(tmp_path), option, "7"])

    assert code == 2
    assert option in capsys.readouterr().err


def test_rounds_of_the_same_jobs_are_added_to(tmp_path: Path) -> None:
    hold_a_round(tmp_path)

    assert _measured(_parse(["--add", "--out", str(tmp_path)])) == [[cost("ours")]]


@pytest.mark.parametrize(
    "changed", [{"airflow": "3.1.8"}, {"python": "3.9.1"}, {"cores": 999}]
)
def test_rounds_of_another_machine_are_not_added_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: Mapping[str, Any]
) -> None:
    hold_a_round(tmp_path, **changed)

    assert main(["--add", "--out", str(tmp_path)]) == 2
    assert "another Airflow, Python or number of cores" in capsys.readouterr().err


@pytest.mark.parametrize(
    "held", [{}, {"rounds": [[{"way": "ours"}]]}, {"costs": [], "lasts": 60}]
)
def test_what_an_older_release_has_written_is_not_added_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], held: Mapping[str, Any]
) -> None:
    (tmp_path / "end_to_end.json").write_text(json.dumps(held))

    assert main(["--add", "--out", str(tmp_path)]) == 2
    assert "another --out" in capsys.readouterr().err


def test_the_floor_has_no_vendor_of_its_own() -> None:
    assert Plan("airbyte", FLOOR, []).name == "floor"
