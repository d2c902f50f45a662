"""Accounts, and the page that the host serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from async_triggers.simulator.dbt_cloud.replies import named, one
from async_triggers.simulator.exchange import SimReply, SimRequest, text_reply

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.model import Account
    from async_triggers.simulator.dbt_cloud.scene import DbtCloudScene


class Accounts:
    """The operations on accounts."""

    def __init__(self, scene: DbtCloudScene) -> None:
        self._scene = scene

    def home(self, request: SimRequest) -> SimReply:
        """Answer with a page of the web application."""
        # The host serves the web application too; the official provider for Airflow
        # tests a connection with this page.
        return text_reply(200, "<html>dbt</html>", content_type="text/html")

    def list_all(self, request: SimRequest) -> SimReply:
        """Answer with a page of accounts."""
        rows = [self._shown(each) for each in self._scene.accounts.values()]
        return named(self._scene.settings, request, rows)

    def get(self, request: SimRequest, account: str) -> SimReply:
        """Answer with one account."""
        return one(self._shown(self._scene.accounts[int(account)]))

    def _shown(self, account: Account) -> dict[str, Any]:
        # https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Retrieve%20Account
        created = self._scene.instant(account.created_at)
        return {
            "id": account.account_id,
            "name": account.name,
            "state": 1,
            "plan": account.plan,
            "run_slots": 15,
            "developer_seats": 1,
            "it_seats": 0,
            "explorer_seats": 0,
            "analyst_seats": 0,
            "read_only_seats": 0,
            "locked": False,
            "lock_reason": None,
            "lock_cause": None,
            "unlocked_at": None,
            "run_locked_until": None,
            "copilot_locked_until": None,
            "agent_credit_locked": False,
            "pending_cancel": False,
            "trial_end_date": None,
            "billing_email_address": None,
            "pod_memory_request_mebibytes": 600,
            "develop_pod_memory_request_mebibytes": 0,
            "run_duration_limit_seconds": 86400,
            "queue_limit": 50,
            "enterprise_login_slug": None,
            "business_critical": False,
            "starter_repo_url": None,
            "git_auth_level": "team",
            "identifier": f"account-{account.account_id}",
            "static_subdomain": None,
            "vanity_subdomain": None,
            "docs_job_id": None,
            "freshness_job_id": None,
            "account_migration_events": [],
            "groups": [],
            "created_at": created,
            "updated_at": created,
        }
