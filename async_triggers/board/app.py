"""The application behind the page. Every route needs a user, and none changes anything.

Applications of plugins are open to anonymous callers unless they check themselves
(``airflow.api_fastapi.app.init_plugins`` mounts them as they are).
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep  # noqa: TC002 - FastAPI's
from airflow.api_fastapi.core_api.security import (
    GetUserDep,
    get_user,
    requires_access_dag,
)
from fastapi import Depends, FastAPI, Response

from async_triggers.board.query import waiting_tasks

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_FILES: Final = {
    "/ui": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


def make_app() -> FastAPI:
    """Return the application; without the routes of FastAPI's own documentation."""
    app = FastAPI(
        title="External jobs",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(get_user)],
    )
    for path, (name, kind) in _FILES.items():
        content = files("async_triggers.board").joinpath("static", name).read_text()
        app.add_api_route(path, _serving(content, kind), methods=["GET"])

    may_read = requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE)
    app.add_api_route("/jobs", _jobs, methods=["GET"], dependencies=[Depends(may_read)])
    return app


def _serving(content: str, kind: str) -> Any:
    def serve() -> Response:
        return Response(content, media_type=kind, headers=_HEADERS)

    return serve


def _jobs(response: Response, session: SessionDep, user: GetUserDep) -> dict[str, Any]:
    """Return what waits in the DAGs that the user may read."""
    response.headers.update(_HEADERS)
    readable = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    return waiting_tasks(session, readable)
