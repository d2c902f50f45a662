"""Makes the screenshots of the page for the documentation: scripts/screenshots."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

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
    "external-jobs": ("/plugin/external-jobs", "light", 1280, 560),
    "external-jobs-dark": (PAGE, "dark", 1280, 560),
    "external-jobs-narrow": (PAGE, "light", 360, 760),
}


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


if __name__ == "__main__":
    take(Path(sys.argv[1]))
