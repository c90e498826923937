#!/usr/bin/env bash
# 20 steps equal 10, stop and 10, bit for bit, in every tensor of state and every metric that is not a time.
. "$(dirname "$0")/lib.sh"
make_shards

train run.dir=whole
[ "$(grep -c '"loss"' whole/metrics.jsonl)" -eq 20 ] || fail "the run has not 20 steps of metrics"

echo "== a checkpoint in the middle, resumed from"
train run.dir=halves checkpoint.every=10 checkpoint.keep=0
cp -r halves again
rm -r again/checkpoints/step_00000020
"$program" resume again >resume.log 2>&1 || { cat resume.log; fail "resume"; }
same_run whole again
[ -s again/metrics.10.orphan.jsonl ] || fail "the metrics' tail was not kept"

echo "== written beside training or while it waits"
for async in true false; do
    rm -rf beside && train run.dir=beside checkpoint.every=10 checkpoint.async=$async checkpoint.keep=0
    same_run whole beside
    for checkpoint in halves/checkpoints/*; do
        diff -q --exclude=run.json --exclude=manifest.json "$checkpoint" beside/checkpoints/"${checkpoint##*/}" ||
            fail "checkpoint.async=$async makes other checkpoints"
    done
done

echo "== from an older checkpoint: later ones are kept aside, and nothing of the new branch is pruned"
mkdir older
train run.dir=half_again checkpoint.every=5 checkpoint.keep=0
cp -r half_again older
"$program" resume older/half_again/checkpoints/step_00000010 checkpoint.keep=1 >resume.log 2>&1 || fail "resume"
same_run whole older/half_again
ls older/half_again/checkpoints | tr '\n' ' ' >names
grep -qx 'step_00000015.orphan-1 step_00000020 step_00000020.orphan-1 ' names ||
    { cat names; fail "these checkpoints are left"; }
(cd half_again/checkpoints && "$program" resume step_00000015 data.train="$work/shards/train_*.bin" \
    data.val="$work/shards/val_*.bin" >../../resume.log 2>&1) || fail "resume from within"
same_run whole half_again
cp -r half_again/checkpoints/step_00000010 copied
expect 2 'copied: a checkpoint outside a run' "$program" resume copied
expect 2 'run.dir=else: a run is continued in its own directory' "$program" resume whole run.dir=else
[ ! -e else ] || fail "a refused resume made a directory"

echo "== the batch does not follow the micro-batch"
rm -r again && cp -r halves again && rm -r again/checkpoints/step_00000020
"$program" resume again train.micro_batch=1 >resume.log 2>&1 || fail "resume with another micro-batch"
grep -q '"step":20,"tokens":1280,' again/metrics.jsonl || fail "another micro-batch made another batch"

echo "== metrics that were lost"
rm -r again && cp -r halves again && rm -r again/checkpoints/step_00000020 again/metrics.jsonl
expect 0 'metrics.jsonl: 0 bytes.*goes on' "$program" resume again

echo "== SIGTERM in the middle: exit 75 with a checkpoint of the step that was under way"
long=(train.steps=400 eval.every=100 optim.schedule=constant)
train run.dir=straight "${long[@]}"
met=0
for lines in 2 70 150; do
    rm -rf stopped
    start run.dir=stopped "${long[@]}"
    wait_for_lines stopped/metrics.jsonl $lines
    kill -TERM "$started" 2>/dev/null || true
    status=0 && wait "$started" || status=$?
    [ $status -ne 0 ] || continue # it was through before the signal came
    [ $status -eq 75 ] || { cat start.log; fail "exit $status after SIGTERM"; }
    met=$((met + 1))
    "$program" resume stopped >resume.log 2>&1 || { cat resume.log; fail "resume after SIGTERM"; }
    same_run straight stopped
done
[ $met -gt 0 ] || fail "no SIGTERM met a running loop"

echo "== train --resume begins and continues"
"$program" train "$tiny" "${data[@]}" run.dir=both --resume >first.log 2>&1
"$program" train "$tiny" "${data[@]}" run.dir=both --resume >second.log 2>&1
grep -q "resumed" second.log || fail "the second call did not resume"
same_run whole both

echo "== options that must not change are named"
expect 2 'model.depth: a resume cannot change it' "$program" resume whole model.depth=3
expect 2 'train.batch_tokens' "$program" resume whole train.batch_tokens=128
expect 0 'finished: 24 steps' "$program" resume whole train.steps=24

echo "== a run that may take one second"
expect 75 'stopped at step .* continue with: train_gpt resume timed' "$program" train "$tiny" "${data[@]}" \
    run.dir=timed train.steps=1000000 train.max_seconds=1 eval.every=0 log.every=100
