#!/bin/sh
# Airflow: a provider's example DAGs are found by the name of its distribution.
#
# Since Airflow 3.3 load_examples also shows the example DAGs of installed providers. A provider
# of a third party registers through an entry point, which names its module, so one would expect
# Airflow to look for the folder example_dags there. What happens instead: Airflow replaces the
# dashes in the distribution's name by underscores and imports that. A provider whose module is
# called otherwise, as the convention "airflow-provider-NAME" makes it, shows no examples, and
# each component that lists DAG bundles logs an error with a traceback for it.
#
# Who meets it: users of third-party providers with load_examples on, who take the traceback for
# a broken installation; authors of providers, whose examples are never shown.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet apache-airflow==3.3.2 \
    apache-airflow-task-sdk==1.3.2 apache-airflow-providers-standard==1.21.0
export PATH="$work/venv/bin:$PATH" AIRFLOW_HOME="$work/airflow"
export AIRFLOW__CORE__LOAD_EXAMPLES=True

# Two installed providers, of which only the first is named as its module is.
for name in acme airflow-provider-umbrella; do
    module=${name##*-}
    info=$work/site/$(echo "$name" | tr - _)-1.0.dist-info
    mkdir -p "$work/site/$module/example_dags" "$info"
    echo "def info(): return {'package-name': '$name', 'name': '$module', 'description': ''}" \
        >"$work/site/$module/__init__.py"
    printf 'Metadata-Version: 2.1\nName: %s\nVersion: 1.0\n' "$name" >"$info/METADATA"
    printf '[apache_airflow_provider]\nprovider_info = %s:info\n' "$module" \
        >"$info/entry_points.txt"
done
cat >"$work/bundles.py" <<'PY'
from importlib.metadata import version

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.providers_manager import ProvidersManager

known = {each for each in ProvidersManager().providers if each[:2] in ("ac", "ai")}
bundles = {each.name for each in DagBundlesManager().get_all_dag_bundles()}
print("apache-airflow", version("apache-airflow"))
print("providers:", sorted(known))
print("bundles of examples:", sorted(each for each in bundles if "example" in each))
assert known == {"acme", "airflow-provider-umbrella"}
assert "acme-example-dags" in bundles
assert "airflow-provider-umbrella-example-dags" not in bundles
PY
PYTHONPATH="$work/site" python "$work/bundles.py" >"$work/out" 2>&1 || {
    cat "$work/out"
    exit 1
}
grep "^apache-airflow \|^providers\|^bundles\|^ModuleNotFoundError" "$work/out"
grep -q "^ModuleNotFoundError: No module named 'airflow_provider_umbrella'" "$work/out"
