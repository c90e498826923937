#!/usr/bin/env bash
# Checkpoints that are damaged, and files that go away, also under a run: nothing damaged is believed, and the run goes
# on to the same end, bit for bit.
#   damage.sh [--long] [SEED]     --long: 200 bit flips and 200 truncations, else 40; the seed is printed
. "$(dirname "$0")/lib.sh"
count=40
[ "${1:-}" != --long ] || { count=200; shift; }
seed=${1:-1}
echo "seed $seed"
make_text 100 >text.txt
"$program" prepare text.txt --tokenizer byte --out shards >prepare.log 2>&1 || { cat prepare.log; fail prepare; }
data+=(threads=1 model.depth=1 model.width=16 model.heads=1 train.steps=6 eval.every=3 eval.tokens=64
    checkpoint.every=2 checkpoint.keep=0)
train run.dir=whole
newest=checkpoints/step_00000006
files=($(cd whole/$newest && ls))
[ ${#files[@]} -ge 7 ] || fail "a checkpoint of ${files[*]}"

# The newest checkpoint of a copy of the run is damaged: it is refused by the file's name.
refused() { # RUN FILE
    local status=0
    "$program" eval "$1/$newest" >"$1.log" 2>&1 </dev/null || status=$?
    [ $status -eq 74 ] && [ "$(grep -cF "$newest/$2:" "$1.log")" -gt 0 ] ||
        { cat "$1.log"; fail "exit $status, expected 74 and the name of $2"; }
}
falls_back() { # RUN
    "$program" resume "$1" >"$1.log" 2>&1 </dev/null || { cat "$1.log"; fail "resume $1 ends with $?"; }
    grep -q 'step_00000006.*damaged' "$1.log" || { cat "$1.log"; fail "$1: the damage is not told"; }
    same_run whole "$1"
    [ -d "$1/$newest.damaged-1" ] || fail "$1: the damaged checkpoint was not kept"
}

flip() { # FILE BYTE BIT
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    printf "\\x$(printf %02x $((byte ^ 1 << $3)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
hurt() { # flip-NUMBER or cut-NUMBER
    local run=$1 number=${1#*-} name file at
    RANDOM=$((seed * 1000 + number))
    [[ $1 == flip-* ]] || RANDOM=$((RANDOM ^ 1))
    name=${files[RANDOM % ${#files[@]}]}
    cp -r whole "$run"
    file=$run/$newest/$name
    at=$(((RANDOM << 15 | RANDOM) % $(stat -c %s "$file")))
    [ $((number % 8)) -ne 1 ] || at=$(($(stat -c %s "$file") - 1)) # ends are special
    case $1 in
    flip-*) flip "$file" $at $((RANDOM % 8)) ;;
    cut-*) truncate -s $at "$file" ;;
    esac
    cmp -s "$file" "whole/$newest/$name" && fail "$1 $name $at changed nothing"
    (refused "$run" "$name") || fail "$1: $name at byte $at"
    [ $((number % 20)) -ne 3 ] || falls_back "$run"
    rm -r "$run" "$run.log"
}

echo "== bits are flipped, files are cut short"
in_pairs hurt $(seq -f 'flip-%.0f' $count) $(seq -f 'cut-%.0f' $count)

echo "== files are missing"
for name in "${files[@]}"; do
    rm -rf missing && cp -r whole missing
    rm "missing/$newest/$name"
    (refused missing "$name") || fail "without $name"
    falls_back missing
done
rm -rf missing && cp -r whole missing && rm -r missing/checkpoints
expect 66 'missing: neither a checkpoint nor a run' "$program" resume missing
train run.dir=missing --resume
same_run whole missing

echo "== an exchange of names that was cut short: both ways to go on find the old checkpoint"
for way in resume train; do
    rm -rf exchanged && cp -r whole exchanged
    rm -r exchanged/checkpoints/step_0000000[24]
    mv exchanged/$newest exchanged/$newest.exchange
    mkdir exchanged/$newest.tmp
    if [ $way = train ]; then train run.dir=exchanged --resume
    else "$program" resume exchanged >train.log 2>&1 || { cat train.log; fail "resume exchanged"; }; fi
    grep -q 'resumed exchanged/checkpoints/step_00000006' train.log || { cat train.log; fail "$way began anew"; }
    same_run whole exchanged
done

echo "== files go away while the run goes on"
data+=(train.steps=3000 eval.every=1000 checkpoint.every=200 checkpoint.keep=2)
train run.dir=straight
pulled() { # COMMAND: in the run's directory, while the run stands still in its middle
    rm -rf under && start run.dir=under
    wait_for_lines under/metrics.jsonl 500
    kill -STOP "$started" || fail "the run was through too soon"
    while read -r _ _ state _ <"/proc/$started/stat" && [ "$state" != T ]; do sleep 0.01; done
    (cd under && eval "$1") || fail "$1"
    kill -CONT "$started"
}
for gone in 'rm -r checkpoints' 'rm checkpoints/*/manifest.json' 'rm checkpoints/*/*' 'rm config.json run.json'; do
    pulled "$gone"
    ends_with 0
    same_run straight under
    expect 0 . "$program" eval under
done

echo "== a run that removes its checkpoints is looked at"
rm -rf under && start run.dir=under train.steps=100000 checkpoint.every=1 checkpoint.keep=1 checkpoint.keep_models=0
wait_for_lines under/metrics.jsonl 5
for i in {1..20}; do
    expect 0 'perplexity' "$program" eval under
    expect 0 'Nothing is damaged' "$program" check under
done
kill -TERM "$started"
ends_with 75

echo "== metrics and lock are there again at the next checkpoint"
pulled 'rm metrics.jsonl lock'
while kill -0 "$started" && [ ! -e under/lock ]; do sleep 0.01; done
kill -STOP "$started" || fail "the run was through too soon"
expect 2 'another process is training' "$program" train "$tiny" "${data[@]}" run.dir=under --resume
kill -CONT "$started"
ends_with 0
same_run straight under
pulled 'echo "{}" >lines && mv lines metrics.jsonl'
ends_with 0
same_run straight under
pulled 'mv ../under ../moved'
ends_with 0
same_run straight under

echo "== the place of checkpoints is taken: the run goes on, and says so each time"
pulled 'mv checkpoints away && touch checkpoints'
ends_with 73
warnings=$(grep -c 'checkpoints: .*not a directory' start.log) || true
[ "$warnings" -ge 10 ] || { cat start.log; fail "$warnings warnings"; }
rm under/checkpoints && mv under/away under/checkpoints
resume under
same_run straight under

echo "== shards that are replaced are not noticed, shards that become shorter end the run"
cp shards/train_000000.bin shard
pulled 'rm ../shards/train_000000.bin && cp ../text.txt ../shards/train_000000.bin'
ends_with 0
same_run straight under
expect 65 'train_000000.bin' "$program" train "$tiny" "${data[@]}" run.dir=never
cp shard shards/train_000000.bin
pulled 'truncate -s 4096 ../shards/train_000000.bin'
ends_with 65
grep -q 'became shorter' start.log || { cat start.log; fail "not told"; }
cp shard shards/train_000000.bin
resume under
same_run straight under
