"""What a run of a small dbt project leaves: sources, models, tests, and one failure."""

from __future__ import annotations

from typing import Any

CONNECTION = {
    "name": "Warehouse",
    "type": "postgres",
    "details": {"host": "warehouse.test", "port": 5432, "dbname": "shop"},
}
FAILED = "model.shop.orders"
_SCHEMAS = "https://schemas.getdbt.com/dbt"


def _node(unique_id: str, **more: Any) -> dict[str, Any]:
    name = unique_id.rpartition(".")[2]
    return {
        "unique_id": unique_id,
        "resource_type": unique_id.partition(".")[0],
        "name": name,
        "alias": name,
        "database": "shop",
        "schema": "public",
        "original_file_path": f"models/{name}.sql",
        "description": f"The {name}.",
        "columns": {
            "id": {"name": "id", "data_type": "integer", "description": "A key"}
        },
        "config": {"materialized": "table"},
        "meta": {"owner": "sales"},
        "tags": ["nightly"],
        **more,
    }


def manifest() -> dict[str, Any]:
    """Return ``manifest.json``."""
    customers = "select id from shop.raw.customers"
    orders = "select id from shop.public.customers"
    test = "test.shop.not_null_customers_id.a1"
    single = "test.shop.no_future_orders"
    return {
        "metadata": {
            "dbt_schema_version": f"{_SCHEMAS}/manifest/v12.json",
            "project_name": "shop",
            "adapter_type": "postgres",
        },
        "nodes": {
            "model.shop.customers": _node(
                "model.shop.customers", compiled_code=customers
            ),
            FAILED: _node(FAILED, compiled_code=orders),
            test: _node(
                test,
                test_metadata={"name": "not_null", "kwargs": {"column_name": "id"}},
                config={"severity": "ERROR"},
            ),
            single: _node(single, compiled_code="select 1", config={}),
        },
        "sources": {
            "source.shop.raw.customers": _node(
                "source.shop.raw.customers", schema="raw"
            )
        },
        "parent_map": {
            "model.shop.customers": ["source.shop.raw.customers"],
            FAILED: ["model.shop.customers"],
            test: ["model.shop.customers"],
            single: [FAILED],
        },
        "exposures": {},
    }


def run_results(*, failed: bool = False) -> dict[str, Any]:
    """Return ``run_results.json``."""
    ends = {
        "model.shop.customers": "success",
        FAILED: "error" if failed else "success",
        "test.shop.not_null_customers_id.a1": "pass",
        "test.shop.no_future_orders": "skipped" if failed else "pass",
    }
    times = {
        "started_at": "2026-11-01T01:00:00Z",
        "completed_at": "2026-11-01T01:00:09Z",
    }
    return {
        "metadata": {
            "dbt_schema_version": f"{_SCHEMAS}/run-results/v6.json",
            "invocation_id": "5f0c9e7a-0000-4000-8000-000000000001",
            "dbt_version": "1.9.0",
        },
        "args": {"which": "build", "full_refresh": False},
        "elapsed_time": 9.0,
        "results": [
            {
                "unique_id": unique_id,
                "status": status,
                "message": "Database Error" if status == "error" else "OK",
                "execution_time": 9.0,
                "failures": 0 if unique_id.startswith("test.") else None,
                "adapter_response": {"rows_affected": 12},
                "timing": [{"name": "execute", **times}, {"name": "compile", **times}],
            }
            for unique_id, status in ends.items()
        ],
    }


def catalog() -> dict[str, Any]:
    """Return ``catalog.json``, which ``dbt docs generate`` leaves."""
    return {
        "nodes": {
            "model.shop.customers": {
                "columns": {"id": {"name": "id", "type": "bigint", "comment": None}},
                "stats": {},
            }
        },
        "sources": {},
    }


def of_run(*, failed: bool = False) -> dict[str, Any]:
    """Return what a run of the project leaves, by path."""
    return {
        "manifest.json": manifest(),
        "run_results.json": run_results(failed=failed),
    }
