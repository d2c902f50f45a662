# shellcheck shell=sh
# Sourced by the scripts beside it: goes to the root of the repository and sees to it
# that a virtual environment holds this package and the pinned tools. Needs a
# Python >= 3.11 with `venv` and `pip`, nothing else; PYTHON names another interpreter
# than the one found.
#
# --airflow takes a version of Airflow, one of constraints/*.txt or a pre-release, which is
# installed with what pip finds for it, and --python one of Python, for example 3.12. Each
# choice but the default has an environment of its own: .venv-3.1.8, .venv-3.3.2-py3.12.

DEFAULT_AIRFLOW=3.3.2

say() {
    if [ -t 2 ]; then
        printf '\033[1m==> %s\033[0m\n' "$*" >&2
    else
        printf '==> %s\n' "$*" >&2
    fi
}

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Options of every script; they stand before all others.
airflow=$DEFAULT_AIRFLOW
python_version=
while [ "${1:-}" = --airflow ] || [ "${1:-}" = --python ]; do
    [ $# -ge 2 ] || fail "$1 needs a version."
    case $1 in
        --airflow) airflow=$2 ;;
        --python) python_version=$2 ;;
    esac
    shift 2
done

# Of the script that sources this: the comment at its head.
case "${1:-}" in
    -h | --help) sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0" && exit 0 ;;
esac

usable_python() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
        >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        usable_python "$PYTHON" || fail "PYTHON=$PYTHON is no Python >= 3.11 with venv and pip."
        printf '%s\n' "$PYTHON"
        return
    fi
    if [ -n "$python_version" ]; then
        candidates="python$python_version"
        # Those of pyenv are on the PATH only for who has chosen one of them.
        for found in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$python_version".*/bin/python; do
            if [ -x "$found" ] && usable_python "$found"; then
                printf '%s\n' "$found"
                return
            fi
        done
    else
        candidates="python3.11 python3.12 python3.13 python3.14 python3 python"
    fi
    for candidate in $candidates; do
        # Every one on the PATH is tried: the first may lack `ensurepip`.
        for found in $(printf '%s\n' "$PATH" | tr ':' '\n' | sed "s|\$|/$candidate|"); do
            if [ -x "$found" ] && usable_python "$found"; then
                printf '%s\n' "$found"
                return
            fi
        done
    done
    fail "No Python ${python_version:-">= 3.11"} with venv and pip was found. Install one, or name it: PYTHON=/path/to/python $0"
}

wanted_stamp() {
    cat pyproject.toml "$constraints" $more scripts/bootstrap.sh | cksum
}

cd "$(dirname "$0")/.." || exit 1

constraints=constraints/$airflow.txt
case $airflow in
    *[abc][0-9]*) constraints=/dev/null ;;
esac
[ -r "$constraints" ] ||
    fail "There is no $constraints. Airflow is one of: $(ls constraints | sed 's/\.txt$//' | tr '\n' ' ')"

# What checks and measures is installed for the default alone.
groups="--group test --group benchmark"
venv=.venv-$airflow${python_version:+-py$python_version}
more=
if [ "${1:-}" = lineage ] || [ "${1:-}" = celery ]; then
    # What these tests need changes what Airflow does in all others.
    groups="--group test --group $1"
    venv=$venv-$1
    more=tests/$1-constraints.txt
elif [ "$airflow" = "$DEFAULT_AIRFLOW" ] && [ -z "$python_version" ]; then
    groups="--group dev"
    venv=.venv
fi

# Not so where its Python has gone, or where making it was interrupted.
if ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
    python=$(find_python) || exit 1
    say "making $venv with $("$python" --version) ($python)"
    "$python" -m venv --clear "$venv" || fail "Could not make $venv."
fi

if [ "$(cat "$venv/async-triggers.stamp" 2>/dev/null)" != "$(wanted_stamp)" ]; then
    say "installing the package and its tools into $venv (some minutes the first time)"
    # Dependency groups need pip >= 25.1.
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check \
        --upgrade 'pip>=25.1' || fail "Could not update pip."
    # shellcheck disable=SC2086 # two words or four
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check \
        --constraint "$constraints" ${more:+--constraint "$more"} $groups \
        "apache-airflow==$airflow" --editable '.[demo]' ||
        fail "Could not install the package."
    wanted_stamp > "$venv/async-triggers.stamp"
fi

PATH=$PWD/$venv/bin:$PATH
# What imports Airflow reads its settings, and writes them where there are none: not
# those of whoever runs this.
for setting in $(env | sed -n 's/^\(AIRFLOW_[A-Za-z0-9_]*\)=.*/\1/p'); do
    unset "$setting"
done
AIRFLOW_HOME=$PWD/.airflow/home
[ "$venv" = .venv ] || AIRFLOW_HOME=$PWD/.airflow/home-${venv#.venv-}
export PATH AIRFLOW_HOME
