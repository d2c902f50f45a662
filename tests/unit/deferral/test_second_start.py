"""What comes from in between at any step makes no second run, and loses no cancel."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.simulator.exchange import SimReply
from async_triggers.simulator.faults import ListQuirks
from tests.unit.deferral.stage import Deferral, Task, deferred
from tests.unit.deferral.vendors import make_vendor_world
from tests.vendors import Entry as Case
from tests.vendors import every_vendor

if TYPE_CHECKING:
    from async_triggers.simulator.exchange import SimRequest

JSON = {"Content-Type": "application/json"}
PROBLEM = {"Content-Type": "application/problem+json"}
HTML = {"Content-Type": "text/html"}
TEXT = {"Content-Type": "text/plain"}

ANSWERS = {
    "a router": SimReply(404, TEXT, b"404 page not found\n"),
    "a page": SimReply(403, HTML, b"<html><h1>403 Forbidden</h1></html>"),
    "a gateway": SimReply(401, JSON, b'{"message": "Unauthorized"}'),
    "a problem": SimReply(
        404, PROBLEM, b'{"type": "about:blank", "title": "Not Found", "status": 404}'
    ),
    "a cluster": SimReply(
        403, JSON, b'{"kind": "Status", "message": "forbidden", "code": 403}'
    ),
    "a framework": SimReply(
        400, JSON, b'{"timestamp": "2026-03-25T01:30:00Z", "error": "Bad Request"}'
    ),
    "a login": SimReply(302, {"Location": "https://login.corp.test/?next=%2F"}, b""),
    "another scheme": SimReply(301, {"Location": "https://localhost:8000/"}, b""),
    "a timeout": SimReply(408, TEXT, b"stream timeout"),
    "a conflict": SimReply(409, JSON, b'{"error": "conflict"}'),
    "a firewall": SimReply(422, HTML, b"<html>Request blocked</html>"),
    "a signed page": SimReply(200, HTML, b"<html><h1>Sign in</h1></html>"),
    "a proxy": SimReply(407, TEXT, b"Proxy Authentication Required"),
    "nothing": SimReply(404, {}, b""),
}
PARTS = 4
"""Each test takes the steps that leave the same rest."""
MODES: dict[str, dict[str, Any]] = {
    "worker": {"deferrable": True},
    "synchronous": {"deferrable": False},
    "trigger": {"deferrable": True, "start_in_trigger": True},
}


class Scene:
    """One intended run of a task, with what came before."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, case: Case, plot: str, mode: str
    ) -> None:
        self.world = make_vendor_world(monkeypatch, case)
        self.plot = plot
        ends, runs = case.life("success", lasts=40), case.life()
        arguments = {case.interval_key: 120, "timeout": 7200}
        first = MODES[mode] if plot == "first" else {"deferrable": True}
        if plot == "clear":
            self.world.add_target(runs, ends, ends)
        else:
            self.world.add_target(*[case.life("success", lasts=1200)] * 3)

        self.task = Task(self.world, case.sync(**first, **arguments))
        if plot != "first":
            deferred(self.task.execute())
            self.world.pass_time(30)

        if plot == "retry":
            self.task.retry()
        elif plot == "clear":
            self.task.clear()

        self.task.make = case.sync(**MODES[mode], **arguments)
        self.world.requests.clear()

    def disturb(self, step: int, answer: SimReply, *, acts: bool, times: int) -> None:
        """Let something in between answer from a step on."""
        vendor = self.world.vendor
        ask: Callable[[SimRequest], SimReply] = vendor.respond
        seen = 0

        def respond(asked: SimRequest) -> SimReply:
            nonlocal seen
            seen += 1
            if not step < seen <= step + times:
                return ask(asked)

            if acts:
                ask(asked)

            return answer

        vendor.respond = respond

    def check(self) -> str:
        """Return what is wrong with how it went; empty for nothing."""
        world = self.world
        wanted = 2 if self.plot == "clear" else 1
        if world.starts != wanted:
            return f"{world.starts} starts"

        # The life of the first job of a cleared task has no end but a cancel.
        if world.vendor.jobs():
            return "a job goes on"

        return ""


@pytest.fixture
def quiet() -> Iterator[None]:
    """Let hundreds of tasks log nothing, which would take most of the time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def steps_of(
    monkeypatch: pytest.MonkeyPatch, case: Case, plot: str, mode: str
) -> list[SimRequest]:
    """Return what an undisturbed task requests before it only waits."""
    scene = Scene(monkeypatch, case, plot, mode)
    started = scene.world.starts
    scene.task.run()
    assert scene.check() == ""
    made = scene.world.requests
    last = max(
        (
            number
            for number, each in enumerate(made)
            if each.method != "GET" or scene.world.starts == started
        ),
        default=0,
    )
    return made[: min(last + 2, 9)]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("plot", ["first", "retry", "clear"])
@every_vendor
def test_no_foreign_answer_at_any_step_makes_a_second_run(
    monkeypatch: pytest.MonkeyPatch, case: Case, plot: str, mode: str, part: int
) -> None:
    steps = steps_of(monkeypatch, case, plot, mode)
    # Every step meets every answer on the worker; elsewhere each meets some of them.
    answers = list(ANSWERS.items())
    wrong = []
    for step, asked in list(enumerate(steps))[part::PARTS]:
        chosen = answers if mode == "worker" else answers[step % 4 :: 4]
        for number, (name, answer) in enumerate(chosen):
            ways = [(False, 1)]
            if asked.method != "GET":
                ways.append((True, 1))

            if number % 3 == step % 3:
                ways.append((False, 4))

            for acts, times in ways:
                scene = Scene(monkeypatch, case, plot, mode)
                scene.disturb(step, answer, acts=acts, times=times)
                scene.task.run()
                found = scene.check()
                if found:
                    wrong.append((asked.method, asked.path, name, acts, times, found))

    assert wrong == []


@every_vendor
def test_the_lists_hold_a_start_and_the_cancel_of_a_cleared_job(
    monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    """The test above would say nothing if its steps were none of these."""
    for mode in MODES:
        made = steps_of(monkeypatch, case, "clear", mode)
        assert sum(each.method != "GET" for each in made) >= 2


SKEWS = {"an hour behind": -3600.0, "an hour ahead": 3600.0, "seconds ahead": 3.0}
SPANS = {"one answer": 1, "the first three": 3, "all": 10_000}


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("is_lost", [False, True], ids=["answered", "lost"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("skew", SKEWS.values(), ids=SKEWS)
@every_vendor
def test_no_wrong_time_of_an_answer_makes_a_second_run(
    monkeypatch: pytest.MonkeyPatch,
    case: Case,
    skew: float,
    mode: str,
    *,
    is_lost: bool,
) -> None:
    """The clock that dates the answers is a proxy's, and not the one of the jobs."""
    wrong = []
    for span, count in SPANS.items():
        for first in (1, 2, 3):
            scene = Scene(monkeypatch, case, "first", mode)
            tell_wrong_times(scene, skew, first=first, count=count, loses_start=is_lost)
            scene.task.run()
            found = scene.check()
            if found:
                wrong.append((span, first, found))

    assert wrong == []


def tell_wrong_times(
    scene: Scene, skew: float, *, first: int, count: int, loses_start: bool
) -> None:
    """Date some answers wrongly, from the first of them on; and lose that of a start."""
    vendor = scene.world.vendor
    ask: Callable[[SimRequest], SimReply] = vendor.respond
    seen = 0
    is_lost = not loses_start

    def respond(asked: SimRequest) -> SimReply:
        nonlocal seen, is_lost
        seen += 1
        started = scene.world.starts
        reply = ask(asked)
        if not is_lost and scene.world.starts > started:
            is_lost = True
            return replace(reply, fault="reset")

        if first <= seen < first + count and "Date" in reply.headers:
            moment = parsedate_to_datetime(reply.headers["Date"]).timestamp() + skew
            told = {**reply.headers, "Date": formatdate(moment, usegmt=True)}
            return replace(reply, headers=told)

        return reply

    vendor.respond = respond


@pytest.mark.parametrize("mode", MODES)
@every_vendor
def test_a_list_that_leaves_the_job_out_once_makes_no_second_run(
    monkeypatch: pytest.MonkeyPatch, case: Case, mode: str
) -> None:
    scene = Scene(monkeypatch, case, "first", "worker")
    world, vendor = scene.world, scene.world.vendor
    ask: Callable[[SimRequest], SimReply] = vendor.respond
    looks_hidden: float = math.inf

    def respond(asked: SimRequest) -> SimReply:
        nonlocal looks_hidden
        is_start = asked.method == "POST" and not world.starts
        is_hidden = asked.method == "GET" and world.starts > 0 and looks_hidden > 0
        vendor.quirks = ListQuirks(skip=1.0 if is_hidden else 0.0)
        looks_hidden -= is_hidden
        reply = ask(asked)
        return replace(reply, fault="reset") if is_start and world.starts else reply

    vendor.respond = respond
    assert isinstance(scene.task.execute(), Deferral)
    assert world.starts == 1

    # The attempt is lost, and the next one begins once the job must be there.
    world.pass_time(900)
    scene.task.retry()
    scene.task.make = case.sync(**MODES[mode], **{case.interval_key: 120})
    looks_hidden = 1
    scene.task.run()

    assert scene.check() == ""
