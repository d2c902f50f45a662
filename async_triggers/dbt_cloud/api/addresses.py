"""Where dbt Cloud's API is, and which account of it."""

from __future__ import annotations

from urllib.parse import urlsplit

from async_triggers.engine.address import read_https_address
from async_triggers.engine.errors import AccountMisconfigured

# https://docs.getdbt.com/docs/platform/about-platform/access-regions-ip-addresses:
# every account has its own host. The hosts below are the older, shared ones.
SHARED_HOST = "cloud.getdbt.com"
_OLD_DOMAIN = ".getdbt.com"
_OLD_HOSTS = frozenset({"emea.dbt.com", "au.dbt.com"})


def base_url(
    host: str, *, port: int | None, scheme: str, insecure: bool = False
) -> str:
    """Return where the API is, from the fields of a connection.

    That is always https, but for this machine and where ``insecure`` allows http.
    """
    address = read_https_address(
        host.strip() or SHARED_HOST,
        port=port,
        scheme=scheme or "https",
        insecure=insecure,
        credentials="put the API token into password",
        form="host is not an address of dbt Cloud: write it as PREFIX.us1.dbt.com",
    )
    path = address.path
    for known in ("/api/v2", "/api/v3", "/api"):
        path = path.removesuffix(known)

    return address.origin + path


def doubt_host(host: str, base: str) -> str:
    """Say what is wrong with a host that may stop working; empty for the others.

    https://docs.getdbt.com/docs/platform/about-platform/access-regions-ip-addresses
    """
    wanted = (
        "set it to the account's own access URL, which dbt Cloud shows in the account's"
        " settings (PREFIX.us1.dbt.com)"
    )
    if not host.strip():
        return f"host is empty, {SHARED_HOST} is used: {wanted}"

    name = urlsplit(base).hostname or ""
    if name.endswith(_OLD_DOMAIN) or name in _OLD_HOSTS:
        return f"host {name} is one of dbt Cloud's older addresses: {wanted}"

    return ""


def account_id(value: object, field_name: str) -> str:
    """Return the id of an account, or raise :class:`AccountMisconfigured`."""
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()):
        # What it holds is not repeated: a token in the wrong field is a common mistake.
        msg = f"{field_name} is not an account id: give the number in dbt's URLs"
        raise AccountMisconfigured(msg)

    return text
