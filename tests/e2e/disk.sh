#!/usr/bin/env bash
# A disk that fills up, and files that may not grow: the run goes on with what it has, says so, ends with 73, and when
# there is room again it goes on to the same end, bit for bit.
. "$(dirname "$0")/lib.sh"
make_shards
data+=(threads=1 model.depth=1 model.width=16 model.heads=1 train.steps=2000 eval.every=500 eval.tokens=64
    checkpoint.every=200 checkpoint.keep=1)
train run.dir=whole

warned() { # TIMES PATTERN
    [ "$(grep -cE "$2" start.log)" -ge "$1" ] || { cat start.log; fail "not $1 times: $2"; }
}

limited() { # KIB RUN
    (ulimit -f "$1" && exec env --default-signal=XFSZ "$program" train "$tiny" "${data[@]}" run.dir="$2") \
        >start.log 2>&1 </dev/null & started=$!
}

echo "== files may not become as large as a checkpoint"
limited 40 small
ends_with 73
warned 10 'safetensors: .* failed: File too large; raise'
warned 1 'metrics.jsonl: its lines wait'
train run.dir=small --resume
same_run whole small

echo "== nor as the metrics: their lines wait in the checkpoints"
limited 220 waiting
ends_with 73
[ -d waiting/checkpoints/step_00002000 ] || fail "the last checkpoint was not written"
[ "$(wc -l <waiting/metrics.jsonl)" -lt 1900 ] || fail "the metrics have grown"
cp -r waiting later
resume waiting # there is nothing else to do
same_run whole waiting
"$program" resume later train.steps=2100 >resume.log 2>&1 || fail "resume later"
[ "$(grep -c grad_norm later/metrics.jsonl)" -eq 2100 ] || fail "lines are lost"

echo "== messages that cannot be written stop nothing"
"$program" train "$tiny" "${data[@]}" run.dir=silent 2>/dev/full || fail "exit $?"
same_run whole silent

mkdir disk
mount -t tmpfs -o size=16m tmpfs disk 2>/dev/null || { echo "no small disk can be mounted here"; exit 77; }
trap '[ -z "$started" ] || kill -KILL "$started" 2>/dev/null || true; umount -l "$work/disk"' EXIT

# The disk fills up behind the first checkpoints of a run that stands still.
fill_up() {
    rm -rf disk/*
    start run.dir=disk/run
    wait_for_lines disk/run/metrics.jsonl 450
    kill -STOP "$started" || fail "the run was through too soon"
    dd if=/dev/zero of=disk/ballast bs=4k >dd.log 2>&1 || true
    kill -CONT "$started"
}

wait_for_warnings() {
    while kill -0 "$started" && [ "$(grep -c 'free some space' start.log)" -lt 3 ]; do sleep 0.01; done
}

echo "== a full disk: it keeps its old checkpoint, warns at each, and goes on when there is room"
fill_up
ends_with 73
warned 5 'free some space'
warned 1 'metrics.jsonl: its lines wait'
expect 0 . "$program" eval disk/run
rm disk/ballast
resume disk/run
same_run whole disk/run

echo "== room while it goes on: nothing is missing"
fill_up
wait_for_warnings
rm disk/ballast
ends_with 0
warned 2 'free some space'
same_run whole disk/run

echo "== killed on a full disk"
fill_up
wait_for_warnings
kill -KILL "$started"
{ wait "$started" || true; } 2>/dev/null
started=
expect 73 'free some space' "$program" resume disk/run # and again without room
rm disk/ballast
resume disk/run
same_run whole disk/run
