#!/bin/sh
# dbt-core: a source whose freshness could not be checked is absent from sources.json.
#
# A gate before a load reads sources.json and stops when a source has the status "error" or
# "warn". The artifact has a status for a check that broke, too: "runtime error" is in its
# published schema. One would expect a source whose table is gone, or whose query was refused, to
# be in it with that status. What happens instead: the source is left out, so that the one that
# is worst off cannot be seen. Only the exit code of the command and its log know.
#
# Who meets it: freshness gates and dashboards that read the artifact, as one has to with
# dbt Cloud, where the command ran elsewhere. Compare the artifact with the manifest.
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

cat >models/sources.yml <<'YAML'
sources:
  - name: raw
    schema: main
    config:
      loaded_at_field: loaded_at
      freshness: {warn_after: {count: 1, period: day}, error_after: {count: 9, period: day}}
    tables: [{name: fresh}, {name: stale}, {name: gone}]
YAML
python - <<'PY'
import duckdb
with duckdb.connect("shop.duckdb") as warehouse:
    warehouse.execute("create table fresh as select now()::timestamp as loaded_at")
    warehouse.execute("create table stale as select timestamp '2020-01-01' as loaded_at")
PY

code=0
dbt --quiet source freshness >log || code=$?
statuses=$(python - <<'PY'
import json
results = json.load(open("target/sources.json"))["results"]
print(*sorted(f"{result['unique_id'].split('.')[3]}={result['status']}" for result in results))
PY
)
known=$(dbt --quiet ls --resource-type source | tr '\n' ' ')

echo "dbt-core 1.12.6: dbt source freshness exits with $code"
echo "sources of the project: $known"
echo "in sources.json:        $statuses"
grep -q 'Table with name gone does not exist' log
test "$code" = 1
test "$statuses" = "fresh=pass stale=error"
