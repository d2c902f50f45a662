"""Tests of one module that run at the same time.

On a real Airflow a test mostly waits. A scenario is a test function like any other, and
the decorator `together` has the first test of its module begin all scenarios that were
chosen; each test then waits for its own.
"""

from __future__ import annotations

import functools
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import pytest

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator


class Stage(Protocol):
    """What the scenarios of a module share: a fixture named ``stage``."""

    @property
    def scenarios(self) -> Scenarios: ...


StageT = TypeVar("StageT", bound=Stage)


class Scenarios:
    """The scenarios of a module, each in a thread."""

    def __init__(self) -> None:
        self._running: dict[object, Future[None]] = {}

    @contextmanager
    def play(
        self,
        stage: Stage,
        request: pytest.FixtureRequest,
        *,
        threads: int,
        interrupted: threading.Event,
    ) -> Iterator[None]:
        """Run the scenarios of the module that were chosen for this session.

        ``interrupted`` is set when the block ends before they do.
        """
        pool = ThreadPoolExecutor(threads, thread_name_prefix="scenario")
        chosen = [
            item
            for item in request.session.items
            if isinstance(item, pytest.Function)
            and item.module is request.module
            and hasattr(item.function, "scenario")
        ]
        try:
            # The longest first, or they would be what all else waits for in the end.
            for item in sorted(chosen, key=lambda item: -item.function.lasts):
                arguments = item.callspec.params if hasattr(item, "callspec") else {}
                scenario = item.function.scenario
                self._running[_key(scenario, arguments)] = pool.submit(
                    scenario, stage, **arguments
                )
            yield
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            interrupted.set()
            pool.shutdown()
            interrupted.clear()

    def wait(self) -> None:
        """Wait until all have ended, well or badly."""
        wait(self._running.values())

    def result(self, scenario: Callable[..., None], arguments: dict[str, Any]) -> None:
        """Wait for a scenario; raise what it raised."""
        self._running[_key(scenario, arguments)].result()


def _key(scenario: Callable[..., None], arguments: dict[str, Any]) -> object:
    # pytest hands the same objects to the test, and not all of them can be hashed.
    return scenario, tuple((name, id(arguments[name])) for name in sorted(arguments))


def together(*, lasts: float = 0) -> Callable[[Callable[..., None]], Any]:
    """Run a test at the same time as the others of its module.

    ``lasts`` is about how many seconds it takes, for the few that take long.
    """

    def decorate(scenario: Callable[..., None]) -> Any:
        @functools.wraps(scenario)
        def test(stage: Stage, **arguments: Any) -> None:
            stage.scenarios.result(scenario, arguments)

        test.scenario = scenario  # type: ignore[attr-defined]
        test.lasts = lasts  # type: ignore[attr-defined]
        return test

    return decorate
