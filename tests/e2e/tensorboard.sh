#!/usr/bin/env bash
# TensorBoard's event files show each step once, with the numbers of metrics.jsonl, whatever became of the run on its
# way: killed, resumed, rolled back, branched.
. "$(dirname "$0")/lib.sh"
make_text 60 >text.txt
"$program" prepare text.txt --tokenizer byte --out shards >prepare.log 2>&1 || { cat prepare.log; fail prepare; }
data+=(threads=1 model.depth=1 model.width=16 model.heads=1 train.steps=60 eval.every=8 eval.tokens=64
    checkpoint.every=10 checkpoint.keep=0 checkpoint.async=false)

events_of() { # RUN: in the order of reading
    local file
    for file in "$1"/events.out.tfevents.*; do
        [ ! -e "$file" ] || od -An -v -w1 -tu1 "$file" | awk -f "$root/tests/e2e/events.awk"
    done
}

# Readers that know the mark that a run begins again drop what they have from its step on; others drop from each tag
# what is not before the number that comes, and so keep a spike that was rolled back.
shown() { awk -v marks="$1" '
    $1 == "start" { for (i in value) { split(i, k, " "); if (marks && k[2] >= $2) delete value[i] } next }
    !marks { for (i in value) { split(i, k, " "); if (k[1] == $1 && k[2] >= $2) delete value[i] } }
    { if ($1 " " $2 in value) { print "twice: " $0; exit 1 } value[$1 " " $2] = $3 }
    END { for (i in value) print i, value[i] }'; }

# The same of metrics.jsonl.
told() { awk '
    function tell(tag, key) {
        if (!match($0, "\"" key "\":[^,}]*")) return
        value = substr($0, RSTART + length(key) + 3, RLENGTH - length(key) - 3)
        print tag, step, value == "null" ? "nan" : value
    }
    { match($0, /"step":[0-9]+/); step = substr($0, RSTART + 7, RLENGTH - 7) }
    match($0, /"event":"[a-z_]*/) { print "stability/" substr($0, RSTART + 9, RLENGTH - 9), step, 1; next }
    { tell("train/loss", "loss"); tell("optim/lr", "lr"); tell("optim/grad_norm", "grad_norm")
      tell("stability/skipped_total", "skipped"); tell("perf/tokens_per_s", "tokens_per_second")
      tell("val/loss", "val_loss"); tell("val/bpb", "val_bits_per_byte") }
    /"loss"/ { tell("progress/tokens", "tokens"); tell("progress/seconds", "seconds") }' "$1/metrics.jsonl"; }

shows() { # RUN FILES
    local marks
    [ "$(ls "$1"/events.out.tfevents.* | wc -l)" -eq "$2" ] || fail "not $2 files: $(ls "$1")"
    events_of "$1" >events.txt || fail "$1: $(tail -n 1 events.txt)"
    told "$1" | sort >told.txt
    for marks in 1 0; do
        shown $marks <events.txt >shown.txt || fail "$1: $(tail -n 1 shown.txt)"
        [ $marks -eq 1 ] || sed -i '/^stability.spike/d' shown.txt told.txt
        sort shown.txt >sorted.txt
        paste -d ' ' told.txt sorted.txt >both.txt
        awk 'function size(x) { return x < 0 ? -x : x }
            NF != 6 || $1 != $4 || $2 != $5 || ($3 == "nan") != ($6 == "nan") || size($3 - $6) > 1e-6 * size($3) {
                print; exit 1 }' both.txt >wrong.txt ||
            fail "$1, marks $marks: metrics and events differ: $(cat wrong.txt)"
    done
    [ -s both.txt ] || fail "nothing is shown"
}

echo "== killed again and again, in the middle of a write as well"
THALWEG_FAULT=1+:tell train run.dir=whole
shows whole 1
[ "$(wc -l <both.txt)" -eq $((60 * 7 + 9 * 2)) ] || fail "$(wc -l <both.txt) numbers are shown"
writes=($(sed -n 's/^THALWEG_FAULT: operation \([0-9]*\), a write/\1/p' train.log))
struck() { # RULE: the run that goes on ends so
    local status=0
    { THALWEG_FAULT=$1 "$program" train "$tiny" "${data[@]}" run.dir=struck --resume; } >train.log 2>&1 </dev/null ||
        status=$?
    [ $status -eq 137 ] || { cat train.log; fail "$1: exit $status"; }
}
for i in 25 26 70 71; do # metrics and events take turns
    rm -rf struck
    { struck "${writes[i]}:torn"; struck 45:kill; } 2>shell.log
    train run.dir=struck --resume
    same_run whole struck
    shows struck 3
done

echo "== event files that were removed, and none for a while: all is written again"
stop() { expect 75 'stopped at step' "$program" "$@"; }
stop train "$tiny" "${data[@]}" run.dir=bare train.stop_at=20
rm bare/events.out.tfevents.*
stop resume bare train.stop_at=30
shows bare 1
stop resume bare train.stop_at=40 log.tensorboard=false
resume bare train.stop_at=0 log.tensorboard=true
same_run whole bare
shows bare 2
train run.dir=off train.steps=3 log.tensorboard=false
[ -z "$(compgen -G 'off/*tfevents*')" ] || fail "log.tensorboard=false: $(ls off)"

echo "== an older checkpoint, a branch, two ranks"
resume whole/checkpoints/step_00000030
shows whole 2
resume whole/checkpoints/step_00000030 --into branch
shows branch 1
head -n 2 events.txt >first.txt
grep -qx 'start 0' first.txt && grep -q ' 31 ' first.txt || fail "a branch begins with $(cat first.txt)"
train run.dir=two train.steps=10 --ranks 2
shows two 1

echo "== rollbacks, and numbers that are not finite"
back=(train.steps=100 eval.every=7 train.on_spike=rollback train.rollback_steps=15 train.rollback_skip=5)
export THALWEG_PLANT=80:1:99:1e6,86:0:33:nan
train run.dir=back "${back[@]}"
grep -q 'rollback 1 of 3' train.log || { cat train.log; fail "nothing was rolled back"; }
shows back 1
grep -q 'start 60' events.txt && grep -q 'grad_norm 61 nan' shown.txt || fail "the rollback to step 60 is not told"
grep -qx 'stability/rollback 60 1' shown.txt || fail "a rollback is not shown"
