#!/bin/sh
# OpenLineage's dbt processor: a failed relationships test is held against the healthy table.
#
# dbt's "relationships" test on orders.customer_id says that each order must have a customer. When
# it fails, one would expect the assertion on the dataset "orders", whose column it tests and
# whose node it is attached to in the manifest. What happens instead: the processor takes the
# last of the test's parents, which dbt sorts by name. Here that is "reference_customers": its
# dataset gets a failed assertion on "customer_id", a column that it does not have, and "orders"
# gets none. Where the last parent is a seed, the assertion is in no event at all. Whether the
# right table is blamed depends on the alphabet.
#
# Who meets it: everyone who shows data quality from dbt runs, through dbt-ol or Airflow's
# dbt Cloud provider.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet openlineage-integration-common==1.54.0 \
    jinja2==3.1.6 pyyaml==6.0.4

"$work/venv/bin/python" - <<'PY'
from importlib.metadata import version

from openlineage.common.provider.dbt.cloud import DbtCloudArtifactProcessor

SCHEMAS = "https://schemas.getdbt.com/dbt"


def model(name):
    return {
        "unique_id": f"model.shop.{name}",
        "database": "dwh",
        "schema": "main",
        "alias": name,
        "name": name,
        "columns": {},
        "config": {"materialized": "table"},
    }


def blamed(parent_name):
    """Say which datasets get the assertions of a failed test of orders against this parent."""
    test = "test.shop.relationships_orders"
    column = {"column_name": "customer_id", "to": f"ref('{parent_name}')", "field": "id"}
    parents = sorted(["model.shop.orders", f"model.shop.{parent_name}"])  # as dbt writes them
    processor = DbtCloudArtifactProcessor(
        producer="https://example.com",
        job_namespace="dbt",
        manifest={
            "metadata": {"dbt_schema_version": f"{SCHEMAS}/manifest/v12.json"},
            "nodes": {
                "model.shop.orders": model("orders"),
                f"model.shop.{parent_name}": model(parent_name),
                test: {
                    "unique_id": test,
                    "name": "relationships_orders",
                    "attached_node": "model.shop.orders",
                    "column_name": "customer_id",
                    "test_metadata": {"name": "relationships", "kwargs": column},
                    "config": {"severity": "ERROR"},
                },
            },
            "sources": {},
            "parent_map": {test: parents},
        },
        run_result={
            "metadata": {"dbt_schema_version": f"{SCHEMAS}/run-results/v6.json"},
            "args": {"which": "test"},
            "results": [{"unique_id": test, "status": "fail", "failures": 7, "timing": []}],
        },
        profile={"name": "shop", "type": "duckdb", "details": {"type": "duckdb", "path": "dwh"}},
        catalog=None,
    )
    return [
        (dataset.name, assertion.column, assertion.success)
        for event in processor.parse().fails
        for dataset in event.inputs
        for assertion in dataset.inputFacets["dataQualityAssertions"].assertions
    ]


print("openlineage-integration-common", version("openlineage-integration-common"))
first, last = blamed("customers"), blamed("reference_customers")
print("orders.customer_id tested against customers:          ", first)
print("orders.customer_id tested against reference_customers:", last)
assert first == [("dwh.main.orders", "customer_id", False)]
assert last == [("dwh.main.reference_customers", "customer_id", False)]
PY
