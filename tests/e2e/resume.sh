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
"$program" resume older/half_again/checkpoints/step_00000010 checkpoint.keep=1 checkpoint.keep_models=0 \
    >resume.log 2>&1 || fail "resume"
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

echo "== older checkpoints become models, but for milestones"
train run.dir=models checkpoint.every=5 checkpoint.keep=1 checkpoint.milestones=10
expect 0 'step_00000005 +model only .* ok' "$program" check models
[ "$(grep -c ' full ' out.log)" -eq 2 ] || { cat out.log; fail "step 10 and 20 should be whole"; }
expect 0 'loss' "$program" eval models/checkpoints/step_00000005
expect 0 '' "$program" sample models/checkpoints/step_00000015 --tokens 4
expect 66 'step_00000005: a model alone.*step_00000020' "$program" resume models/checkpoints/step_00000005
expect 66 'step_00000005: a model alone' "$program" resume models/checkpoints/step_00000005 --into models_branch
expect 66 'step_00000005: a model alone' "$program" eval models/checkpoints/step_00000005 --weights z
"$program" resume models/checkpoints/step_00000010 >resume.log 2>&1 || fail "resume from a milestone"
same_run whole models

echo "== a damaged checkpoint is passed over, loudly"
for file in state-00001-of-00001.safetensors manifest.json run.json; do
    rm -rf again && cp -r halves again
    printf 'X' | dd of="again/checkpoints/step_00000020/$file" bs=1 seek=40 conv=notrunc 2>/dev/null
    expect 74 "$file" "$program" check again
    rm -rf branched
    expect 0 'step_00000020: damaged; left as it is' "$program" resume again --into branched
    same_tensors whole branched
    expect 0 'step_00000020: damaged; kept as step_00000020.damaged-1' "$program" resume again
    grep -q 'goes on from it and does the 10 steps up to 20 again' out.log || { cat out.log; fail "what is repeated"; }
    grep -q "$file" out.log || fail "$file is not named"
    same_run whole again
    expect 0 'step_00000020.damaged-1' "$program" check again
done
rm -rf again && cp -r halves again && rm again/checkpoints/step_00000020/manifest.json
expect 0 'the manifest is missing' "$program" train "$tiny" "${data[@]}" run.dir=again checkpoint.keep=0 --resume
same_run whole again
truncate -s 1000 again/checkpoints/step_000000[12]0/run.json
expect 74 '2 damaged checkpoints, and none to go on from' "$program" resume again
expect 74 '2 damaged checkpoints, and none to go on from' "$program" train "$tiny" "${data[@]}" run.dir=again --resume
expect 74 'Nothing whole is left' "$program" check again

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
for lines in 2 70 150 1 1 1 1 1; do # 1: only where none met it
    [ $lines != 1 ] || [ $met -eq 0 ] || break
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

echo "== train.stop_at: evaluated and saved there; a resume with the same one does nothing, with another one it goes on"
stops() { # STEP ARGUMENT...
    expect 75 "stopped at step $1 of 20; continue with: train_gpt resume at train.stop_at=0" "$program" "${@:2}"
}
stops 10 train "$tiny" "${data[@]}" run.dir=at train.stop_at=10 eval.every=5
[ "$(grep -c '"val_loss"' at/metrics.jsonl)" -eq 3 ] || fail "step 10 was not evaluated"
cp -r at stopped_at
stops 10 resume at
stops 10 resume at train.stop_at=7
same_run stopped_at at
stops 13 resume at train.stop_at=13
resume at train.stop_at=20 # its end
train run.dir=whole_at eval.every=5
same_run whole_at at

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

echo "== the best checkpoint cannot be saved: the next one that is better than what was saved becomes the best"
uneven=(model.depth=1 model.width=16 model.heads=1 threads=1 eval.every=1 checkpoint.every=0 checkpoint.best=true
    checkpoint.async=false optim.lr=0.1 optim.warmup_steps=0 optim.schedule=constant
    run.seed=60) # losses 4.73 3.264 3.294 3.10
THALWEG_FAULT=1+:tell train run.dir=one "${uneven[@]}" train.steps=1
THALWEG_FAULT=$(($(grep -c THALWEG_FAULT train.log) + 5)):ENOSPC train run.dir=uneven "${uneven[@]}" train.steps=4
[ "$(ls uneven/checkpoints | tr '\n' ' ')" = 'step_00000001 step_00000003 step_00000004 ' ] ||
    { cat train.log; fail "saved: $(ls uneven/checkpoints)"; }

echo "== a branch has a best checkpoint of its own"
train run.dir=parent "${uneven[@]}" train.steps=12 checkpoint.every=1 checkpoint.keep=0 # step 8 has the lowest loss
for steps in '08 8' '09 10'; do
    rm -rf branch
    "$program" resume "parent/checkpoints/step_000000${steps% *}" --into branch >branch.log 2>&1 ||
        { cat branch.log; fail "a branch of step ${steps% *}"; }
    grep -q "\"best_step\": ${steps#* }," branch/checkpoints/step_00000012/run.json ||
        { grep best_ branch/checkpoints/*/run.json; fail "the best one behind step ${steps% *} is not ${steps#* }"; }
done
