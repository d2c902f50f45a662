#!/bin/sh
# dbt-core: a microbatch model that failed in part cannot be selected for a rerun.
#
# A job that repairs a failed run selects "result:error+ result:fail+ result:skipped" from its
# artifacts. One would expect that to cover whatever made dbt exit with 1. A microbatch model of
# which one batch failed and another went well makes dbt exit with 1, but ends neither in "error"
# nor in "fail": its status is "partial success". It is not selected, while the models that dbt
# skipped because of it are, so the rerun builds these on incomplete data and exits with 0.
# The status has a space in it, at which --select splits, so the command line cannot name it.
# Only a selector in YAML can.
#
# Who meets it: rerun steps of dbt jobs in Airflow or dbt Cloud, and everything that reads
# run_results.json and knows "success", "error", "fail", "warn", "pass" and "skipped".
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
# dbt-core goes in without its optional parser, whose build fetches a program from elsewhere.
"$work/venv/bin/pip" install --quiet --quiet agate==1.9.1 click==8.5.1 daff==1.4.2 \
    dbt-adapters==1.24.5 dbt-common==1.39.0 dbt-extractor==0.6.0 dbt-protos==1.0.615 \
    duckdb==2.0.1 'mashumaro[msgpack]==3.17' metricflow==0.213.0 networkx==3.6.1 \
    opentelemetry-api==1.45.2 packaging==26.4 pathspec==1.0.4 protobuf==6.33.6 \
    pydantic==2.14.4 python-dotenv==1.2.4 pytz==2026.6 requests==2.34.2 \
    snowplow-tracker==1.1.0 sqlparse==0.6.1
"$work/venv/bin/pip" install --quiet --quiet --no-deps dbt-core==1.12.6 dbt-duckdb==1.11.1
export PATH="$work/venv/bin:$PATH" DBT_PROFILES_DIR="$work" DBT_SEND_ANONYMOUS_USAGE_STATS=false
cd "$work"
mkdir models
echo '{name: shop, profile: shop}' >dbt_project.yml
echo '{shop: {target: dev, outputs: {dev: {type: duckdb, path: shop.duckdb}}}}' >profiles.yml

cat >models/days.sql <<'SQL'
{{ config(event_time='day') }}
select date '2026-01-01' as day, '1' as amount union all select date '2026-01-02', 'many'
SQL
cat >models/sales.sql <<'SQL'
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day',
          batch_size='day', begin='2026-01-01') }}
select day, cast(amount as integer) as amount from {{ ref('days') }}
SQL
echo "select count(*) as n from {{ ref('sales') }}" >models/report.sql
cat >selectors.yml <<'YAML'
selectors:
  - name: incomplete
    definition: {method: result, value: partial success}
YAML

code=0
dbt --quiet run --event-time-start 2026-01-01 --event-time-end 2026-01-03 >log || code=$?
cp -r target before
python - <<'PY'
import json
for result in json.load(open("before/run_results.json"))["results"]:
    print(f"{result['unique_id']}: {result['status']}")
PY
list() { dbt --quiet ls --resource-type model --state before "$@" | tr '\n' ' '; }
usual=$(list --select result:error+ result:fail+ result:skipped)
named=$(list --select 'result:partial success')
yaml=$(list --selector incomplete)
rerun=0
dbt --quiet run --state before --select result:error+ result:fail+ result:skipped >log || rerun=$?

echo "dbt-core 1.12.6, the run exits with $code"
echo "result:error+ result:fail+ result:skipped -> $usual"
echo "'result:partial success'                  -> $named"
echo "the same in a YAML selector               -> $yaml"
echo "a rerun of the first selection exits with $rerun"
test "$code" = 1
test "$usual" = "shop.report "
test "$named" = ""
test "$yaml" = "shop.sales "
test "$rerun" = 0
