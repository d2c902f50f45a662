"""Which test files share an Airflow, and so run in one process, which starts it once."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

ON_POSTGRES: Final = (
    "test_airbyte_lifecycle.py",
    "test_airbyte_restarts.py",
    "test_deployment.py",
    "test_events.py",
    "test_versions.py",
    "test_without_workers.py",
)
ON_SQLITE: Final = (
    "test_generators.py",
    "test_outside_vendor.py",
    "test_three_vendors.py",
    "test_triggerer_ends.py",
    "test_what_users_write.py",
    "test_what_waits.py",
)
SHARING: Final = {
    **dict.fromkeys(ON_POSTGRES, "postgres"),
    **dict.fromkeys(ON_SQLITE, "sqlite"),
}


class OneProcessForEachAirflow(LoadFileScheduling):  # type: ignore[misc]
    """Gives whole files to processes, and those that share an Airflow to one."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return SHARING.get(PurePath(file).name, file)
