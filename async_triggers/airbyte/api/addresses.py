"""Where Airbyte's API and its web interface are."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from async_triggers.engine.address import quoted, read_address
from async_triggers.engine.errors import AccountMisconfigured
from async_triggers.engine.paths import segment

CLOUD_HOST = "api.airbyte.com"
CLOUD_UI = "https://cloud.airbyte.com"
_PATH = re.compile(r"/?[\w.~-]+(/[\w.~-]+)*/?|/")
_VERSION = re.compile(r"v\d+/")


def base_urls(
    host: str,
    *,
    port: int | None,
    scheme: str,
    api_version: str,
    api_path: str = "",
) -> tuple[str, ...]:
    """Return where the public API may be, from the fields of a connection.

    Cloud is ``https://api.airbyte.com/v1``, a self-managed server
    ``<its address>/api/public/v1``; the path may be given, partly given or left out:
    https://docs.airbyte.com/platform/using-airbyte/configuring-api-access

    The likeliest comes first. There is a second one where the host has a path that is
    none of Airbyte's: a gateway may serve the API right there. ``api_path``, the path of
    the API on the server, leaves one alone.
    """
    text = host.strip()
    if not text:
        msg = (
            "host is empty: set it to the server's URL, for example"
            " https://api.airbyte.com/v1 or http://localhost:8000/api/public/v1"
        )
        raise AccountMisconfigured(msg)

    address = read_address(
        text,
        port=port,
        scheme=scheme or "http",
        credentials="put them into login and password",
        form="host is not an http or https URL: write it as https://host:port/path",
    )
    origin, path = address.origin, address.path
    if api_path:
        return (origin + _read_path(api_path),)

    if path.endswith(f"/{api_version}"):
        return (origin + path,)

    if address.host == CLOUD_HOST:
        return (f"{origin}{path}/{api_version}",)

    for known in ("/api/public", "/api"):
        if path.endswith(known):
            return (f"{origin}{path.removesuffix(known)}/api/public/{api_version}",)

    likeliest = f"{origin}{path}/api/public/{api_version}"
    return (likeliest, origin + path) if path else (likeliest,)


def base_url(host: str, *, port: int | None, scheme: str, api_version: str) -> str:
    """Return where the public API most likely is, see :func:`base_urls`."""
    return base_urls(host, port=port, scheme=scheme, api_version=api_version)[0]


def _read_path(value: object) -> str:
    """Return a path on the server, without a slash at its end."""
    if not isinstance(value, str) or not _PATH.fullmatch(value.strip()):
        # What it holds is not repeated: it may be a URL with a password.
        msg = (
            "extra.api_path must be the path of the API on its server, such as /airbyte"
        )
        raise AccountMisconfigured(msg)

    path = value.strip().strip("/")
    return f"/{path}" if path else ""


def token_url(value: str, base: str) -> str:
    """Return where tokens are requested.

    ``value`` is what the connection says: an absolute URL, or a path with or without the
    version (``v1/applications/token``), or nothing. A path that begins with a slash or
    with ``api/`` is one of the server, not of the public API.
    """
    text = value.strip()
    if text.startswith(("http://", "https://")):
        try:
            host = urlsplit(text).hostname
            usable = bool(host) and "@" not in text and text.isascii()
        except ValueError:
            usable = False

        if not usable:
            msg = (
                "schema is not the URL of a token endpoint: write v1/applications/token"
            )
            raise AccountMisconfigured(msg)

        return quoted(text)

    path = quoted(text.strip("/")) or "applications/token"
    if path.startswith("api/") or (text.startswith("/") and text.strip("/")):
        parts = urlsplit(base)
        return f"{parts.scheme}://{parts.netloc}/{path}"

    return f"{base}/{_VERSION.sub('', path)}"


def ui_url(base: str, given: str) -> str:
    """Return where the web interface is."""
    if given:
        try:
            parts = urlsplit(given)
        except ValueError:
            parts = urlsplit("")

        if parts.scheme not in {"http", "https"} or "@" in given:
            # It becomes part of links, which everybody may see.
            msg = "extra.ui_url must be an http or https URL without credentials"
            raise AccountMisconfigured(msg)

        return quoted(given.rstrip("/"))

    parts = urlsplit(base)
    return (
        CLOUD_UI if parts.hostname == CLOUD_HOST else f"{parts.scheme}://{parts.netloc}"
    )


def job_url(ui: str, workspace_id: str, connection_id: str, job_id: str) -> str:
    """Return where the web interface shows a job.

    The route is that of the web application's own links:
    https://github.com/airbytehq/airbyte-platform (``routePaths.tsx``).
    """
    if not workspace_id:
        return ""

    return (
        f"{ui}/workspaces/{segment(workspace_id, 'workspaceId')}"
        f"/connections/{segment(connection_id, 'connection_id')}"
        f"/timeline?openLogs=true&jobId={segment(job_id, 'job_id')}"
    )
