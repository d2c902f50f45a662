"""Projects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from async_triggers.simulator.dbt_cloud.facts import environment_facts, project_facts
from async_triggers.simulator.dbt_cloud.model import DBT_VERSION, Project
from async_triggers.simulator.dbt_cloud.replies import named, one, path_id, refuse

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.scene import DbtCloudScene
    from async_triggers.simulator.exchange import SimReply, SimRequest


class Projects:
    """The operations on projects."""

    def __init__(self, scene: DbtCloudScene) -> None:
        self._scene = scene

    def list_all(self, request: SimRequest, account: str) -> SimReply:
        """Answer with a page of projects."""
        rows = [
            self._shown(each)
            for each in self._scene.projects.values()
            if each.account_id == int(account)
        ]
        return named(self._scene.settings, request, rows)

    def get(self, request: SimRequest, account: str, project: str) -> SimReply:
        """Answer with one project."""
        return one(self._shown(self.find(account, project)))

    def find(self, account: str, project: str) -> Project:
        """Return a project that a request names.

        :raises RefusalError: The account has none.
        """
        found = self._scene.projects.get(path_id(project))
        if found is None or found.account_id != int(account):
            raise refuse(404)
        return found

    def _shown(self, project: Project) -> dict[str, Any]:
        # https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Retrieve%20Project
        return {
            **project_facts(self._scene, project),
            "description": None,
            "connection_id": None,
            "repository_id": None,
            "semantic_layer_config_id": None,
            "dbt_project_subdirectory": None,
            "docs_job_id": None,
            "freshness_job_id": None,
            "connection": project.connection,
            "environments": [
                environment_facts(each)
                for each in self._scene.environments.values()
                if each.project_id == project.project_id
            ],
            "repository": None,
            "group_permissions": [],
            "docs_job": None,
            "freshness_job": None,
            "fusion_readiness": None,
            "default_version": DBT_VERSION,
        }
