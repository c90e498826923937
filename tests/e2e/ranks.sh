#!/usr/bin/env bash
# Several ranks: the same data and losses as one, to the rounding of sums; the same again bit for bit; resumed on
# another number of ranks, and on another device. With a program that has CUDA: the same through NCCL.
#   tests/e2e/ranks.sh [--long]     --long: every recipe on every number of ranks
. "$(dirname "$0")/lib.sh"
export OMP_NUM_THREADS=1 CUDASIM_DEVICES=4
long=${1:-}
make_shards
on=(device=cpu)
"$program" train "$tiny" "${data[@]}" device=cuda run.dir=probe train.steps=1 eval.every=0 >probe.log 2>&1 &&
    on=(device=cuda precision=fp32)
uneven=(train.batch_tokens=176 eval.tokens=1K optim.lr=auto "${on[@]}") # 11 sequences: no number of ranks divides them
tokens_and_losses() { sed -nE 's/.*"tokens":([0-9]+),"(val_)?loss":([^,]*).*/\1 \3/p' "$1/metrics.jsonl"; }

# agree A B [TOLERANCE]: the same tokens in every line, and the same losses but for rounding.
agree() {
    paste <(tokens_and_losses "$1") <(tokens_and_losses "$2") >both.txt
    awk -v tolerance="${3:-1e-5}" '
        { d = $2 - $4; if (d < 0) d = -d; if (NF != 4 || $1 != $3 || d > tolerance * $2) exit 1 }
        END { if (NR == 0) exit 1 }' both.txt || { cat both.txt; fail "$1 and $2 differ"; }
}

echo "== 20 steps, by recipe and number of ranks"
numbers_of() { # RECIPE: those that `make test` takes
    [ -z "$long" ] || { echo "2 3 4"; return; }
    case $1 in adamw) echo "2 3" ;; muon) echo "3 4" ;; sf_adamw) echo 4 ;; *) echo "2 4" ;; esac
}
for recipe in adamw muon sf_adamw amuse; do
    common=("${uneven[@]}" optim.name=$recipe optim.warmup_steps=5 checkpoint.every=5)
    train run.dir=$recipe-1 "${common[@]}"
    for ranks in $(numbers_of $recipe); do
        train run.dir=$recipe-$ranks --ranks "$ranks" "${common[@]}"
        agree $recipe-1 $recipe-$ranks
    done
    grep -q 'each with a part of the optimizer' train.log || { cat train.log; fail "every rank has the whole state"; }
    train run.dir=$recipe-whole --ranks 2 dist.shard=none "${common[@]}"
    agree $recipe-1 $recipe-whole
done
[ "$(ls adamw-3/checkpoints/step_00000020/state-* | wc -l)" -eq 3 ] || fail "a state file for each of 3 ranks"
expect 0 'loss' "$program" eval amuse-4 --weights y "${on[@]}" # from four files

echo "== 3 steps of the other recipes"
short=("${uneven[@]}" train.steps=3 eval.every=0 optim.warmup_steps=1)
others=(sgd adam signum lion ademamix mars normuon sf_sgd sf_adamw_mean sf_adamw_refined sf_muon sf_normuon gpa adamx)
[ "${on[0]}" != device=cpu ] || others+=(soap)
for i in "${!others[@]}"; do
    recipe=${others[i]} tolerance=1e-5
    case $recipe in signum | lion) tolerance=1e-4 ;; esac
    train run.dir=$recipe-1 "${short[@]}" optim.name=$recipe
    for ranks in $([ -n "$long" ] && echo 2 3 4 || echo $((2 + i % 3))); do
        train run.dir=$recipe-$ranks --ranks "$ranks" "${short[@]}" optim.name=$recipe
        agree $recipe-1 $recipe-$ranks $tolerance
    done
done

echo "== again: bit for bit; with other micro-batches, shapes and presets of the model"
train run.dir=again --ranks 3 "${uneven[@]}" optim.name=muon optim.warmup_steps=5 checkpoint.every=5
same_run muon-3 again
for micro in 1 4; do
    train run.dir=micro$micro --ranks 3 "${uneven[@]}" optim.name=muon optim.warmup_steps=5 train.micro_batch=$micro
    agree muon-1 micro$micro
done
llama=(model.norm=rmsnorm model.position=rope model.mlp=swiglu model.tied=false model.qk_norm=true model.kv_heads=1
    model.bias=false train.recompute=2)
train run.dir=llama-1 "${uneven[@]}" "${llama[@]}" optim.name=amuse
train run.dir=llama-3 --ranks 3 "${uneven[@]}" "${llama[@]}" optim.name=amuse
agree llama-1 llama-3
train run.dir=few-1 "${uneven[@]}" train.batch_tokens=32 # 2 sequences
train run.dir=few-4 --ranks 4 "${uneven[@]}" train.batch_tokens=32
agree few-1 few-4

echo "== resumed: on as many ranks bit for bit, on others to rounding"
halve() { # RUN COPY: as if it had been stopped at step 10
    cp -r "$1" "$2"
    rm -r "$2"/checkpoints/step_00000015 "$2"/checkpoints/step_00000020
}
for recipe in muon amuse; do
    common=("${uneven[@]}" optim.name=$recipe optim.warmup_steps=5 checkpoint.every=5 checkpoint.keep=0)
    for pair in "1 2" "2 1" "4 3" "3 4"; do
        read -r from to <<<"$pair"
        rm -rf from to same
        train run.dir=from --ranks "$from" "${common[@]}"
        halve from to
        resume to --ranks "$to"
        agree from to
        grep -qE 'resumed .*step_00000010 at step 10' resume.log || { cat resume.log; fail "$from to $to ranks"; }
        halve from same
        resume same --ranks "$from"
        same_run from same
    done
    rm -rf paused # beside `from`, of 3 ranks
    expect 75 'stopped at step 7 of 20' "$program" train "$tiny" "${data[@]}" run.dir=paused --ranks 3 "${common[@]}" \
        train.stop_at=7
    resume paused --ranks 3 train.stop_at=0
    same_run from paused
done

if [ "${on[0]}" = device=cuda ]; then
    echo "== from the simulated GPUs to the CPU, and back"
    halve from cpu
    resume cpu --ranks 2 device=cpu
    agree from cpu
    rm -r cpu/checkpoints/step_00000020
    resume cpu --ranks 4 device=cuda
    agree from cpu
    train run.dir=bf16-1 device=cuda optim.name=muon optim.lr=auto
    train run.dir=bf16-2 device=cuda optim.name=muon optim.lr=auto --ranks 2
    agree bf16-1 bf16-2 2e-2
    echo "== through the host: ranks that share a GPU"
    train run.dir=host --ranks 2 "${uneven[@]}" dist.comm=host optim.name=muon optim.warmup_steps=5
    agree muon-1 host
fi

echo "== rollbacks, spikes and numbers that are not finite, on all ranks alike"
spike=THALWEG_PLANT=12:0:40:1e6
back=("${uneven[@]}" train.on_spike=rollback train.rollback_steps=2 train.rollback_skip=1 checkpoint.every=4
    checkpoint.keep=0 train.steps=70 eval.every=0)
for ranks in 1 3; do
    THALWEG_PLANT=68:0:40:1e6 train run.dir=back-$ranks --ranks $ranks "${back[@]}"
    grep -q '"event":"rollback"' back-$ranks/metrics.jsonl || { cat train.log; fail "no rollback on $ranks ranks"; }
    THALWEG_PLANT=3:0:40:nan train run.dir=nan-$ranks --ranks $ranks "${uneven[@]}"
    grep -q '"event":"not_finite"' nan-$ranks/metrics.jsonl || { cat train.log; fail "no event on $ranks ranks"; }
done
agree back-1 back-3
agree nan-1 nan-3
diff <(sed -nE 's/.*"tensors":(\[[^]]*\]).*/\1/p' nan-1/metrics.jsonl | wc -l) <(echo 1) || fail "no tensors are named"

echo "== a branch, a plan, mistakes"
expect 0 'branched off' "$program" resume muon-3 --into branched --ranks 2 train.steps=22
expect 0 'ranks   4, each with a part' "$program" check "$tiny" "${data[@]}" --ranks 4 "${on[@]}"
expect 2 'expected a number of processes' "$program" train "$tiny" "${data[@]}" --ranks none
expect 2 'expected a number of processes' "$program" train "$tiny" "${data[@]}" --ranks 0
expect 2 'dist.shard' "$program" train "$tiny" "${data[@]}" --ranks 2 dist.shard=all
expect 66 'nowhere' "$program" resume nowhere --ranks 2
expect 66 'no_such' "$program" train "$tiny" data.train='no_such_*.bin' eval.every=0 --ranks 3 run.dir=none
[ "$(grep -c no_such out.log)" -eq 1 ] || { cat out.log; fail "one message, not one of each rank"; }
[ ! -e none ] || fail "a run that never began left a directory"
