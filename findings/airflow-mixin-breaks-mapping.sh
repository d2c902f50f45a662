#!/bin/sh
# Airflow: an empty mixin in front of BaseOperator makes every mapped task of the class fail.
#
# "class Copy(Labelled, BaseOperator)" is how Python classes take a mixin, and one would expect
# such an operator to behave the same with and without dynamic task mapping. What happens
# instead: a plain task succeeds, and each mapped one fails with "'NoneType' object is not
# iterable", before its code runs. Airflow's metaclass takes the inherited constructor for the
# class's own where the first base has another one, object's in this case. Mapping then reads
# BaseOperator's signature for the defaults, which has None for inlets and outlets in the place
# of empty lists. With the mixin behind BaseOperator the same tasks succeed.
#
# Who meets it: authors of operators that share code by mixins, once a user maps them.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet apache-airflow==3.3.2 \
    apache-airflow-task-sdk==1.3.2 apache-airflow-providers-standard==1.21.0
export PATH="$work/venv/bin:$PATH" AIRFLOW_HOME="$work/airflow"
export AIRFLOW__CORE__LOAD_EXAMPLES=False
mkdir -p "$AIRFLOW_HOME/dags"
cat >"$AIRFLOW_HOME/dags/copies.py" <<'PY'
from importlib.metadata import version

from airflow.sdk import DAG, BaseOperator


class Labelled:
    """Adds nothing."""


class MixinFirst(Labelled, BaseOperator):
    def execute(self, context):
        return 1


class MixinLast(BaseOperator, Labelled):
    def execute(self, context):
        return 1


with DAG("copies", schedule=None) as dag:
    for cls in (MixinFirst, MixinLast):
        cls(task_id=f"{cls.__name__}-plain")
        cls.partial(task_id=f"{cls.__name__}-mapped").expand(doc_md=["orders"])

if __name__ == "__main__":
    run = dag.test()
    states = {each.task_id: str(each.state) for each in run.get_task_instances()}
    print("apache-airflow", version("apache-airflow"))
    for task, state in sorted(states.items()):
        print(f"{task}: {state}")
    assert states == {
        "MixinFirst-plain": "success",
        "MixinFirst-mapped": "failed",
        "MixinLast-plain": "success",
        "MixinLast-mapped": "success",
    }
PY
cd "$work"
airflow db migrate >log 2>&1
if ! python "$AIRFLOW_HOME/dags/copies.py" >out 2>log; then
    cat out log
    exit 1
fi
grep -E '^(apache-airflow|Mixin)' out
grep -o "TypeError: 'NoneType' object is not iterable" out log | sort | uniq -c
