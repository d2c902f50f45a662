"""Makes the screenshots of the page and of the connection forms: scripts/screenshots."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.stack.board.stage import (
    PAGE,
    ApiServer,
    airbyte_task,
    browser,
    dbt_task,
    fivetran_task,
    visit,
)

MINUTE = 60
HOUR = 60 * MINUTE

TASKS = [
    airbyte_task("sales_daily", "sync_orders", 48213, age=66 * MINUTE),
    airbyte_task("sales_daily", "sync_refunds", 48214, age=65 * MINUTE),
    airbyte_task("marketing_hourly", "sync_ads", 48307, age=4 * MINUTE, map_index=2),
    fivetran_task(
        "crm_nightly", "sync_salesforce", "reunion_prompt", age=3 * HOUR, triggerer=2
    ),
    fivetran_task(
        "crm_nightly", "sync_zendesk", "spotted_maple", age=22 * MINUTE, triggerer=2
    ),
    dbt_task(
        "finance_nightly", "build_ledger", 70403103917122, age=5 * HOUR, triggerer=2
    ),
    dbt_task(
        "sales_daily",
        "build_marts",
        70403103917288,
        ends=3600,
        age=9 * MINUTE,
        triggerer=2,
    ),
]
ON_A_TRIGGERER = [{**task, "triggerer": 2} for task in TASKS]
SHOTS = {
    "external-jobs": ("/plugin/external-jobs", "light", 1280, 604),
    "external-jobs-dark": (PAGE, "dark", 1280, 600),
    "external-jobs-narrow": (PAGE, "light", 360, 936),
}
FORMS = {
    "connection-airbyte": (
        "Airbyte",
        {
            "connection_id": "airbyte_default",
            "host": "http://127.0.0.1:8000",
            "login": "simulator-client",
            "password": "simulator-secret",
        },
    ),
    "connection-fivetran": (
        "Fivetran (async-triggers)",
        {
            "connection_id": "fivetran_default",
            "host": "http://127.0.0.1:8001",
            "login": "simulator-key",
            "password": "simulator-secret",
        },
    ),
    "connection-dbt-cloud": (
        "dbt Cloud",
        {
            "connection_id": "dbt_cloud_default",
            "host": "http://127.0.0.1:8002",
            "login": "70403103916001",
            "password": "simulator-token",
        },
    ),
}
"""Connection types as the list of Airflow's form shows them, and what to fill in."""


def take(folder: Path) -> None:
    """Store the screenshots in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as home,
        ApiServer(Path(home)) as server,
        browser() as chromium,
    ):
        server.fill(ON_A_TRIGGERER)
        for name, (path, scheme, width, height) in SHOTS.items():
            size = {"width": width, "height": height}
            with visit(
                chromium, server, "admin", viewport=size, color_scheme=scheme
            ) as page:
                page.goto(server.url + path)
                is_framed = path != PAGE
                shown = page.frame_locator("iframe") if is_framed else page
                shown.locator("#rows tr").first.wait_for()
                page.screenshot(path=folder / f"{name}.png")

        size = {"width": 1000, "height": 1000}
        with visit(chromium, server, "admin", viewport=size) as page:
            for name, (kind, fields) in FORMS.items():
                page.goto(f"{server.url}/connections")
                fill_in(page, kind, fields)
                form = page.get_by_role("dialog")
                form.screenshot(path=folder / f"{name}.png")


def fill_in(page: Any, kind: str, fields: dict[str, str]) -> None:
    """Open the form of a new connection of a type, and fill in fields."""
    page.get_by_role("button", name="Add Connection").click()
    form = page.get_by_role("dialog")
    form.get_by_role("combobox").first.click()
    page.get_by_role("option", name=kind, exact=True).click()
    for name, value in fields.items():
        form.locator(f"[name={name}]").fill(value)

    form.get_by_label("Connection ID").focus()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
