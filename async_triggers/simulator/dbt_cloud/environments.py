"""Environments, of a project and of an account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from async_triggers.simulator.dbt_cloud.facts import environment_facts, job_facts
from async_triggers.simulator.dbt_cloud.model import DBT_VERSION, Environment
from async_triggers.simulator.dbt_cloud.replies import (
    integer,
    named,
    one,
    path_id,
    refuse,
)

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.projects import Projects
    from async_triggers.simulator.dbt_cloud.scene import DbtCloudScene
    from async_triggers.simulator.exchange import SimReply, SimRequest


class Environments:
    """The operations on environments."""

    def __init__(self, scene: DbtCloudScene, projects: Projects) -> None:
        self._scene = scene
        self._projects = projects

    def list_in_project(
        self, request: SimRequest, account: str, project: str
    ) -> SimReply:
        """Answer with a page of environments of a project."""
        wanted = self._projects.find(account, project).project_id
        rows = [
            self._shown(each)
            for each in self._scene.environments.values()
            if each.project_id == wanted
        ]
        return named(self._scene.settings, request, rows, project_id=wanted)

    def get_in_project(
        self, request: SimRequest, account: str, project: str, environment: str
    ) -> SimReply:
        """Answer with one environment of a project."""
        wanted = self._projects.find(account, project).project_id
        found = self._scene.environments.get(path_id(environment))
        if found is None or found.project_id != wanted:
            raise refuse(404)
        return one(self._shown(found))

    def list_all(self, request: SimRequest, account: str) -> SimReply:
        """Answer with a page of environments of an account."""
        filters: dict[str, Any] = {"account_id": int(account)}
        if request.value("project_id") is not None:
            filters["project_id"] = integer(request, "project_id", 0)
        rows = [
            self._shown(each)
            for each in self._scene.environments.values()
            if each.account_id == int(account)
            and filters.get("project_id") in (None, each.project_id)
        ]
        return named(self._scene.settings, request, rows, **filters)

    def get(self, request: SimRequest, account: str, environment: str) -> SimReply:
        """Answer with one environment of an account."""
        found = self._scene.environments.get(path_id(environment))
        if found is None or found.account_id != int(account):
            raise refuse(404)
        return one(self._shown(found))

    def _shown(self, environment: Environment) -> dict[str, Any]:
        # https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Retrieve%20Environment
        scene = self._scene
        return {
            **environment_facts(environment),
            "raw_dbt_version": DBT_VERSION,
            "custom_branch": None,
            "dbt_project_subdirectory": None,
            "connection_id": None,
            "credentials_id": None,
            "repository_id": None,
            "extended_attributes_id": None,
            "created_by_id": None,
            "created_at": scene.instant(environment.created_at),
            "updated_at": scene.instant(environment.created_at),
            "repository": None,
            "connection": None,
            "jobs": [
                job_facts(job)
                for job in scene.all_jobs.values()
                if job.environment_id == environment.environment_id and job.state != 2
            ],
            "custom_environment_variables": [],
        }
