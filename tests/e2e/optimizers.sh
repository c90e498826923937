#!/usr/bin/env bash
# Optimizers as users meet them: stopped and resumed bit for bit, what a checkpoint's model is, branches, and mistakes.
. "$(dirname "$0")/lib.sh"
export OMP_NUM_THREADS=1 # many small runs
make_shards

quietly() { "$program" "$@" >command.log 2>&1 </dev/null || { cat command.log >&2; fail "$*"; }; }
loss_of() { quietly eval "$@" --json; sed -n 's/.*"val_loss": *\([^,]*\),*$/\1/p' command.log; }
logged() { sed -n "s/.*\"step\":$2,.*\"val_loss\":\([^,}]*\).*/\1/p" "$1/metrics.jsonl"; }
same() { [ "$1" = "$2" ] || fail "$3: $1 and $2"; }
differ() { [ "$1" != "$2" ] || fail "$3: both are $1"; }

echo "== 20 steps equal 10, stop and 10; evaluations, samples and checkpoints between them change nothing"
twice() { # NAME OPTION...
    local name=$1; shift
    train run.dir="$name" optim.lr=auto eval.every=5 "$@"
    train run.dir="${name}_halves" optim.lr=auto eval.every=5 sample.every=3 sample.tokens=2 checkpoint.every=10 "$@"
    same_run "$name" "${name}_halves"
    rm -r "${name}_halves/checkpoints/step_00000020"
    quietly resume "${name}_halves"
    same_run "$name" "${name}_halves"
}
twice amuse optim.name=amuse optim.warmup_steps=5
twice amuse_early optim.name=amuse optim.warmup_steps=15 optim.compat=official
twice sf_adamw optim.name=sf_adamw optim.schedule=cosine
twice muon optim.name=muon
twice normuon optim.name=normuon optim.ns=polar5
twice gpa optim.name=gpa optim.readout=ema optim.readout_every=3 optim.readout_decay=0.5
twice mars optim.name=mars
twice ademamix optim.name=ademamix optim.matrix.name=lion optim.matrix.beta2=0.98 optim.matrix.lr=1e-4

echo "== a checkpoint's model is the average, in the middle of a run too"
for run in amuse sf_adamw; do
    same "$(loss_of $run)" "$(loss_of $run --weights x)" "$run: model.safetensors, x"
    same "$(loss_of $run)" "$(logged $run 20)" "$run: eval, the last line of metrics"
    for weights in y z; do differ "$(loss_of $run)" "$(loss_of $run --weights $weights)" "$run: x, $weights"; done
done
same "$(loss_of amuse_halves/checkpoints/step_00000010)" "$(logged amuse 10)" "amuse: the checkpoint of step 10"
same "$(loss_of gpa)" "$(loss_of gpa --weights ema)" "gpa: model.safetensors, the readout"
same "$(loss_of gpa)" "$(logged gpa 20)" "gpa: eval, the last line of metrics"
differ "$(loss_of gpa)" "$(loss_of gpa --weights x)" "gpa: the readout, x"
for weights in x y z; do same "$(loss_of muon)" "$(loss_of muon --weights $weights)" "muon: its weights, $weights"; done
expect 2 'muon/.*: this run keeps no such average' "$program" eval muon --weights ema
expect 2 'optim.rho=0: the iterates follow from the optimizer' "$program" eval amuse --weights y optim.rho=0
expect 2 '--weights w: expected x, y, z, ema' "$program" eval muon --weights w

echo "== what was auto when a run began does not follow its length"
train run.dir=short optim.name=amuse optim.lr=auto optim.warmup_steps=auto
train run.dir=grown optim.name=ademamix optim.lr=auto optim.warmup_steps=auto train.steps=20
for more in "resume short train.steps=2000" "train $tiny ${data[*]} run.dir=grown optim.name=ademamix optim.lr=auto \
    optim.warmup_steps=auto --resume train.steps=2000"; do
    expect 75 'stopped at step' "$program" $more train.max_seconds=1 log.every=1000
done
grep -q '"warmup_steps": 2,' short/config.json || fail "another length moved the end of warmup"
grep -q '"ramp_steps": 20,' grown/config.json || fail "another length moved the end of ademamix's ramp"

echo "== a learning rate of 0 moves nothing, and nothing else"
train run.dir=still optim.name=amuse optim.lr=0 optim.warmup_steps=5
same "$(logged still 0)" "$(logged still 20)" "a run that stands still"

echo "== a branch: a decay from the middle of a constant rate"
train run.dir=source optim.name=muon optim.lr=auto optim.schedule=constant checkpoint.every=10 checkpoint.keep=0
from=source/checkpoints/step_00000010
content() { (cd "$1" && find . -type f -exec sha256sum {} + | sort -k 2); }
content source >source.before
decay=(optim.schedule=wsd optim.decay_fraction=0.5 optim.final_lr=0)
quietly resume $from --into decayed "${decay[@]}"
grep -q "branched off $from at step 10 of 20" command.log || { cat command.log; fail "the branch does not say so"; }
grep -q "\"branched_from\": \"$PWD/$from\"" decayed/run.json || { cat decayed/run.json; fail "no provenance"; }
head -n 1 decayed/metrics.jsonl | grep -q '"step":11,' || { cat decayed/metrics.jsonl; fail "it does not begin at 11"; }
step_11() { sed -n 's/.*"step":11,.*"loss":\([^,]*\),.*/\1/p' "$1/metrics.jsonl"; }
same "$(step_11 source)" "$(step_11 decayed)" "the loss of step 11"
same "$(cd $from && sha256sum ./*.safetensors)" "$(cd decayed/checkpoints/step_00000010 && sha256sum ./*.safetensors)" \
    "the checkpoint that the branch begins with"
differ "$(logged source 20)" "$(logged decayed 20)" "the end of source and branch"
quietly resume decayed train.steps=22
grep -q '"step":22,' decayed/metrics.jsonl || fail "a branch cannot be continued"
quietly resume source --into longer train.steps=24
head -n 1 longer/metrics.jsonl | grep -q '"step":21,' || fail "a branch from a run does not begin at its end"

echo "== a branch killed before its first step, in the evaluation that comes first"
train run.dir=unseen optim.name=amuse optim.lr=auto checkpoint.every=10 eval.every=0
slow=(eval.every=10 eval.tokens=80K data.val='shards/train_*.bin')
quietly resume unseen/checkpoints/step_00000010 --into whole "${slow[@]}"
"$program" resume unseen/checkpoints/step_00000010 --into killed "${slow[@]}" >start.log 2>&1 </dev/null & started=$!
while kill -0 "$started" 2>/dev/null && [ ! -e killed/checkpoints/step_00000010 ]; do sleep 0.02; done
kill -KILL "$started"
{ wait "$started" || true; } 2>/dev/null
[ ! -e killed/checkpoints/step_00000020 ] || fail "the branch was through before it was killed"
quietly resume killed
same_run whole killed

echo "== what a branch refuses leaves everything as it is"
mkdir full && echo mine >full/mine
expect 2 'full: the run directory is not empty' "$program" resume $from --into full
same "$(ls full) $(cat full/mine)" "mine mine" "a directory that was refused"
expect 2 'source: the run directory is not empty' "$program" resume $from --into source
expect 2 'optim.name: a resume cannot change it from muon to adamw' "$program" resume $from --into none \
    optim.name=adamw
expect 2 'train.batch_tokens' "$program" resume $from --into none train.batch_tokens=128
expect 2 'run.dir=none: a run is continued in its own' "$program" resume $from --into other run.dir=none
expect 2 'no CUDA backend' "$program" resume $from --into none device=cuda
expect 66 'nowhere' "$program" resume nowhere --into none
content source | diff source.before - || fail "a branch changed its source"
[ ! -e none ] && [ ! -e other ] || fail "a refused branch left a directory"

echo "== a resume under another optimizer"
content amuse >amuse.before
for change in optim.name=sf_muon optim.matrix.name=normuon optim.other.name=adamw optim.readout=tail; do
    expect 2 "${change%%=*}: a resume cannot change it" "$program" resume amuse train.steps=22 $change
done
expect 2 'optim.matrix.compat: a resume cannot change it from auto to official' "$program" resume amuse \
    optim.matrix.compat=official
content amuse | diff amuse.before - || fail "a refused resume changed the run"

echo "== mistakes: one message, nothing made"
refused() { # PATTERN OPTION...
    local pattern=$1; shift
    expect 2 "$pattern" "$program" train "$tiny" "${data[@]}" run.dir=none "$@"
    [ "$(wc -l <out.log)" -eq 1 ] || { cat out.log; fail "more than one message for: $*"; }
    [ ! -e none ] || fail "left by $*: $(ls none)"
}
refused 'optim.name: there is no "amus"; did you mean "amuse"' optim.name=amus
refused 'optim.matrix.name: there is no "moun"; did you mean "muon"' optim.matrix.name=moun
refused 'optim.matrix.beta2: not read by muon' optim.name=muon optim.matrix.beta2=0.9
refused 'optim.rho: not read by sf_muon or sf_muon_rest' optim.name=sf_muon optim.rho=0.5
refused 'optim.other.name: muon moves matrices only' optim.other.name=muon
refused 'optim.lr: "-1"' optim.lr=-1
refused 'optim.l2: there is no such key: .*optim.weight_decay' optim.l2=0.1
refused 'optim.rho: not read by amuse' optim.name=amuse optim.beta_schedule=const optim.rho=0.5
refused 'interpolation: with 1 the average' optim.name=sf_adamw_refined optim.interpolation=1
refused 'optim.ns: exact has its own number of steps' optim.name=muon optim.ns=exact optim.ns_steps=3
refused 'optim.lr: "nan"' optim.lr=nan
refused 'optim.warmup_steps: 1 is too short for amuse' optim.name=amuse optim.warmup_steps=1
refused 'optim.warmup_tokens: optim.warmup_steps is set too' optim.warmup_tokens=1K optim.warmup_steps=2
refused 'ns: custom needs ns_coefficients' optim.name=muon optim.ns=custom
refused 'optim.ns: not safe: the singular value' optim.name=muon optim.ns=custom optim.ns_coefficients='9 9 9'
refused 'ns_coefficients stand only beside ns=custom' optim.name=muon optim.ns_coefficients='2 -1.5 0.5'
refused 'taylor:9' optim.name=muon optim.ns=taylor:9
refused 'optim.groups: "wpe lr=2" is for no parameter' optim.groups='wpe lr=2'
refused 'optim.groups: "vector decay=0" is no rule' optim.groups='vector decay=0'
refused 'optim.final_lr: not read by the schedule' optim.name=sf_adamw optim.final_lr=0
refused 'optim.readout_decay: not read by the readout' optim.readout_decay=0.9
refused 'no CUDA backend' optim.name=amuse device=cuda
