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

# Starts the nf-test suites beside the others: nf-test runs one test at a time and leaves a core idle.
# Two of it at once in a folder remove each other's files.
start_nf_tests() {
    nf_log=$(mktemp)
    set -m # its own process group, which ends with this script
    nf-test test --ci "$@" > "$nf_log" 2>&1 < /dev/null &
    set +m
    nf_running=$!
    trap 'kill -- "-$nf_running" 2> /dev/null || true' EXIT
}

# Waits for the suites started last. nf-test calls an empty run a success.
# shellcheck disable=SC2317  # called through suite
nf_tests() {
    local code=0
    wait "$nf_running" || code=$?
    trap - EXIT
    cat "$nf_log"
    ! grep -q "No tests to execute" "$nf_log" || code=1
    rm -f "$nf_log"
    return "$code"
}

skip() { summary+=("SKIPPED: $1 ($2)"); }

if [[ ${1:-} != lint ]]; then
    command -v nf-test > /dev/null && nf_test=1 || nf_test=0
    # nf-test runs a tag, but not all but a tag. pytest runs these stubs, too, in one pipeline,
    # and scans with more checks.
    nf_suites=(modules/*/tests/main.nf.test tests/default.nf.test)
    [[ ${1:-} != full ]] || nf_suites+=(modules/*/tests/stub.nf.test tests/scan.nf.test)
    ((!nf_test)) || start_nf_tests "${nf_suites[@]}"
fi
suite "formatting" ruff format --check .
suite "lint" ruff check .
suite "types" mypy
if [[ ${1:-} != lint ]]; then
    suite "pytest" pytest -rs --durations 20 --numprocesses logical --maxprocesses 4 \
        --dist loadscope --no-loadscope-reorder
    if ((nf_test)); then
        suite "nf-test suites" nf_tests
        if nvidia-smi -L > /dev/null 2>&1; then
            start_nf_tests --tag gpu
            suite "nf-test suites on a GPU" nf_tests
        else
            skip "nf-test suites on a GPU" "nvidia-smi finds none"
        fi
    else
        skip "nf-test suites" "nf-test is not on PATH"
    fi
    if [[ ${1:-} == full ]]; then
        suite "slow pytest suites" pytest -rs -m slow
    else
        skip "slow pytest suites" "minutes to hours each; run them with: make test-full"
        ((!nf_test)) || skip "nf-test suites of single stubs and of a scan" "run them with: make test-full"
    fi
fi

echo
printf '%s\n' "${summary[@]}"
exit "$failed"
