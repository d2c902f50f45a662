"""A client of Airflow's REST API with a user's own rights."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import httpx

from async_triggers.engine.wire import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PAGE: Final = 100
"""Rows of one request; Airflow's own most is ``[api] maximum_page_limit``, 100."""
PATIENCE: Final = 30.0
"""Seconds for one answer."""
BAD_REQUEST: Final = 400
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404
LONGEST_DETAIL: Final = 200
"""Characters of Airflow's own words that are shown."""


_API: Final = "/api/v2"
_LOGIN: Final = "/auth/token"
_ONE_DAG: Final = re.compile(rf"{_API}/dags/(?!~/)")


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
        self._shown_url = without_secrets(self.url)
        self._client = httpx.Client(timeout=PATIENCE, follow_redirects=False)
        # One from a file or a secret often ends with a line break.
        self._token = token.strip()
        self._has_own_token = bool(self._token)
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

        # The words of an error about such a header would show it.
        if not (self._token.isascii() and self._token.isprintable()):
            raise AirflowRefusedError(
                "AIRFLOW_API_TOKEN holds characters that no token has: set it again"
            )

        return self._send(
            "GET",
            _API + path,
            params=dict(query or {}),
            headers={"Authorization": f"Bearer {self._token}"},
        )

    def rows(
        self, path: str, key: str, query: Mapping[str, Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of all pages of a list."""
        offset = 0
        while True:
            page = {**(query or {}), "limit": PAGE, "offset": offset}
            answer = self.get(path, page)
            try:
                rows, total = [*answer[key]], int(answer["total_entries"])
            except (KeyError, TypeError, ValueError):
                raise self._no_airflow(path, "without a list") from None

            yield from rows
            offset += len(rows)
            if not rows or offset >= total:
                return

    def _fetch_token(self) -> str:
        if self._user:
            body = {"username": self._user, "password": self._password}
            answer = self._send("POST", _LOGIN, json=body)
        else:
            answer = self._send("GET", _LOGIN)

        try:
            return str(answer["access_token"])
        except KeyError:
            raise self._no_airflow(_LOGIN, "without a token") from None

    def _send(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            reply = self._client.request(method, self.url + path, **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = str(error) or type(error).__name__
            raise AirflowRefusedError(
                f"No answer from Airflow ({problem}): check --url: {self._shown_url}"
            ) from error

        try:
            answer = reply.json()
        except ValueError:
            answer = None

        if reply.is_error or reply.is_redirect or not isinstance(answer, dict):
            raise self._refusal(path, reply.status_code, _detail(answer))

        return answer

    def _refusal(self, path: str, status: int, detail: str) -> AirflowRefusedError:
        """Return what a refusal means; ``detail`` is what Airflow says of it."""
        # At its login, the simple auth manager answers 403 where it has users and no one is
        # named, and 400 to an empty password.
        if status == UNAUTHORIZED or (
            path == _LOGIN and status in (BAD_REQUEST, FORBIDDEN)
        ):
            return AirflowRefusedError(f"{self._who_is_refused()}: {self._shown_url}")

        if status == FORBIDDEN:
            return AirflowRefusedError(
                f"Airflow refuses {path} to this user{detail}: the right to read task"
                f" instances is missing: {self._shown_url}"
            )

        if status == NOT_FOUND and _ONE_DAG.match(path):
            return AirflowRefusedError(
                f"Airflow does not find {path}{detail}: check --dag: {self._shown_url}"
            )

        return self._no_airflow(path, f"with {status}{detail}")

    def _who_is_refused(self) -> str:
        if self._has_own_token:
            return (
                "Airflow does not accept the token, which may have expired: set"
                " AIRFLOW_API_TOKEN again"
            )

        if self._user:
            return (
                "Airflow does not accept this user and password: check AIRFLOW_API_USER"
                " and AIRFLOW_API_PASSWORD"
            )

        return (
            "Airflow requires a user: set AIRFLOW_API_TOKEN, or AIRFLOW_API_USER and"
            " AIRFLOW_API_PASSWORD"
        )

    def _no_airflow(self, path: str, how: str) -> AirflowRefusedError:
        return AirflowRefusedError(
            f"{path} was answered {how}, which is not an answer of Airflow's REST API:"
            f" check --url: {self._shown_url}"
        )


def _detail(answer: object) -> str:
    """Return what Airflow says of a refusal, in parentheses; empty where it is silent."""
    detail = answer.get("detail") if isinstance(answer, dict) else None
    if not isinstance(detail, str) or not detail.isprintable():
        return ""

    return f" ({detail[:LONGEST_DETAIL]})"
