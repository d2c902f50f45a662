#!/bin/sh
# astronomer-cosmos: selecting a dbt source by its name selects nothing, without a word.
#
# With a manifest, Cosmos reads `select` itself. One would expect dbt's answers, or an error:
# `source:raw` is every table of the source in dbt, `stg_*` every model with such a name, and
# `orders,tag:nightly` what both match. What happens instead: `source:` matches names of tables,
# so `source:raw` selects nothing, and so does `stg_*`. No warning says so, although there is one
# for `shop.marts.*`. `orders,tag:nightly` is an error, and `+orders,tag:nightly` is understood.
#
# Who meets it: everyone who carries the selection of a dbt job over to a DAG.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet astronomer-cosmos==1.15.1 \
    apache-airflow==3.3.2 apache-airflow-task-sdk==1.3.2
export AIRFLOW_HOME="$work/airflow" AIRFLOW__LOGGING__LOGGING_LEVEL=WARNING

"$work/venv/bin/python" - "$work/manifest.json" <<'PY'
import json
import logging
import sys
from importlib.metadata import version
from pathlib import Path

import airflow  # first: Cosmos cannot be imported before it
from cosmos import ExecutionConfig, ProjectConfig, RenderConfig
from cosmos.constants import LoadMode, SourceRenderingBehavior
from cosmos.dbt.graph import DbtGraph

manifest = Path(sys.argv[1])


def node(unique_id, path, depends_on=(), **more):
    kind, package, *names = unique_id.split(".")
    return {
        "unique_id": unique_id,
        "resource_type": kind,
        "package_name": package,
        "original_file_path": path,
        "name": names[-1],
        "fqn": [package, *names],
        "tags": [],
        "config": {},
        "depends_on": {"nodes": [*depends_on]},
        **more,
    }


TABLES = ["source.shop.raw.customers", "source.shop.raw.orders"]
MODEL = node(
    "model.shop.stg_orders",
    "models/stg_orders.sql",
    [TABLES[1]],
    tags=["nightly"],
    config={"tags": ["nightly"]},
)
manifest.write_text(
    json.dumps(
        {
            "nodes": {MODEL["unique_id"]: MODEL},
            "sources": {
                each: node(each, "models/sources.yml", source_name="raw")
                for each in TABLES
            },
            "exposures": {},
        }
    )
)


def select(selection):
    """Return what Cosmos selects, and how often it has warned."""
    graph = DbtGraph(
        project=ProjectConfig(manifest_path=manifest, project_name="shop"),
        render_config=RenderConfig(
            load_method=LoadMode.DBT_MANIFEST,
            select=[selection],
            source_rendering_behavior=SourceRenderingBehavior.ALL,
        ),
        execution_config=ExecutionConfig(dbt_project_path=manifest.parent),
    )
    warnings.clear()
    try:
        graph.load(method=LoadMode.DBT_MANIFEST)
    except Exception as error:
        return f"{type(error).__name__}: {error}", len(warnings)

    return sorted(graph.filtered_nodes), len(warnings)


class Warnings(logging.Handler):
    def emit(self, record):
        if record.levelno >= logging.WARNING:
            warnings.append(record.getMessage())


warnings = []
logging.getLogger("cosmos.dbt.selector").addHandler(Warnings())
logging.getLogger("cosmos.dbt.graph").addHandler(Warnings())
print("astronomer-cosmos", version("astronomer-cosmos"))
seen = {}
for selection in (
    "source:raw",
    "source:raw.orders",
    "stg_orders",
    "stg_*",
    "stg_orders,tag:nightly",
    "+stg_orders,tag:nightly",
    "shop.marts.*",
):
    seen[selection] = select(selection)
    print(f"  {selection:24} {seen[selection][0]}, {seen[selection][1]} warnings")

assert seen == {
    "source:raw": ([], 0),
    "source:raw.orders": ([TABLES[1]], 0),
    "stg_orders": ([MODEL["unique_id"]], 0),
    "stg_*": ([], 0),
    "stg_orders,tag:nightly": (
        "CosmosValueError: Invalid select filter: stg_orders,tag:nightly",
        0,
    ),
    "+stg_orders,tag:nightly": ([MODEL["unique_id"]], 0),
    "shop.marts.*": ([], 1),
}, "the behaviour has changed"
PY
