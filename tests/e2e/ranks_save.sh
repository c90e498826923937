#!/usr/bin/env bash
# Checkpoints of several ranks where one of them cannot write, or dies at any of its file operations: the old ones stay,
# no half one is left, rank 0 says which rank it was; and what any number of ranks wrote is one state for `check`,
# `analyze`, `eval` and a resume.
. "$(dirname "$0")/lib.sh"
export OMP_NUM_THREADS=1
make_shards
options=(device=cpu train.steps=12 eval.every=0 checkpoint.every=4 checkpoint.keep=2 dist.timeout=20)

# pair RUN RULE OPTION...: two ranks, started one by one; the rule is THALWEG_FAULT of rank 1, and `rule_0` that of
# rank 0. Sets `codes`.
rule_0=
rank() {
    local number=$1 dir=$2; shift 2
    THALWEG_RANK=$number THALWEG_RANKS=2 THALWEG_LOCAL_RANK=$number THALWEG_LOCAL_RANKS=2 \
        THALWEG_RENDEZVOUS=127.0.0.1:$port exec "$program" train "$tiny" "${data[@]}" "${options[@]}" run.dir="$dir" \
        "$@" \
        >"rank$number.log" 2>&1 </dev/null
}
pair() {
    local dir=$1 rule=$2 try; shift 2
    for try in 1 2 3; do # the port may be another's
        codes=(0 0)
        free_port
        THALWEG_FAULT=$rule_0 rank 0 "$dir" "$@" & started=$!
        { (THALWEG_FAULT=$rule rank 1 "$dir" "$@") || codes[1]=$?; } 2>/dev/null # where the shell tells of a kill
        wait $started || codes[0]=$?
        started=
        grep -q 'in use' rank0.log || return 0
        rm -rf "$dir"
    done
}
codes_are() { [ "${codes[*]}" = "$1" ] || { cat rank0.log rank1.log; fail "exit ${codes[*]}, expected $1"; }; }
rank_0_says() { grep -qE -- "$1" rank0.log || { cat rank0.log; fail "rank 0 does not say \"$1\""; }; }
none_is_half() { # RUN
    [ -z "$(find "$1/checkpoints" -name '*.tmp')" ] || fail "$1: a half checkpoint is left"
    [ ! -e "$1/checkpoints/step_00000004" ] || expect 0 'Nothing is damaged' "$program" check "$1"
}

echo "== a rank that cannot write: the next checkpoint is tried, and the last one is the end"
pair none 1+:ENOSPC
codes_are "73 73"
rank_0_says '^rank 1: none/checkpoints/step_00000012.tmp/state-00002-of-00002.safetensors: .*No space'
[ "$(grep -c '^rank 1: ' rank0.log)" -eq 3 ] || { cat rank0.log; fail "not one message for each checkpoint"; }
[ -z "$(ls none/checkpoints)" ] || fail "a checkpoint without the state of rank 1"
for async in true false; do
    pair once-$async 1:EIO checkpoint.async=$async checkpoint.keep=0
    codes_are "0 0"
    rank_0_says '^rank 1: once-.*step_00000004.tmp/state-00002-of-00002'
    [ "$(ls once-$async/checkpoints | paste -sd' ')" = "step_00000008 step_00000012" ] || fail "once-$async"
    none_is_half once-$async
done
same_tensors once-true once-false

echo "== a rank that dies at any of its operations"
pair whole 1+:tell
codes_are "0 0"
operations=$(grep -c THALWEG_FAULT rank1.log)
for ((n = 1; n <= operations; n++)); do
    pair dead $n:kill
    [ "${codes[*]}" = "71 137" ] || { cat rank0.log rank1.log; fail "exit ${codes[*]}, expected 71 137"; }
    rank_0_says 'rank 1'
    train run.dir=dead "${options[@]}" --ranks 2 --resume
    same_tensors whole dead
    none_is_half dead
    rm -r dead
done

echo "== a rollback that rank 0 cannot write ends both alike"
export THALWEG_PLANT=68:0:40:1e6
back=(optim.lr=auto train.steps=70 train.batch_tokens=176 train.on_spike=rollback train.rollback_steps=2
    checkpoint.async=false)
rule_0=1+:tell
pair back '' "${back[@]}"
codes_are "0 0"
rule_0=$(awk '/THALWEG_FAULT/ { n++ } /is a spike/ { print n + 1 ":EIO" }' rank0.log) # the first operation behind it
rm -r back
pair back '' "${back[@]}"
codes_are "73 73"
rank_0_says 'metrics.*orphan.*Input/output error'
unset THALWEG_PLANT
rule_0=

echo "== many files are one state"
for ranks in 1 3; do train run.dir=of$ranks "${options[@]}" --ranks $ranks; done
head -c 65536 of3/checkpoints/step_00000012/state-00001-of-00003.safetensors | tr -d '\0' >header.txt
cut=$(grep -aoE '"m\.h\.0\.[a-z_.]*_w[a-z_.]*\[0:' header.txt | sed -nE '1s/"m\.(.*)\[0:/\1/p') # a matrix in parts
[ -n "$cut" ] || fail "no matrix is cut"
for ranks in 1 3; do
    "$program" analyze newton-schulz --matrix of$ranks --tensor "$cut" --steps 2 --json >out$ranks.json
    sed -nE '/"(rows|columns|frobenius)"/{s/(\.[0-9]{5}).*/\1/; p}' out$ranks.json >matrix$ranks.txt
done
[ "$(wc -l <matrix1.txt)" -eq 3 ] || fail "no matrix"
cmp matrix1.txt matrix3.txt || fail "$cut of one file and of three"
expect 0 'm.'"$cut"'.*' "$program" analyze newton-schulz --matrix of3 --steps 1
state=of3/checkpoints/step_00000012/state-0000
[ "$(ls ${state}*)" = "$(printf "${state}%d-of-00003.safetensors\n" 1 2 3)" ] || fail "$(ls $state*)"
[ -e of3/checkpoints/step_00000008/run.json ] && rm ${state/12/08}2-of-00003.safetensors
expect 74 'state-00002-of-00003.safetensors: the file is missing' "$program" check of3
expect 74 'state-00002-of-00003' "$program" resume of3/checkpoints/step_00000008 --ranks 2
expect 0 'loss' "$program" eval of3 --weights z
printf x | dd of=${state}3-of-00003.safetensors bs=1 seek=300 conv=notrunc status=none
expect 74 'state-00003-of-00003.safetensors: bytes' "$program" eval of3 --weights z
expect 74 'none to go on from' "$program" resume of3 --ranks 4 train.steps=14
