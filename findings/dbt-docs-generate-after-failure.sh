#!/bin/sh
# dbt-core: "dbt docs generate" after a failed run turns the failure into success.
#
# A job runs its models and generates the documentation afterwards, also when a model failed, so
# that the catalog stays fresh. One would expect the documentation step to write the catalog and
# the manifest. What happens instead: it compiles every node and writes run_results.json too,
# over the one of the run. The failed model, and tests that never ran, now have the status
# "success"; "result:error" selects nothing; and "dbt retry" ends with "No such option", about an
# option of the documentation command that nobody gave.
#
# Who meets it: whoever collects artifacts at the end of a job (lineage, alerts, reruns). Copy
# run_results.json before the documentation step, or run that step with --no-compile.
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

echo "select * from table_that_is_missing" >models/orders.sql
cat >models/orders.yml <<'YAML'
models:
  - name: orders
    columns: [{name: id, data_tests: [not_null]}]
YAML

outcomes() {
    python - <<'PY'
import json
artifact = json.load(open("target/run_results.json"))
results = ", ".join(
    "{} {}".format(result["unique_id"].split(".")[2].removesuffix("_id"), result["status"])
    for result in sorted(artifact["results"], key=lambda result: result["unique_id"])
)
print(f"by dbt {artifact['args']['which']}: {results}")
PY
}
run=0
dbt --quiet build >log || run=$?
before=$(outcomes)
docs=0
dbt --quiet docs generate >log || docs=$?
after=$(outcomes)
selected=$(dbt --quiet ls --select result:error --state target)
retry=0
dbt --quiet --no-use-colors retry >retry.log || retry=$?
dbt --quiet build >log || true
dbt --quiet docs generate --no-compile >log
kept=$(outcomes)

echo "dbt-core 1.12.6: dbt build exits with $run, dbt docs generate with $docs"
echo "run_results.json after the build: $before"
echo "run_results.json after the docs:  $after"
echo "result:error then selects: '$selected'"
echo "dbt retry exits with $retry: $(grep -m 1 'No such option' retry.log)"
echo "after another build, with docs generate --no-compile: $kept"
test "$run" = 1
test "$before" = "by dbt build: orders error, not_null_orders skipped"
test "$docs" = 0
test "$after" = "by dbt generate: orders success, not_null_orders success"
test "$selected" = ""
test "$retry" = 2
test "$kept" = "$before"
grep -q 'No such option' retry.log
