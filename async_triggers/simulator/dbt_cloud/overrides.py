"""What a start of a run may override."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from async_triggers.simulator.dbt_cloud.replies import refuse


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_number(value: object) -> bool:
    """Whether a value is an integer, or a text that is read as one."""
    if isinstance(value, str):
        digits = value.removeprefix("-")
        return digits.isascii() and digits.isdecimal()
    return isinstance(value, int) and not isinstance(value, bool)


def _is_flag(value: object) -> bool:
    """Whether a value is true or false, or a text that is read as one."""
    return isinstance(value, bool) or value in ("true", "True", "false", "False")


def _is_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


_TEXT: Final = (_is_text, "Not a valid string, or blank.")
_NUMBER: Final = (_is_number, "A valid integer is required.")
_FLAG: Final = (_is_flag, "Must be a valid boolean.")
_LIST: Final = (_is_list, "Not a valid list of commands.")

# https://docs.getdbt.com/dbt-cloud/api-v2#/operations/Trigger%20Job%20Run
_FIELDS: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    "git_sha": _TEXT,
    "git_branch": _TEXT,
    "schema_override": _TEXT,
    "dbt_version_override": _TEXT,
    "target_name_override": _TEXT,
    "threads_override": _NUMBER,
    "timeout_seconds_override": _NUMBER,
    "azure_pull_request_id": _NUMBER,
    "github_pull_request_id": _NUMBER,
    "gitlab_merge_request_id": _NUMBER,
    "non_native_pull_request_id": _NUMBER,
    "generate_docs_override": _FLAG,
    "steps_override": _LIST,
}


def check_overrides(body: Mapping[str, Any]) -> None:
    """Check the types of what a start sends; null counts as not sent.

    :raises RefusalError: A field has a value that cannot be read as its type.
    """
    for name, (is_good, refusal) in _FIELDS.items():
        value = body.get(name)
        if value is not None and not is_good(value):
            raise refuse(400, f"{name}: {refusal}")
