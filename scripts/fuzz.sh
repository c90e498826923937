#!/usr/bin/env bash
# Fuzz targets (tests/fuzz/fuzz_*.c), two at a time: each runs every input of its committed corpus, then new ones for
# SECONDS. One line each, `ok` or `FAIL`; inputs that end the program badly are kept under build/fuzz/findings. Without
# clang and libFuzzer: exit status 77.
#   scripts/fuzz.sh [SECONDS] [TARGET]      SECONDS 15; TARGET such as json, all of them without. The new inputs come in
#                                           one order unless SEED in the environment, 0 for any, asks for another
#   scripts/fuzz.sh --keep [TARGET]         what the last run found of use goes into the corpus, reduced
set -euo pipefail
cd "$(dirname "$0")/.."

keep=
[ "${1:-}" != --keep ] || { keep=1; shift; set -- 0 "$@"; }
seconds=${1:-15} only=${2:-}
seed=${SEED:-1}
build=build/fuzz logs=build/fuzz/logs findings=build/fuzz/findings
export UBSAN_OPTIONS=print_stacktrace=1

mkdir -p "$logs" "$findings"
echo 'int LLVMFuzzerTestOneInput(const char *b, unsigned long n) { return b && n ? 0 : 0; }' >"$build/probe.c"
clang -fsanitize=fuzzer,address "$build/probe.c" -o "$build/probe" 2>/dev/null || {
    echo "clang with libFuzzer is not there: apt-get install clang libclang-rt-14-dev"
    exit 77
}
make -j"$(nproc)" FUZZ=1 fuzz >"$logs/build.log" 2>&1 || { tail -n 25 "$logs/build.log"; exit 1; }

# The inputs of a target: its corpus, and the small hostile files of its format.
gather() { # TARGET
    rm -rf "$build/corpus/$1"
    mkdir -p "$build/corpus/$1"
    cp -r "tests/fuzz/corpus/$1/." "$build/corpus/$1/"
    [ ! -d "tests/bad/$1" ] || cp "tests/bad/$1"/* "$build/corpus/$1/"
}

fuzz() { # TARGET
    local log=$logs/fuzz_$1.log status=0 executions
    gather "$1"
    "$build/fuzz_$1" -seed="$seed" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -max_len=16384 \
        -print_final_stats=1 -dict=tests/fuzz/words.dict -artifact_prefix="$findings/$1-" "$build/corpus/$1" \
        >"$log" 2>&1 || status=$?
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ $status -eq 0 ] && [ "${executions:-0}" -gt 0 ]; then
        echo "ok fuzz_$1 $executions executions"
        return
    fi
    echo "FAIL fuzz_$1 exit status $status; see $log"
    sed -n "s|.*written to \($findings/.*\)|    again: $build/fuzz_$1 \1|p" "$log"
}

# Small inputs that reach what those with names do not; these, seeds and regressions, stay as they are.
reduce() { # TARGET
    local corpus=tests/fuzz/corpus/$1 kept=$build/kept/$1
    [ -d "$build/corpus/$1" ] || gather "$1"
    find "$corpus" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
    mkdir -p "$build/kept"
    rm -rf "$kept"
    cp -r "$corpus" "$kept"
    "$build/fuzz_$1" -merge=1 -use_counters=0 -max_len=512 "$kept" "$build/corpus/$1" >"$logs/merge_$1.log" 2>&1
    cp "$kept"/* "$corpus/"
    echo "ok $1: $(find "$corpus" -type f | wc -l) inputs, $(du -sb "$corpus" | cut -f1) bytes"
}

targets=()
for source in tests/fuzz/fuzz_*.c; do
    name=${source#tests/fuzz/fuzz_} name=${name%.c}
    [ -n "$only" ] && [ "$only" != "$name" ] || targets+=("$name")
done
[ ${#targets[@]} -gt 0 ] || { echo "there is no target $only; tests/fuzz holds fuzz_TARGET.c"; exit 2; }

if [ -n "$keep" ]; then
    for name in "${targets[@]}"; do reduce "$name"; done
    exit
fi
export -f fuzz gather
export build logs findings seconds seed
printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -euo pipefail -c 'fuzz {}' | tee "$logs/summary"
! grep '^FAIL' "$logs/summary" >/dev/null
