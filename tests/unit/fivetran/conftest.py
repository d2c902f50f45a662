from __future__ import annotations

import pytest

from tests.unit.fivetran.stage import FivetranWorld, make_fivetran_world


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FivetranWorld:
    """Everything around a task of Fivetran's, on a virtual clock."""
    return make_fivetran_world(monkeypatch)
