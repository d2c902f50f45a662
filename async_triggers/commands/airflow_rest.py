"""A client of Airflow's REST API with a user's own rights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE: Final = 100
"""Rows of one request; Airflow's own most is ``[api] maximum_page_limit``, 100."""
PATIENCE: Final = 30.0
"""Seconds for one answer."""
UNAUTHORIZED: Final = 401


class AirflowRefusedError(Exception):
    """Airflow refused a request, or did not answer it."""


class AirflowRest:
    """Reads from the Airflow at ``url``.

    ``token`` is a JSON Web Token of Airflow. Without one, ``user`` and ``password`` get
    one at ``/auth/token``; without those, Airflow must give one to everyone, as its simple
    auth manager does where all users are admins.
    """

    def __init__(
        self, url: str, *, token: str = "", user: str = "", password: str = ""
    ) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.Client(timeout=PATIENCE, follow_redirects=False)
        self._token = token
        self._user = user
        self._password = password

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to a request below ``/api/v2``.

        Raise :class:`AirflowRefusedError`.
        """
        if not self._token:
            self._token = self._fetch_token()

        return self._send(
            "GET",
            f"/api/v2{path}",
            params=dict(query or {}),
            headers={"Authorization": f"Bearer {self._token}"},
        )

    def rows(
        self, path: str, key: str, query: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of all pages of a list."""
        offset = 0
        while True:
            answer = self.get(path, {**(query or {}), "limit": PAGE, "offset": offset})
            rows = answer[key]
            yield from rows
            offset += len(rows)
            if not rows or offset >= answer["total_entries"]:
                return

    def _fetch_token(self) -> str:
        if self._user:
            body = {"username": self._user, "password": self._password}
            answer = self._send("POST", "/auth/token", json=body)
        else:
            answer = self._send("GET", "/auth/token")

        return str(answer["access_token"])

    def _send(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            reply = self._client.request(method, self.url + path, **options)
        except httpx.HTTPError as error:
            problem = str(error) or type(error).__name__
            raise AirflowRefusedError(
                f"No answer from Airflow ({problem}): check --url: {self.url}"
            ) from error

        if reply.status_code == UNAUTHORIZED:
            raise AirflowRefusedError(
                "Airflow wants a user: set AIRFLOW_API_TOKEN, or AIRFLOW_API_USER and"
                f" AIRFLOW_API_PASSWORD: {self.url}"
            )

        try:
            answer = reply.json()
        except ValueError:
            answer = None

        if reply.is_error or reply.is_redirect or not isinstance(answer, dict):
            raise AirflowRefusedError(
                f"{path} was answered with {reply.status_code}, which is no answer of"
                f" Airflow's REST API: check --url: {self.url}"
            )

        return answer
