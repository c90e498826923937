#!/usr/bin/env bash
# Numbers that go bad: steps that are not finite are skipped, looked into and counted; spikes are met as train.on_spike
# says; faults of the hardware leave no trace; no state holds a number that is not finite. Whatever happens is the same
# when the run is killed in it.
. "$(dirname "$0")/lib.sh"
make_shards
long=(train.steps=100 eval.every=0 checkpoint.every=10 checkpoint.keep=0)

planted() { local plants=$1; shift; THALWEG_PLANT=$plants train "$@"; }
counted() { # RUN SKIPPED
    local last
    last=$(grep '"skipped"' "$1/metrics.jsonl" | tail -n 1)
    [[ $last == *"\"skipped\":$2,"* ]] || fail "$1 has not skipped $2 steps: $last"
}
has() { # FILE PATTERN
    grep -qE -- "$2" "$1" || { cat "$1" >&2; fail "no \"$2\" in $1"; }
}
has_no() { ! grep -qE -- "$2" "$1" || { cat "$1" >&2; fail "\"$2\" in $1"; }; }
finite() { # RUN: its state and weights, seen as words of 32 bits; a header of letters is no NaN
    local file
    for file in "$1"/checkpoints/step_*/*.safetensors; do
        od -An -v -tf4 "$file" >words
        has_no words 'nan|inf'
    done
}
resumed() { "$program" resume "$@" >resume.log 2>&1 || { cat resume.log >&2; fail "resume $*"; }; }

echo "== too many bad steps"
expect 76 'not finite' "$program" train "$tiny" "${data[@]}" run.dir=run optim.lr=1000 optim.clip=0 \
    optim.warmup_steps=0 optim.weight_decay=1000 train.steps=200 train.max_bad_steps=3 eval.every=0
counted run 3
has run/metrics.jsonl '"loss":null'

echo "== a NaN in one element, behind one micro-batch; in the first step"
averaging=(optim.name=amuse) # whose weights are not those of the step before
train run.dir=plain "${averaging[@]}"
planted 5:1:13000:nan run.dir=element "${averaging[@]}"
counted element 1
has element/metrics.jsonl '"step":5,.*"event":"not_finite","loss":[0-9.]+,"grad_norm":null,"recomputed":"same"'
has element/metrics.jsonl '"tensors":\["h.0.qkv_w.q: 1 of 1024"\]'
has train.log 'step 5: .*h.0.qkv_w.q: 1 of 1024'
finite element
planted 1:0:0:-inf run.dir=first "${averaging[@]}"
counted first 1
has first/metrics.jsonl '"step":1,.*"wte: 1 of 8224"'
finite first

echo "== a fault that passes leaves no trace but a count"
planted 5:0:7:nan:once run.dir=passing "${averaging[@]}"
same_run plain passing
has "$(checkpoint_of passing)/run.json" '"repeated_steps": 1'
has train.log 'HARDWARE'
expect 76 'the 3th time' env THALWEG_PLANT=3:0:7:nan:once,6:1:8:inf:once,9:0:9:nan:once \
    "$program" train "$tiny" "${data[@]}" run.dir=thrice "${averaging[@]}"
resumed thrice
same_run plain thrice

echo "== a fault that stays and is never the same"
expect 76 'neither finite nor the same' env THALWEG_PLANT=5:0:7:nan:once,5:1:9:inf \
    "$program" train "$tiny" "${data[@]}" run.dir=faulty "${averaging[@]}"
[ "$(basename "$(checkpoint_of faulty)")" = step_00000004 ] || fail "the state before the step is not kept"
resumed faulty
same_run plain faulty

echo "== a state that is not finite is never saved"
# The embedding alone, whose size the norm takes away until it is beyond fp32.
beyond=(model.tied=false optim.lr=1000 optim.weight_decay=1000 optim.warmup_steps=0 eval.every=0
    'optim.groups=["matrix lr=0", "vector lr=0", "wte lr=1000 weight_decay=1000"]')
expect 76 'at step 4 .*not finite \(z\.wte: .*the last good checkpoint is damaged/checkpoints/step_00000003' \
    "$program" train "$tiny" "${data[@]}" run.dir=damaged checkpoint.every=1 checkpoint.keep=0 "${beyond[@]}"
finite damaged
expect 76 'at step 4 .*there is no checkpoint before it' "$program" train "$tiny" "${data[@]}" run.dir=at_once \
    checkpoint.every=4 "${beyond[@]}"
[ ! -e at_once/checkpoints ] || fail "a state that is not finite was saved"

echo "== a spike: taken, skipped, or rolled back from"
spike=80:1:99:1e6
planted $spike run.dir=none "${long[@]}"
counted none 0
has none/metrics.jsonl '"step":80,.*"grad_norm":[1-9][0-9]{5}'
planted $spike run.dir=skip "${long[@]}" train.on_spike=skip
counted skip 1
has skip/metrics.jsonl '"step":80,.*"event":"spike","loss":[0-9.]+,"grad_norm":[1-9][0-9]{5}'
has train.log 'step 80 is a spike: .*it is skipped'
back=("${long[@]}" train.on_spike=rollback train.rollback_steps=15 train.rollback_skip=5)
planted $spike,86:0:33:nan run.dir=back "${back[@]}" # the 86th step's data is what step 61 gets
has train.log 'rollback 1 of 3: the run goes on from back/checkpoints/step_00000060 without the data of the next 25'
has back/metrics.jsonl '"step":60,.*"event":"rollback","from":80,"skipped_data":25'
has back/metrics.jsonl '"step":61,.*"event":"not_finite"'
has back/metrics.60.orphan.jsonl '"step":80,.*"event":"spike"'
has back/checkpoints/step_00000100/run.json '"skipped_data": \[\{'
[ "$(grep -c grad_norm.*skipped back/metrics.jsonl)" -eq 100 ] || fail "not every step is in the metrics once"
[ -d back/checkpoints/step_00000070.orphan-1 ] || fail "a later checkpoint was not set aside"
counted back 1

echo "== no checkpoint to go back to; none that could be; not back for ever"
planted $spike run.dir=too_early "${back[@]}" checkpoint.every=90
has train.log 'step 80: there is no checkpoint'
counted too_early 1
expect 2 'train.on_spike: rollback goes back to a checkpoint' "$program" check "$tiny" "${data[@]}" \
    train.on_spike=rollback checkpoint.every=0
planted $spike run.dir=once "${back[@]}"
expect 76 '0 rollbacks did not help' env THALWEG_PLANT=$spike "$program" train "$tiny" "${data[@]}" run.dir=never \
    "${back[@]}" train.max_rollbacks=0
cp -r never passed
THALWEG_PLANT=$spike resumed never train.max_rollbacks=3
same_run once never

echo "== checkpoints that a rollback may want stay whole, whatever checkpoint.keep says and others come between"
planted $spike run.dir=few "${back[@]}" checkpoint.keep=1 checkpoint.milestones=[\"63,68\"]
has train.log 'rollback 1 of 3: the run goes on from few/checkpoints/step_00000060'
same_run once few
planted $spike run.dir=stops "${back[@]}" checkpoint.keep=1 checkpoint.keep_models=0 checkpoint.best=true eval.every=9
has train.log 'rollback 1 of 3: the run goes on from stops/checkpoints/step_00000060'

echo "== two rollbacks, the second no further back than the first; a damaged checkpoint is passed over"
twice=$spike,90:0:99:1e6 # what step 65 gets
planted $twice run.dir=twice "${back[@]}"
has twice/metrics.60.orphan-2.jsonl '"step":60,.*"from":80,"skipped_data":25'
has twice/metrics.jsonl '"step":60,.*"from":65,"skipped_data":10'
printf x | dd of=passed/checkpoints/step_00000060/model.safetensors bs=1 seek=9000 conv=notrunc 2>dd.log
THALWEG_PLANT=$spike resumed passed train.max_rollbacks=3
has resume.log 'step_00000060/model.safetensors: bytes .* are damaged'
has resume.log 'goes on from passed/checkpoints/step_00000050 without the data of the next 35'

echo "== killed around a rollback, and resumed"
killed() { # OPERATION: whether a spike was met before
    rm -rf killed
    { THALWEG_FAULT=$1:kill THALWEG_PLANT=$twice "$program" train "$tiny" "${data[@]}" run.dir=killed "${back[@]}" \
        >killed.log 2>&1 </dev/null || true; } 2>shell.log
    grep -q 'is a spike' killed.log
}
low=1 high=1024
while [ $((high - low)) -gt 1 ]; do
    middle=$(((low + high) / 2))
    if killed $middle; then high=$middle; else low=$middle; fi
done
for operation in "$high" $((high + 1)) $((high + 3)) $((high + 6)) $((high + 60)); do
    killed "$operation" || true
    THALWEG_PLANT=$twice resumed killed
    same_run twice killed
done

echo "== the window goes with a checkpoint, and is kept even where no spike is looked for"
cp -r skip halves
rm -r halves/checkpoints/step_000000[6-9]0 halves/checkpoints/step_00000100
THALWEG_PLANT=$spike resumed halves
same_run skip halves
cp -r none later
rm -r later/checkpoints/step_000000[89]0 later/checkpoints/step_00000100
THALWEG_PLANT=$spike resumed later train.on_spike=skip
counted later 1

echo "== a thousand good steps behind a NaN, then a spike"
planted 20:0:5:nan,1050:0:5:1e6 run.dir=thousand train.steps=1060 eval.every=0 train.on_spike=skip \
    train.spike_sigma=50 # far above what happens by itself
counted thousand 2
has thousand/metrics.jsonl '"step":20,.*"event":"not_finite"'
has thousand/metrics.jsonl '"step":1050,.*"event":"spike"'

echo "== plants that are none"
for plant in 5 0:0:0:nan 5:0:0:nan:twice 5:0:0:what 5:0:0:1e400 5:0:-1:nan 5:0:0:nan, 5:0:0:1x; do
    expect 2 'THALWEG_PLANT=.*expected STEP:MICRO:ELEMENT:VALUE' env THALWEG_PLANT=$plant "$program" train "$tiny" \
        "${data[@]}" run.dir=planted
done
