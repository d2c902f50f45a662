"""How stack tests read from a scheduler's log that an attempt has left its worker."""

from __future__ import annotations

import io

import pytest

from tests.stack.noticed import Noticed

LOGGER = "[airflow.jobs.scheduler_job_runner.SchedulerJobRunner] loc=x.py:1"


def received(run_id: str, *, state: str = "success", try_number: int = 1) -> str:
    return (
        f"[info] Received executor event with state {state} for task instance "
        f"TaskInstanceKey(dag_id='orders', task_id='sync', run_id='{run_id}', "
        f"try_number={try_number}, map_index=-1) {LOGGER}\n"
    )


def finished(run_id: str, *, try_number: int = 1) -> str:
    return (
        f"[info] TaskInstance Finished: dag_id=orders, task_id=sync, run_id={run_id}, "
        f"map_index=-1, state=deferred, try_number={try_number}, max_tries=1 {LOGGER}\n"
    )


GOES_ON = f"[info] Adopting or resetting orphaned tasks {LOGGER}\n"


def has(log: str, *, try_number: int = 1) -> bool:
    return Noticed(io.StringIO(log)).has("r1", "sync", try_number)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param("", False, id="nothing"),
        pytest.param(received("r1"), False, id="received and not yet judged"),
        pytest.param(received("r1") + received("r2"), False, id="more are received"),
        pytest.param(received("r1") + finished("r1"), True, id="judged"),
        pytest.param(received("r1") + GOES_ON, True, id="skipped for good"),
        pytest.param(received("r1") + finished("r2"), False, id="another is judged"),
        pytest.param(
            received("r1", state="queued") + GOES_ON, False, id="taken by a worker"
        ),
        pytest.param(received("r1")[:-1], False, id="half a line"),
        pytest.param(
            received("r1") + "[info] Task finished [supervisor]\n",
            False,
            id="a line of another process",
        ),
    ],
)
def test_an_attempt_has_left_its_worker(log: str, expected: bool) -> None:
    assert has(log) is expected


def test_the_attempts_of_a_task_are_told_apart() -> None:
    log = received("r1", try_number=2) + finished("r1", try_number=2)
    assert not has(log, try_number=1)
    assert has(log, try_number=2)


def test_a_line_may_arrive_in_pieces() -> None:
    line = finished("r1")
    log = io.StringIO()
    noticed = Noticed(log)
    for piece, expected in [(line[:40], False), (line[40:], True)]:
        log.write(piece)
        log.seek(log.tell() - len(piece))
        assert noticed.has("r1", "sync", 1) is expected
