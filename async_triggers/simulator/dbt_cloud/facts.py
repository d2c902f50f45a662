"""What a project, an environment and a job are wherever they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from async_triggers.simulator.dbt_cloud.model import DBT_VERSION

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.model import (
        DbtCloudJob,
        Environment,
        Project,
    )
    from async_triggers.simulator.dbt_cloud.scene import DbtCloudScene


def project_facts(scene: DbtCloudScene, project: Project) -> dict[str, Any]:
    """Return what a project is wherever it is shown, such as within a job."""
    return {
        "id": project.project_id,
        "account_id": project.account_id,
        "name": project.name,
        "state": 1,
        "type": 0,
        "created_at": scene.instant(project.created_at),
        "updated_at": scene.instant(project.created_at),
    }


def environment_facts(environment: Environment) -> dict[str, Any]:
    """Return what an environment is wherever it is shown, such as within a job."""
    return {
        "id": environment.environment_id,
        "account_id": environment.account_id,
        "project_id": environment.project_id,
        "name": environment.name,
        "type": "deployment",
        "deployment_type": "production",
        "state": 1,
        "dbt_version": DBT_VERSION,
        "use_custom_branch": False,
        "supports_docs": True,
    }


def job_facts(job: DbtCloudJob) -> dict[str, Any]:
    """Return what a job is wherever it is shown, such as within a run."""
    return {
        "id": job.job_id,
        "account_id": job.account_id,
        "project_id": job.project_id,
        "environment_id": job.environment_id,
        "name": job.name,
        "description": "",
        "state": job.state,
        "job_type": job.job_type,
        "dbt_version": None,
        "execute_steps": list(job.execute_steps),
        "execution": {"timeout_seconds": 0},
        "generate_docs": False,
        "generate_sources": False,
        "run_generate_sources": False,
        "run_lint": False,
        "errors_on_lint_failure": True,
        "run_compare_changes": False,
        "compare_changes_flags": "--select state:modified",
        "cost_optimization_features": [],
        "lifecycle_webhooks": False,
        "deferring_environment_id": None,
        "deferring_job_definition_id": None,
        "settings": {"threads": 4, "target_name": "default"},
        "triggers_on_draft_pr": False,
        "triggers": {
            "github_webhook": False,
            "schedule": False,
            "git_provider_webhook": False,
            "on_merge": False,
            "custom_branch_only": False,
        },
    }
