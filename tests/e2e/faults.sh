#!/usr/bin/env bash
# Every file operation of a run fails, or is the last thing that its process does: the run ends well or says that it
# cannot write, and what is left goes on to the same end, bit for bit.
#   faults.sh [--long]     --long: each operation of all cases with each kind of fault; else each operation of a start
#                          with one kind of error and with death, and a part of the others
. "$(dirname "$0")/lib.sh"
long=${1:-}
make_text 60 >text.txt
make_text 40 >other.txt
prepare() { timeout 60 "$program" prepare "$1.txt" --tokenizer byte --out "$2" --shard-tokens 1024; }
sums() { (cd "$1" && sha256sum -- *); }
for name in text other; do
    prepare $name $name >prepare.log 2>&1 || { cat prepare.log; fail prepare; }
    sums $name >$name.sums
done
data=(data.train='text/train_*.bin' data.val='text/val_*.bin' threads=1 model.depth=1 model.width=16 model.heads=1
    train.steps=6 eval.every=3 eval.tokens=64 checkpoint.every=2)

# ---- cases: what stands there before, what the fault strikes, and what must follow without it ----

again() { timeout 60 "$program" train "$tiny" "${data[@]}" --resume run.dir="$@"; }
goes_on() { # RUN STATUS
    [ "$2" -eq 0 ] || again "$1" >"$1.again" 2>&1 || { cat "$1.again"; fail "the resume ends with $?"; }
    [ "$2" -eq 0 ] || [ "$(grep -c damaged "$1.again")" -eq 0 ] || { cat "$1.again"; fail "a damaged checkpoint"; }
    same_run whole "$1"
}
start_before() { :; }
start_act() { again "$1"; }
start_after() { goes_on "$@"; }

resume_before() { cp -r killed "$1"; } # in the middle of a checkpoint
resume_act() { again "$1"; }
resume_after() { goes_on "$@"; }

older_before() { cp -r kept "$1"; } # with later ones, which are set aside
older_act() { timeout 60 "$program" resume "$1/checkpoints/step_00000002"; }
older_after() { goes_on "$@"; }

prepare_before() { cp -r text "$1"; } # which is replaced
prepare_act() { prepare other "$1"; }
prepare_after() {
    if [ "$2" -ne 0 ] && [ -e "$1/dataset.json" ]; then
        rm -rf "$1/prepare.partial"
        sums "$1" >"$1.sums"
        cmp -s "$1.sums" text.sums || cmp -s "$1.sums" other.sums || fail "neither the old nor the new: $(ls "$1")"
    fi
    prepare other "$1" >"$1.again" 2>&1 || { cat "$1.again"; fail "prepare again ends with $?"; }
    diff <(sums "$1") other.sums || fail "prepare again made something else"
}

# ---- every operation ----

strike() { # "CASE RULE"
    local case=${1% *} rule=${1#* } status=0
    local run=$case-$rule
    "${case}_before" "$run"
    { THALWEG_FAULT=$rule "${case}_act" "$run"; } >"$run.log" 2>&1 </dev/null || status=$?
    case $rule:$status in
    *:0 | *:E*:73 | *:kill:137 | *:torn:137) ;;
    *) cat "$run.log"; fail "$run ends with $status" ;;
    esac
    ("${case}_after" "$run" $status) || { sed 's/^/    | /' "$run.log"; fail "after $run"; }
    rm -r "$run"
}

# sweep CASE OPERATIONS EVERY KIND...: of all the operations or of the writes, every EVERY-th, with the kinds in turn.
sweep() {
    local case=$1 pattern=. every=$3 operations strikes=() i
    [ "$2" = all ] || pattern=write
    shift 3
    strike "$case 1+:tell"
    readarray -t operations < <(sed -n "/THALWEG_FAULT.*$pattern/s/[^0-9]*\([0-9]*\).*/\1/p" "$case-1+:tell.log")
    for ((i = 0; i * every < ${#operations[@]}; i++)); do
        strikes+=("$case ${operations[i * every]}${@:i % $# + 1:1}")
    done
    in_pairs strike "${strikes[@]}"
    echo "$case: ${#strikes[@]} of ${#operations[@]} operations, $*"
}

# ---- the runs that they are compared with and begin from ----

made() { "$@" >train.log 2>&1 || { cat train.log; fail "$*"; }; }
made again whole
THALWEG_FAULT=1+:tell made again kept checkpoint.keep=0
middle=$(($(grep -c THALWEG_FAULT train.log) * 3 / 5))
status=0 && { THALWEG_FAULT=$middle:kill again killed; } >train.log 2>&1 || status=$?
[ $status -eq 137 ] || { cat train.log; fail "operation $middle did not end it"; }
ls -d killed/checkpoints/*.tmp >/dev/null || fail "operation $middle is not in the middle of a checkpoint"

every=3
[ "$long" != --long ] || every=1
errors=(:EIO +:ENOSPC :ENOSPC +:EIO)
for case in start prepare resume older; do
    each=$every
    case $case in start | prepare) each=1 ;; esac
    if [ "$long" = --long ]; then
        for error in "${errors[@]}"; do sweep $case all 1 $error; done
    else
        sweep $case all $each "${errors[@]}"
    fi
    sweep $case all $each :kill
    sweep $case writes $each :short
    sweep $case writes $each :torn
done
