"""An API server by itself, with tasks that wait, and a browser that sees its page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from async_triggers.demo.deployment import Deployment

ROOT = Path(__file__).parents[3]
PAGE = "/async-triggers/ui"
JOBS = "/async-triggers/jobs"
PASSWORDS = {"admin": "admin-password", "viewer": "viewer-password"}


class ApiServer:
    """Airflow's API server without any other component; ``viewer`` may read one DAG."""

    def __init__(self, home: Path) -> None:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        home.mkdir(parents=True, exist_ok=True)
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps(PASSWORDS))
        self.deployment = Deployment(
            home,
            template=ROOT / ".airflow",
            env={"PYTHONPATH": path},
            config={
                "core": {
                    "auth_manager": "tests.stack.board.one_dag.OneDagAuthManager",
                    "simple_auth_manager_all_admins": "False",
                    "simple_auth_manager_users": "admin:admin,viewer:viewer",
                    "simple_auth_manager_passwords_file": str(passwords),
                }
            },
        )
        self.url = self.deployment.url
        self._filler: subprocess.Popen[str] | None = None
        self._tokens: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.deployment.prepare()
        port = self.url.rpartition(":")[2]
        self.deployment.launch(
            *("api-server", "api-server", "--host", "127.0.0.1", "--port", port)
        )
        self.deployment.api.wait_until(
            self._answers, what="the API server to answer", timeout=120
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._filler is not None:
            self._filler.communicate()

        self.deployment.stop()

    def _answers(self) -> bool:
        try:
            return self.get("/api/v2/version")[0] == 200
        except OSError:
            return False

    def fill(self, tasks: list[dict[str, Any]]) -> None:
        """Replace what waits, see :mod:`tests.stack.board.fill`."""
        if self._filler is None:
            self._filler = subprocess.Popen(
                [sys.executable, "-m", "tests.stack.board.fill"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self.deployment.env,
                cwd=ROOT,
            )

        # Airflow may print what it likes, and prints it before.
        filler = self._filler
        assert filler.stdin is not None
        assert filler.stdout is not None
        filler.stdin.write(json.dumps(tasks) + "\n")
        filler.stdin.flush()
        assert "filled\n" in iter(filler.stdout.readline, "")

    def get(self, path: str, token: str = "", method: str = "GET") -> tuple[int, str]:
        """Return the status and the text of an answer."""
        request = Request(self.url + path, method=method)
        if token:
            request.add_header("Authorization", f"Bearer {token}")

        try:
            with urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def token(self, user: str) -> str:
        """Return the token of a user who is logged in once."""
        if user not in self._tokens:
            body = json.dumps({"username": user, "password": PASSWORDS[user]})
            request = Request(
                f"{self.url}/auth/token",
                data=body.encode(),
                headers={"Content-Type": "application/json"},
            )
            with urlopen(request, timeout=60) as answer:
                self._tokens[user] = json.load(answer)["access_token"]

        return self._tokens[user]


def find_browser() -> str | None:
    """Return the program of a Chromium, None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


@contextmanager
def browser() -> Iterator[Any]:
    """Start a headless Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=find_browser(),
            # A container's root may make no sandbox, and the pages are our own.
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def visit(chromium: Any, server: ApiServer, user: str, **options: Any) -> Iterator[Any]:
    """Open an empty page for a user who has logged in."""
    context = chromium.new_context(locale="en-GB", timezone_id="UTC", **options)
    context.add_cookies(
        [{"name": "_token", "value": server.token(user), "url": server.url}]
    )
    try:
        yield context.new_page()
    finally:
        context.close()


# Tasks that wait ---------------------------------------------------------------------

AIRBYTE = "async_triggers.airbyte.triggers.AirbyteSyncTrigger"
FIVETRAN = "async_triggers.fivetran.triggers.FivetranTrigger"
DBT_CLOUD = "async_triggers.dbt_cloud.triggers.DbtCloudRunJobTrigger"


def airbyte_task(dag: str, task: str, job: object, **more: Any) -> dict[str, Any]:
    """Return a task that waits for a job of Airbyte."""
    kwargs = {
        "job_id": job,
        "conn_id": "airbyte_default",
        "end_time": time.time() + 7200,
        "poll_interval": 30,
        "job_url": f"https://cloud.airbyte.com/workspaces/w/connections/c?jobId={job}",
        "version": 1,
        **more.pop("kwargs", {}),
    }
    return {"dag": dag, "task": task, "classpath": AIRBYTE, "kwargs": kwargs, **more}


def fivetran_task(dag: str, task: str, connection: str, **more: Any) -> dict[str, Any]:
    """Return a task that waits for a sync of Fivetran."""
    kwargs = {
        "task_id": task,
        "connector_id": connection,
        "fivetran_conn_id": "fivetran_default",
        "version": 1,
    }
    return {"dag": dag, "task": task, "classpath": FIVETRAN, "kwargs": kwargs, **more}


def dbt_task(
    dag: str, task: str, run: int, *, ends: float = -300, **more: Any
) -> dict[str, Any]:
    """Return a task that waits for a run of dbt Cloud, to a time in ``ends`` seconds."""
    kwargs = {
        "conn_id": "dbt_cloud_default",
        "run_id": run,
        "end_time": time.time() + ends,
        "execution_deadline": time.time() + ends + 900,
        "job_url": f"https://ab123.us1.dbt.com/deploy/1/projects/2/runs/{run}/",
        "version": 1,
    }
    return {"dag": dag, "task": task, "classpath": DBT_CLOUD, "kwargs": kwargs, **more}
