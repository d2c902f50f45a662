"""A few short hours of the day-long soak, and with a leak in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from async_triggers.engine.poller import Poller
from benchmarks import soak

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.runner

SHORT = ["--hours=4", "--hour=300", "--jobs=840", "--standing=2"]


def test_short_hours_leave_nothing_behind(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = soak.main([*SHORT, "--out", str(tmp_path)])

    said = capfd.readouterr()
    assert code == 0, said.err
    text = (tmp_path / "soak.md").read_text()
    assert "| ends reported | 1" in text
    assert "| never reported | 0 |" in text


def test_a_table_that_is_never_emptied_is_found(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    leave: Any = Poller._leave

    def keep(self: Any, subject: str, waiter: object) -> None:
        vars(self).setdefault("kept", []).append(subject)
        leave(self, subject, waiter)

    monkeypatch.setattr(Poller, "_leave", keep)

    code = soak.main(SHORT)

    assert code == 1
    assert "Airbyte.poller.kept has grown" in capfd.readouterr().err


def test_objects_that_are_kept_elsewhere_are_found(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    leave: Any = Poller._leave
    kept: list[object] = []

    def keep(self: Any, subject: str, waiter: object) -> None:
        kept.append([[subject] for _ in range(100)])
        leave(self, subject, waiter)

    monkeypatch.setattr(Poller, "_leave", keep)

    code = soak.main(SHORT)

    assert code == 1
    assert "more traced objects after" in capfd.readouterr().err
