"""A secrets backend that does not answer, as one whose server has gone."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from airflow.sdk.bases.secrets_backend import BaseSecretsBackend
except ModuleNotFoundError:
    from airflow.secrets.base_secrets import BaseSecretsBackend  # type: ignore[assignment]

if TYPE_CHECKING:
    from airflow.sdk import Connection

HANGS = "TEST_SECRETS_HANGS"
"""The environment variable that names a file, which is made when a look-up hangs."""
ANSWERS = "TEST_SECRETS_ANSWERS"
"""The environment variable that says how many look-ups come before that."""


class HangingSecrets(BaseSecretsBackend):
    """Leaves the first look-ups to the next backend, the environment, and then hangs."""

    def __init__(self) -> None:
        super().__init__()
        self._left = int(os.environ[ANSWERS])

    def get_connection(
        self, conn_id: str, team_name: str | None = None
    ) -> Connection | None:
        """Return nothing, or wait for ever as a read from a socket does."""
        self._left -= 1
        if self._left < 0:
            Path(os.environ[HANGS]).touch()
            here, there = socket.socketpair()
            with here, there:
                here.recv(1)

        return None
