"""What a subcommand needs, and what to install where that is missing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

WHOLE_PACKAGE: Final = "airflow-provider-async-triggers"


class MissingError(Exception):
    """A command cannot be had, because a package that it needs is not installed."""


@contextmanager
def needs(distribution: str) -> Iterator[None]:
    """Import what a command needs, or say what to install.

    The simulator runs without Airflow, so the rest of the package may lack its own
    requirements.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("async_triggers"):
            raise
        raise MissingError(
            f"this command needs {error.name}, which is not installed; "
            f"run: pip install {distribution}"
        ) from error
