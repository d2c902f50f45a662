from __future__ import annotations

import pytest

from tests.unit.deferral.stage import World, make_world


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Everything around a task, on a virtual clock."""
    return make_world(monkeypatch)
