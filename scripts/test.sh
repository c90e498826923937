#!/usr/bin/env bash
# Every test: unit tests of the default and of the sanitized build, the CUDA backend on the simulator, plain, sanitized
# and with the race check, end-to-end scripts, fuzz targets, checks of the tree. One line each, what they print under
# build/test-logs, and at the end `N passed, N failed, N skipped`. A unit test counts as one, and so do a script and a
# fuzz target. Exit status 77 of a script means skipped.
#   scripts/test.sh [--long]     --long: the end-to-end scripts that know it do more of the same (tests/e2e/faults.sh,
#                                kills.sh, damage.sh), and every one of them runs with the sanitized program, too
set -uo pipefail
cd "$(dirname "$0")/.." || exit

long=${1:-}
logs=build/test-logs
unit_seconds=900 script_seconds=900 fuzz_seconds=15
[ "$long" != --long ] || script_seconds=3600
passed=0 failed=0 skipped=0
export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive UBSAN_OPTIONS=print_stacktrace=1
unset MAKEFLAGS MFLAGS MAKELEVEL BUILD

finish() {
    echo "$passed passed, $failed failed, $skipped skipped" | tee "$logs/summary"
    [ "$failed" -eq 0 ]
    exit
}

# report NAME SECONDS PASSED FAILED SKIPPED REMARK: adds the counts, prints the line, and the end of a failed one's log.
report() {
    local word=ok
    passed=$((passed + $3)) failed=$((failed + $4)) skipped=$((skipped + $5))
    [ "$3" -gt 0 ] || word=skip
    [ "$4" -eq 0 ] || word=FAIL
    printf '%-4s  %-32s %4d s%s\n' "$word" "$1" "$2" "${6:+  $6}"
    [ "$4" -eq 0 ] || { tail -n 25 "$logs/$1.log" | sed 's/^/      | /'; echo "      | all of it: $logs/$1.log"; }
}

# run NAME LIMIT COMMAND...: into the log of that name; sets status, seconds and how.
run() {
    local name=$1 limit=$2 begin=$SECONDS; shift 2
    timeout -k 10 "$limit" "$@" >"$logs/$name.log" 2>&1 </dev/null
    status=$? seconds=$((SECONDS - begin)) how="exit status $status"
    [ $status -ne 124 ] || how="stopped after $limit s"
    [ $status -le 128 ] || how="killed by SIG$(kill -l $status)"
}

# What cmocka printed in TAP, as "PASSED FAILED SKIPPED". Tests that were announced and never told of have failed, and a
# program that ends badly has at least one failure.
count_tap() { # LOG STATUS
    awk -v status="$2" '
        /^1\.\.[0-9]+$/ { planned = substr($0, 4) }
        /^(not )?ok .*# SKIP/ { skip++; next }
        /^ok [0-9]/ { ok++ }
        /^not ok [0-9]/ { bad++ }
        END {
            silent = planned - ok - bad - skip
            if (silent > 0) bad += silent
            if ((status != 0 || planned == 0) && bad == 0) bad = 1
            print ok + 0, bad + 0, skip + 0
        }' "$1"
}

unit() { # BUILD PROGRAM
    local name=$1-$2 counts remark
    CMOCKA_MESSAGE_OUTPUT=TAP run "$name" $unit_seconds "build/$1/tests/$2"
    read -ra counts <<<"$(count_tap "$logs/$name.log" $status)"
    remark="${counts[0]} passed"
    [ "${counts[2]}" -eq 0 ] || remark+=", ${counts[2]} skipped"
    [ "${counts[1]}" -eq 0 ] || remark+=", ${counts[1]} failed, $how"
    report "$name" $seconds "${counts[@]}" "$remark"
}

script() { # NAME COMMAND...
    local name=$1; shift
    run "$name" $script_seconds "$@"
    case $status in
    0) report "$name" $seconds 1 0 0 "" ;;
    77) report "$name" $seconds 0 0 1 "$(tail -n 1 "$logs/$name.log")" ;;
    *) report "$name" $seconds 0 1 0 "$how" ;;
    esac
}

end_to_end() { # BUILD SCRIPT ARGUMENT...
    script "$1-$(basename "$2" .sh)" env TRAIN_GPT="build/$1/train_gpt" bash "${@:2}"
}

# Each target a test, by the lines that scripts/fuzz.sh prints.
fuzz() {
    local word name remark count=0
    [ "$(id -u)" -ne 0 ] || run install-fuzz 1800 scripts/install_deps.sh --fuzz
    run fuzz $script_seconds scripts/fuzz.sh $fuzz_seconds
    [ $status -ne 77 ] || { report fuzz $seconds 0 0 1 "$(tail -n 1 "$logs/fuzz.log")"; return; }
    while read -r word name remark; do
        count=$((count + 1))
        cp "build/fuzz/logs/$name.log" "$logs/$name.log"
        case $word in
        ok) report "$name" $fuzz_seconds 1 0 0 "$remark" ;;
        *) report "$name" $fuzz_seconds 0 1 0 "$remark" ;;
        esac
    done < <(grep -E '^(ok|FAIL) ' "$logs/fuzz.log")
    [ $count -gt 0 ] || report fuzz $seconds 0 1 0 "$how"
}

# ---- all of them ----

mkdir -p "$logs"
rm -f "$logs"/*
run install 1800 scripts/install_deps.sh
[ $status -eq 0 ] || { report install $seconds 0 1 0 "$how"; finish; }

declare -A features=([cpu]="CUDA=0" [asan]="CUDA=0 ASAN=1" [sim]="SIM=1" [sim-asan]="SIM=1 ASAN=1"
    [sim-race]="SIM=1 RACE=1")
for build in cpu asan sim sim-asan sim-race; do
    read -ra switches <<<"${features[$build]}"
    run "build-$build" 1800 make -j"$(nproc)" "${switches[@]}" unit-tests
    [ $status -eq 0 ] || { report "build-$build" $seconds 0 1 0 "$how"; finish; }
    printf 'ok    %-32s %4d s  %s\n' "build-$build" $seconds "$(head -n 1 "$logs/build-$build.log")"
done

for build in cpu asan; do
    for source in tests/test_*.c; do unit $build "$(basename "$source" .c)"; done
done

# Of the simulator's builds, what touches a device.
for source in tests/test_{kernels_*,services,telemetry,training,generate,comm*,sharding,cudasim*}.c*; do
    name=$(basename "${source%.*}")
    unit sim "$name"
    case $name in test_kernels_* | test_cudasim*) unit sim-asan "$name"; unit sim-race "$name" ;; esac
done

for source in tests/e2e/*.sh; do
    case $source in
    */lib.sh) continue ;;
    */cuda.sh) end_to_end sim "$source"; continue ;;
    */ranks.sh) end_to_end sim "$source" $long ;;
    */commands.sh | */bad_input.sh) end_to_end asan "$source" ;;
    *) [ "$long" != --long ] || end_to_end asan "$source" ;;
    esac
    end_to_end cpu "$source" $long
done

fuzz

for check in layers style docs hardening cuda; do
    script "check_$check" env TRAIN_GPT=build/cpu/train_gpt "scripts/check_$check.sh"
done
script sim-check_hardening env TRAIN_GPT=build/sim/train_gpt scripts/check_hardening.sh
finish
