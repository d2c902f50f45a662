"""dbt Cloud's Admin API: its routes, and what holds for every request."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from async_triggers.simulator.dbt_cloud import access
from async_triggers.simulator.dbt_cloud.accounts import Accounts
from async_triggers.simulator.dbt_cloud.artifacts import Artifacts
from async_triggers.simulator.dbt_cloud.environments import Environments
from async_triggers.simulator.dbt_cloud.jobs import Jobs
from async_triggers.simulator.dbt_cloud.projects import Projects
from async_triggers.simulator.dbt_cloud.replies import error
from async_triggers.simulator.dbt_cloud.run_list import RunList
from async_triggers.simulator.dbt_cloud.runs import Runs
from async_triggers.simulator.dbt_cloud.scene import DbtCloudScene
from async_triggers.simulator.exchange import SimReply, SimRequest
from async_triggers.simulator.vendor import Route

if TYPE_CHECKING:
    from collections.abc import Iterable


class DbtCloudSimulator(DbtCloudScene):
    """dbt Cloud's Admin API: jobs, runs, steps, artifacts, projects, environments.

    A life's states are ``queued``, ``starting``, ``running`` and at the end
    ``success``, ``error`` or ``cancelled``; a number stands for a status that clients
    do not know. Runs of one job run one after another.

    Paths end with a slash. Without it a GET is redirected, as Django does, and
    anything else is 404.
    """

    def routes(self) -> Iterable[Route]:
        """Return the operations of the API."""
        two, three = "/api/v2/accounts/", "/api/v3/accounts/"
        accounts = Accounts(self)
        yield Route.to("GET", "/", accounts.home, public=True)
        yield Route.to("GET", two, accounts.list_all)
        yield Route.to("GET", three, accounts.list_all)
        two, three = f"{two}{{account}}/", f"{three}{{account}}/"
        projects = Projects(self)
        for root in (two, three):
            yield Route.to("GET", root, accounts.get)
            yield Route.to("GET", f"{root}projects/", projects.list_all)
            yield Route.to("GET", f"{root}projects/{{project}}/", projects.get)
        environments = Environments(self, projects)
        places = f"{three}projects/{{project}}/environments/"
        yield Route.to("GET", places, environments.list_in_project)
        one = f"{places}{{environment}}/"
        yield Route.to("GET", one, environments.get_in_project)
        places = f"{two}environments/"
        yield Route.to("GET", places, environments.list_all)
        yield Route.to("GET", f"{places}{{environment}}/", environments.get)
        jobs, runs, artifacts = Jobs(self), Runs(self), Artifacts(self)
        one = f"{two}jobs/{{job}}/"
        yield Route.to("GET", f"{two}jobs/", jobs.list_all)
        yield Route.to("GET", one, jobs.get)
        yield Route.to("POST", f"{one}run/", runs.start, operation="start")
        yield Route.to("POST", f"{one}rerun/", runs.rerun, operation="start")
        one = f"{two}runs/{{run}}/"
        yield Route.to("GET", f"{two}runs/", RunList(self).get, operation="list")
        yield Route.to("GET", one, runs.get, operation="poll")
        yield Route.to("POST", f"{one}cancel/", runs.cancel, operation="cancel")
        yield Route.to("GET", f"{one}retry/", runs.failure)
        yield Route.to("POST", f"{one}retry/", runs.retry, operation="start")
        yield Route.to("GET", f"{one}artifacts/", artifacts.list_all)
        yield Route.to("GET", f"{one}artifacts/{{path+}}", artifacts.get)

    def airflow_connection(self, url: str) -> dict[str, str]:
        """Return the fields of an Airflow connection to it."""
        return {
            "conn_type": "dbt_cloud",
            "host": url,
            "login": str(self.settings.account_id),
            "password": self.settings.tokens[0],
        }

    def error(self, status: int, detail: str = "") -> SimReply:
        """Return an error in dbt Cloud's envelope."""
        return error(status, detail)

    def unrouted(self, request: SimRequest) -> SimReply:
        """Redirect a GET that lacks the slash at its end; anything else is 404."""
        slashed = SimRequest(request.method, f"{request.path}/")
        if request.method == "GET" and self._find(slashed)[0] is not None:
            query = urlencode(request.query)
            location = f"{slashed.path}?{query}" if query else slashed.path
            return SimReply(301, {"Location": location}, b"")
        return self.error(404)

    def admit(self, request: SimRequest) -> SimReply | None:
        """Refuse an account everything for five minutes after too many requests in one."""
        return access.admit(self, request)

    def authorize(self, request: SimRequest) -> None:
        """Refuse a request without a known token, or for an account that is not there."""
        access.authorize(self, request)
