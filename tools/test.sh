#!/usr/bin/env bash
# Runs the suites, all of them even after a failure, and says what was skipped and why.
# Run through 'make test', 'make test-full' or 'make lint'.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
export PATH=$PWD/.venv/bin:$PWD/.tools/bin:$PATH
# Each of some hundred short runs of Nextflow would start collector threads on every core.
export NXF_OPTS=${NXF_OPTS:--XX:+UseSerialGC}

summary=()
failed=0

suite() {
    local name=$1
    shift
    echo
    echo "== $name: $*"
    if "$@" < /dev/null; then
        summary+=("PASSED: $name")
    else
        summary+=("FAILED: $name (exit $?)")
        failed=1
    fi
}

# nf-test calls an empty run a success.
# shellcheck disable=SC2317  # called through suite
nf_tests() {
    local log
    log=$(mktemp)
    nf-test test --ci "$@" 2>&1 | tee "$log" && ! grep -q "No tests to execute" "$log"
    local code=$?
    rm -f "$log"
    return "$code"
}

skip() { summary+=("SKIPPED: $1 ($2)"); }

suite "formatting" ruff format --check .
suite "lint" ruff check .
suite "types" mypy
if [[ ${1:-} != lint ]]; then
    suite "pytest" pytest -rs --durations 20 --numprocesses logical --maxprocesses 4 \
        --dist loadscope --no-loadscope-reorder
    if [[ ${1:-} == full ]]; then
        suite "slow pytest suites" pytest -rs -m slow
    else
        skip "slow pytest suites" "minutes to hours each; run them with: make test-full"
    fi
    if ! command -v nf-test > /dev/null; then
        skip "nf-test suites" "nf-test is not on PATH"
    else
        # nf-test runs a tag, but not all but a tag
        suite "nf-test suites" nf_tests modules tests/default.nf.test
        if nvidia-smi -L > /dev/null 2>&1; then
            suite "nf-test suites on a GPU" nf_tests --tag gpu
        else
            skip "nf-test suites on a GPU" "nvidia-smi finds none"
        fi
    fi
fi

echo
printf '%s\n' "${summary[@]}"
exit "$failed"
