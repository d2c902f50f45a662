"""What Airflow reads about this package, in every process: strings only, no imports.

Connection forms are metadata here and not code in the hooks, as Airflow 3.2 and later
want it. Where the official provider of a vendor is installed its form stays: two
providers may not declare the same type, and the fields are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

_OFFICIAL = {
    "airbyte": "apache-airflow-providers-airbyte",
    "Fivetran": "airflow-provider-fivetran-async",
    "dbt_cloud": "apache-airflow-providers-dbt-cloud",
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the shape of Airflow's provider schema."""
    return {
        "package-name": "airflow-provider-async-triggers",
        "name": "Async Triggers",
        "description": "Deferrable operators for Airbyte, Fivetran and dbt Cloud.",
        "integrations": [
            {
                "integration-name": "Airbyte",
                "external-doc-url": "https://docs.airbyte.com/",
                "tags": ["service"],
            },
            {
                "integration-name": "Fivetran",
                "external-doc-url": "https://fivetran.com/docs/",
                "tags": ["service"],
            },
            {
                "integration-name": "dbt Cloud",
                "external-doc-url": "https://docs.getdbt.com/",
                "tags": ["service"],
            },
        ],
        "operators": _modules("operators"),
        "sensors": _modules("sensors"),
        "hooks": _modules("hooks"),
        "triggers": _modules("triggers", "events"),
        "extra-links": [
            "async_triggers.airbyte.links.AirbyteJobLink",
            "async_triggers.fivetran.links.FivetranConnectionLink",
            "async_triggers.dbt_cloud.links.DbtCloudRunJobOperatorLink",
        ],
        "connection-types": [
            form
            for form in _FORMS
            if not _is_installed(_OFFICIAL.get(form["connection-type"], ""))
        ],
        "config": {
            "async_triggers": {
                "description": (
                    "Limits for the requests to the vendors. They apply to each process (a"
                    " triggerer, a task); a connection's extra overrides them."
                ),
                "options": {
                    **_options("airbyte", "Airbyte", "600", "2", "2"),
                    **_options("fivetran", "Fivetran", "333.33", "16", "4"),
                    **_options("dbt_cloud", "dbt Cloud", "5000", "8", "4"),
                    **_SPARE_OPTIONS,
                    **_SHARED_BUDGET_OPTIONS,
                    **_BELIEF_OPTIONS,
                    **_WORKER_OPTIONS,
                    **_MEMORY_OPTIONS,
                    **_GENERATOR_OPTIONS,
                },
            }
        },
    }


_PACKAGES = {
    "Airbyte": "async_triggers.airbyte",
    "Fivetran": "async_triggers.fivetran",
    "dbt Cloud": "async_triggers.dbt_cloud",
}


def _modules(*kinds: str) -> list[dict[str, Any]]:
    return [
        {
            "integration-name": integration,
            "python-modules": [f"{package}.{kind}" for kind in kinds],
        }
        for integration, package in _PACKAGES.items()
    ]


def _is_installed(name: str) -> bool:
    if not name:
        return False

    try:
        distribution(name)
    except PackageNotFoundError:
        return False

    return True


def _extra(label: str, kind: str, description: str) -> dict[str, Any]:
    return {
        "label": label,
        "description": description,
        "schema": {"type": [kind, "null"]},
    }


_ROUTE_FIELDS = {
    "timeout": _extra("Timeout (s)", "number", "Seconds for one request."),
    "proxies": _extra(
        "Proxy", "string", "URL of a proxy; without it the environment's is used."
    ),
    "ca_bundle": _extra(
        "CA bundle", "string", "PEM file of a private certificate authority."
    ),
    "requests_per_minute": _extra(
        "Requests per minute",
        "number",
        "The limit of which this process takes a share.",
    ),
}

_AIRBYTE_FORM: dict[str, Any] = {
    "connection-type": "airbyte",
    "hook-class-name": "async_triggers.airbyte.hooks.AirbyteHook",
    "hook-name": "Airbyte",
    "ui-field-behaviour": {
        "hidden-fields": ["port"],
        "relabeling": {
            "host": "Server URL",
            "login": "Client ID",
            "password": "Client Secret",
            "schema": "Token URL",
        },
        "placeholders": {
            "host": "https://api.airbyte.com/v1",
            "schema": "v1/applications/token",
        },
    },
    "conn-fields": {
        "auth": _extra(
            "Authentication",
            "string",
            "client_credentials, bearer, basic or none; guessed from the fields if empty.",
        ),
        "api_path": _extra(
            "API path",
            "string",
            "The path of the API on the server, where it is none of Airbyte's.",
        ),
        "ui_url": _extra(
            "Web interface", "string", "Its URL, where it is not that of the server."
        ),
        **_ROUTE_FIELDS,
    },
}


def _fivetran_form(connection_type: str, hook: str, name: str) -> dict[str, Any]:
    return {
        "connection-type": connection_type,
        "hook-class-name": f"async_triggers.fivetran.hooks.{hook}",
        "hook-name": name,
        "ui-field-behaviour": {
            "hidden-fields": ["schema", "port"],
            "relabeling": {"login": "API Key", "password": "API Secret"},
            "placeholders": {
                "login": "API key, or empty",
                "password": "API secret, or the Base64-encoded API key",
                "host": "https://api.fivetran.com",
            },
        },
        "conn-fields": {
            "trial": _extra(
                "Trial account", "boolean", "A trial account has 500 requests an hour."
            ),
            **_ROUTE_FIELDS,
        },
    }


_DBT_CLOUD_FORM: dict[str, Any] = {
    "connection-type": "dbt_cloud",
    "hook-class-name": "async_triggers.dbt_cloud.hooks.DbtCloudHook",
    "hook-name": "dbt Cloud",
    "ui-field-behaviour": {
        "hidden-fields": ["schema", "port"],
        "relabeling": {
            "host": "Tenant",
            "login": "Account ID",
            "password": "API Token",
        },
        "placeholders": {
            "host": "PREFIX.us1.dbt.com",
            "login": "The number in dbt Cloud's URLs; a task's account_id wins over it",
        },
    },
    "conn-fields": {**_ROUTE_FIELDS},
}

_FORMS: tuple[dict[str, Any], ...] = (
    _AIRBYTE_FORM,
    # The list of types shows names alone, and "Fivetran" is that of the peers' type.
    _fivetran_form("fivetran", "FivetranHook", "Fivetran (async-triggers)"),
    # The peers' spelling, so that connections made for them can still be edited.
    _fivetran_form("Fivetran", "PeersFivetranHook", "Fivetran"),
    _DBT_CLOUD_FORM,
)


_OTHERS: dict[str, Mapping[str, Any]] = {}


def vendor_form(
    connection_type: str,
    hook: str,
    name: str,
    *,
    relabeling: Mapping[str, str] | None = None,
    placeholders: Mapping[str, str] | None = None,
    hidden: Sequence[str] = ("schema", "port"),
) -> dict[str, Any]:
    """Return the form of another vendor's connections, for its own provider metadata.

    ``hook`` is the classpath of its hook and ``name`` what the list of types shows.
    ``relabeling`` and ``placeholders`` are by Airflow's names of the fields, ``hidden``
    the fields that are not shown. The fields of ``extra`` are those that every vendor has.
    """
    return {
        "connection-type": connection_type,
        "hook-class-name": hook,
        "hook-name": name,
        "ui-field-behaviour": {
            "hidden-fields": list(hidden),
            "relabeling": dict(relabeling or {}),
            "placeholders": dict(placeholders or {}),
        },
        "conn-fields": {**_ROUTE_FIELDS},
    }


def register_form(form: Mapping[str, Any]) -> None:
    """Let messages name the fields of another vendor's connections as its form does."""
    _OTHERS[form["connection-type"]] = form


def ui_field_behaviour(connection_type: str) -> dict[str, Any]:
    """Return what differs in a connection's form, in the words of Airflow's hooks."""
    form = _form(connection_type).get("ui-field-behaviour", {})
    return {
        "hidden_fields": form.get("hidden-fields", []),
        "relabeling": form.get("relabeling", {}),
        "placeholders": form.get("placeholders", {}),
    }


def _form(connection_type: str) -> Mapping[str, Any]:
    found = (each for each in _FORMS if each["connection-type"] == connection_type)
    return next(found, _OTHERS.get(connection_type, {}))


def conn_fields(connection_type: str) -> dict[str, Any]:
    """Return the fields of a connection's form that ``extra`` keeps, by name."""
    fields: dict[str, Any] = _form(connection_type).get("conn-fields", {})
    return fields


def has_field(connection_type: str, field: str) -> bool:
    """Return True if a connection's form has this field in ``extra``."""
    return field.removeprefix("extra.") in conn_fields(connection_type)


def field_label(connection_type: str, field: str) -> str:
    """Return what to call a connection's field: as its form does and as Airflow does.

    ``field`` is Airflow's name, such as ``host`` or ``extra.ca_bundle``.
    """
    form = _form(connection_type)
    label = form.get("ui-field-behaviour", {}).get("relabeling", {}).get(field)
    if label is None:
        of_extra = form.get("conn-fields", {}).get(field.removeprefix("extra."), {})
        label = of_extra.get("label") if field.startswith("extra.") else None

    return field if label is None else f"{label} ({field})"


def _options(
    prefix: str, vendor: str, limit: str, polls: str, starts: str
) -> dict[str, Any]:
    def option(kind: str, default: str, description: str) -> dict[str, Any]:
        return {
            "description": f"{description} {default} if not set.",
            "version_added": "0.1.0",
            "type": kind,
            "example": default,
            # None, so that an unset field differs from an empty one.
            "default": None,
        }

    return {
        f"{prefix}_requests_per_minute": option(
            "float", limit, f"Requests a minute that {vendor} allows one account."
        ),
        f"{prefix}_share": option(
            "float",
            "0.6",
            f"The part of it that one process takes, or all together with budget_url. With"
            f" several triggerers on one {vendor} account and without budget_url, divide"
            f" it by their number.",
        ),
        f"{prefix}_concurrent_polls": option(
            "integer", polls, f"Requests about jobs of {vendor} under way at once."
        ),
        f"{prefix}_concurrent_starts": option(
            "integer", starts, f"Starts of jobs of {vendor} under way at once."
        ),
    }


_SPARE_OPTIONS: dict[str, Any] = {
    "spare_share": {
        "description": (
            "The part of a vendor's limit from which the jobs of an account are polled more"
            " often than their tasks request, where nothing else needs it. At Airbyte it"
            " counts only where airbyte_requests_per_minute is set. 0 if not set: never."
        ),
        "version_added": "0.1.0",
        "type": "float",
        "example": "0.1",
        "default": None,
    },
}

_SHARED_BUDGET_OPTIONS: dict[str, Any] = {
    "budget_url": {
        "description": (
            "URL of a Redis in which all processes share the budget of each account, so"
            " that no share need be divided by their number. It needs this package's extra"
            " redis. Empty: each process has a separate budget."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "sensitive": True,
        "example": "redis://redis.example.com:6379/5",
        "default": "",
    },
}

_BELIEF_OPTIONS: dict[str, Any] = {
    name: {
        "description": f"{description} {default} if not set.",
        "version_added": "0.1.0",
        "type": "float",
        "example": default,
        "default": None,
    }
    for name, default, description in (
        (
            "doubt_seconds",
            "300",
            (
                "Seconds for which a vendor must refuse what it has allowed before, until"
                " waiting tasks fail."
            ),
        ),
        (
            "in_between_seconds",
            "21600",
            (
                "Seconds for which something between Airflow and a vendor must refuse"
                " everything, until waiting tasks fail; 0 waits until their own deadlines."
            ),
        ),
        (
            "first_contact_seconds",
            "300",
            (
                "Seconds for which a connection that has not worked yet must look wrong,"
                " until its task fails."
            ),
        ),
    )
}

_WORKER_OPTIONS: dict[str, Any] = {
    "preload": {
        "description": (
            "Whether a process of Airflow loads what the tasks of this package need before"
            " its first fork: True, False, or auto. auto is for those that fork a process"
            " for each task: a scheduler with the LocalExecutor, airflow celery worker and"
            " airflow edge worker."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "False",
        "default": "auto",
    },
}

_MEMORY_OPTIONS: dict[str, Any] = {
    "remember_in": {
        "description": (
            "Where a task remembers its job for a retry, after a crash and after a clear:"
            " task_state_store (Airflow 3.3 and later), variables, nothing, or auto. auto"
            " takes the task state store where there is one, else Variables, and nothing"
            " where a secrets backend is configured, which each read would query."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": "variables",
        "default": "auto",
    },
}

_GENERATOR_OPTIONS: dict[str, Any] = {
    "generators_cache": {
        "description": (
            "Folder of the answers of dbt and of the vendors; empty for one below"
            " Airflow's home."
        ),
        "version_added": "0.1.0",
        "type": "string",
        "example": None,
        "default": "",
    },
    "generators_max_age": {
        "description": "Seconds after which such an answer is renewed, in the background.",
        "version_added": "0.1.0",
        "type": "float",
        "example": None,
        "default": "3600",
    },
}
