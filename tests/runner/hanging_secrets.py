"""A secrets backend that does not answer, as one whose server has gone."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

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
    """Leaves the first look-ups to the next backend, the environment, and then hangs.

    Airflow 3.1 makes one for each look-up, so that all count together.
    """

    looked_up: ClassVar[int] = 0

    def get_connection(
        self, conn_id: str, team_name: str | None = None
    ) -> Connection | None:
        """Return nothing, or wait for ever as a read from a socket does."""
        HangingSecrets.looked_up += 1
        if HangingSecrets.looked_up > int(os.environ[ANSWERS]):
            Path(os.environ[HANGS]).touch()
            here, there = socket.socketpair()
            with here, there:
                here.recv(1)

        return None
