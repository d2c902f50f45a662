"""``async-triggers --version``, and the versions that a check shows."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from async_triggers import __version__


def installed_versions() -> dict[str, str]:
    """Return the versions of this package and of what it runs on, by their names."""
    return {
        "async-triggers": __version__,
        "apache-airflow": _version("apache-airflow"),
        "aiohttp": _version("aiohttp"),
        "python": platform.python_version(),
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


class ShowVersions(argparse.Action):
    """Print the versions, one a line, and end."""

    def __init__(self, option_strings: list[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print them, as argparse has it."""
        for name, number in installed_versions().items():
            print(f"{name} {number}")

        parser.exit()
