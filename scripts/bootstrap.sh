# shellcheck shell=sh
# Sourced by the scripts beside it: goes to the root of the repository and sees to it
# that .venv holds this package and the pinned tools. Needs a Python >= 3.11 with
# `venv` and `pip`, nothing else; PYTHON names another interpreter than the one found.

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
    for candidate in python3.11 python3.12 python3.13 python3.14 python3 python; do
        # Every one on the PATH is tried: the first may lack `ensurepip`.
        for found in $(printf '%s\n' "$PATH" | tr ':' '\n' | sed "s|\$|/$candidate|"); do
            if [ -x "$found" ] && usable_python "$found"; then
                printf '%s\n' "$found"
                return
            fi
        done
    done
    fail "No Python >= 3.11 with venv and pip was found. Install one, or name it: PYTHON=/path/to/python $0"
}

wanted_stamp() {
    cat pyproject.toml constraints.txt scripts/bootstrap.sh | cksum
}

cd "$(dirname "$0")/.." || exit 1

if [ ! -x .venv/bin/python ] || ! usable_python .venv/bin/python; then
    python=$(find_python) || exit 1
    say "making .venv with $("$python" --version) ($python)"
    "$python" -m venv --clear .venv || fail "Could not make .venv."
fi

if [ "$(cat .venv/async-triggers.stamp 2>/dev/null)" != "$(wanted_stamp)" ]; then
    say "installing the package and its tools into .venv (some minutes the first time)"
    # Dependency groups need pip >= 25.1.
    .venv/bin/python -m pip install -qq --disable-pip-version-check \
        --upgrade 'pip>=25.1' || fail "Could not update pip."
    .venv/bin/python -m pip install -qq --disable-pip-version-check \
        --constraint constraints.txt --group dev --editable '.[demo]' ||
        fail "Could not install the package."
    wanted_stamp > .venv/async-triggers.stamp
fi

PATH=$PWD/.venv/bin:$PATH
# What imports Airflow reads its settings, and writes them where there are none: not
# those of whoever runs this.
for setting in $(env | sed -n 's/^\(AIRFLOW_[A-Za-z0-9_]*\)=.*/\1/p'); do
    unset "$setting"
done
AIRFLOW_HOME=$PWD/.airflow/home
export PATH AIRFLOW_HOME
