#!/usr/bin/env bash
# Every test: unit tests of the default and the sanitized build, end-to-end scripts, checks of the tree. One line each,
# logs under build/test-logs, and at the end `N passed, N failed, N skipped`.
set -uo pipefail
cd "$(dirname "$0")/.."

logs=build/test-logs
passed=0 failed=0 skipped=0

# What cmocka printed becomes counts; a program that died counts as one failure more.
count_cmocka() { # log status
    local ok bad skip
    ok=$(grep -c '^\[       OK \]' "$1"); bad=$(grep -c '^\[  FAILED  \] [a-z]' "$1"); skip=$(grep -c '^\[  SKIPPED \] [a-z]' "$1")
    [ "$2" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
    echo "$ok passed, $bad failed, $skip skipped"
}

run_unit() { # build program
    local name log status
    name=$(basename "$2") log=$logs/$1-$(basename "$2").log
    OMP_NUM_THREADS=2 timeout 900 "$2" >"$log" 2>&1; status=$?
    printf '%-32s %s\n' "$1 $name" "$(count_cmocka "$log" "$status")"
    count_cmocka "$log" "$status" >/dev/null
    [ "$status" -eq 0 ] || grep -E 'FAILED|ERROR|error' "$log" | head -20
}

run_script() { # name command...
    local name=$1 log=$logs/$1.log; shift
    if timeout 1800 "$@" >"$log" 2>&1; then
        passed=$((passed + 1)); printf '%-32s ok\n' "$name"
    else
        failed=$((failed + 1)); printf '%-32s FAILED, see %s\n' "$name" "$log"; tail -15 "$log"
    fi
}

scripts/install_deps.sh || exit 1
mkdir -p "$logs"
for asan in 0 1; do
    make -s -j"$(nproc)" ASAN=$asan train_gpt unit-tests || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }
done

for build in cpu asan; do
    for source in tests/test_*.c; do run_unit "$build" "build/$build/tests/$(basename "$source" .c)"; done
done
for script in tests/e2e/[a-z]*.sh; do
    [ "$(basename "$script")" = lib.sh ] || run_script "$(basename "$script" .sh)" bash "$script"
done
run_script sanitized-commands env TRAIN_GPT=build/asan/train_gpt bash tests/e2e/commands.sh
for check in layers style docs; do run_script "check_$check" bash "scripts/check_$check.sh"; done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
