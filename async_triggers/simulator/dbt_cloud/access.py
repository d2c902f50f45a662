"""Who may call, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from async_triggers.simulator.dbt_cloud.replies import error, refuse
from async_triggers.simulator.vendor import as_integer_id

if TYPE_CHECKING:
    from async_triggers.simulator.dbt_cloud.model import Account
    from async_triggers.simulator.dbt_cloud.scene import DbtCloudScene
    from async_triggers.simulator.exchange import SimReply, SimRequest

# https://docs.getdbt.com/docs/dbt-apis/rate-limits
_MINUTE: Final = 60.0


def admit(scene: DbtCloudScene, request: SimRequest) -> SimReply | None:
    """Refuse an account everything for five minutes after too many requests in one."""
    # https://docs.getdbt.com/docs/dbt-apis/rate-limits: no Retry-After is promised.
    account = _account_of(scene, request)
    if account is None:
        return None
    now = scene.now()
    if now < account.refused_until:
        return error(429)
    while account.requests and account.requests[0] <= now - _MINUTE:
        account.requests.popleft()
    if len(account.requests) >= scene.settings.minute_limit:
        account.refused_until = now + scene.settings.cooldown
        return error(429)
    account.requests.append(now)
    return None


def authorize(scene: DbtCloudScene, request: SimRequest) -> None:
    """Refuse a request without a known token, or for an account that is not there."""
    scheme, _, token = request.header("Authorization").partition(" ")
    if scheme not in {"Token", "Bearer"}:
        raise refuse(401)
    if token not in scene.settings.tokens:
        raise refuse(401, "Invalid token.")
    if _account_of(scene, request) is not None:
        return
    account_id = as_integer_id(_account_named(request.path))
    if account_id is None or not scene.settings.accept_unknown:
        raise refuse(scene.settings.wrong_account_status)
    scene.add_account(account_id)


def _account_of(scene: DbtCloudScene, request: SimRequest) -> Account | None:
    """Return the account of a request; the list of accounts counts for the first."""
    text = _account_named(request.path)
    number = as_integer_id(text) if text else scene.settings.account_id
    return None if number is None else scene.accounts.get(number)


def _account_named(path: str) -> str:
    """Return the account id in a path such as ``/api/v2/accounts/5/jobs/``."""
    return path.split("/")[4] if path.count("/") > 4 else ""
