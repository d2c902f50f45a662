"""The plugin by which Airflow finds the page; loaded in each of its processes."""

from __future__ import annotations

from typing import Any, Final

from airflow.plugins_manager import AirflowPlugin

PREFIX: Final = "/async-triggers"


class AsyncTriggersPlugin(AirflowPlugin):
    """Adds the page under Browse."""

    name = "async_triggers"
    # Relative, so that it holds behind any base URL.
    external_views: list[dict[str, Any]] = [  # noqa: RUF012 - as Airflow has it
        {
            "name": "External jobs",
            "href": f"{PREFIX.removeprefix('/')}/ui",
            "destination": "nav",
            "category": "browse",
            "url_route": "external-jobs",
        }
    ]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override] # made late
        """The application, made by the API server alone."""
        from async_triggers.board.app import make_app  # noqa: PLC0415 - heavy

        return [{"app": make_app(), "url_prefix": PREFIX, "name": "External jobs"}]
