#!/usr/bin/env bash
# Mistakes and damage: one clear message that names the thing, the right exit code, and nothing lost.
. "$(dirname "$0")/lib.sh"
make_shards
run() { "$program" train "$tiny" "${data[@]}" "$@"; }

echo "== configuration"
expect 2 'train.stepz.*did you mean "train.steps"' run train.stepz=3
expect 2 'optim.lr.*' run optim.lr=fast
expect 2 'train.micro_batch.*0' run train.micro_batch=0
expect 2 'model.preset.*did you mean' run model.preset=gpt2-124
expect 2 'optim.name' run optim.name=adamv
expect 2 'data.tokens|train.steps' "$program" train "$tiny" "${data[@]}" train.steps=10 train.tokens=10M
expect 2 'precision: bf16 needs' run precision=bf16
expect 2 'no CUDA backend' run device=cuda
expect 66 'nothere.json' "$program" train nothere.json
expect 2 'there is no command "trian"; did you mean "train"' "$program" trian
printf '{"model": {"depth": 2,}\n}' >broken.json
expect 2 'broken.json:1:' "$program" train broken.json
printf '{"model": {"depth": 2, "depth": 3}, "optim": {"lr": -1}, "trian": {}}' >several.json
expect 2 'several.json:1:' "$program" train several.json
expect 2 'model.kv_heads' run model.kv_heads=3
for steps in 0 -5 5,,6 5, 1K 1e3 5.5 later 1000000000000000; do
    expect 2 "checkpoint.milestones: \"$steps\" is not a list of steps" run checkpoint.milestones=$steps
done
expect 2 'checkpoint.milestones: "x"' run checkpoint.milestones='["5","x"]'

echo "== data"
expect 66 'data.train' "$program" train "$tiny" train.steps=2
expect 66 'none_\*.bin' "$program" train "$tiny" data.train='none_*.bin' data.val='none_*.bin'
mkdir cut wrong
head -c 3000 shards/train_000000.bin >cut/train_000000.bin
expect 65 'cut/train_000000.bin' "$program" train "$tiny" data.train='cut/*.bin' data.val='shards/val_*.bin'
printf 'not a shard at all' >wrong/train_000000.bin
expect 65 'wrong/train_000000.bin' "$program" train "$tiny" data.train='wrong/*.bin' data.val='shards/val_*.bin'
cp -r shards large_ids
printf '\xff\xff\xff\xff\xff\xff' | dd of=large_ids/train_000000.bin bs=1 seek=2000 conv=notrunc 2>/dev/null
expect 65 'large_ids/train_000000.bin' "$program" train "$tiny" data.train='large_ids/train_*.bin' \
    data.val='shards/val_*.bin' train.steps=100 train.micro_batch=32 train.batch_tokens=2048 run.dir=large_ids_run
cp -r shards other_tokenizer
sed -Ei 's/("tokenizer_hash": *)"[0-9a-f]*"/\1"00000000000000000000000000000000"/' other_tokenizer/dataset.json
expect 65 'dataset.json' "$program" train "$tiny" data.train='other_tokenizer/train_*.bin' data.val='shards/val_*.bin'
expect 65 'other_tokenizer/dataset.json' run data.val='other_tokenizer/val_*.bin'
expect 66 'nosuchfile' "$program" prepare nosuchfile --tokenizer byte --out none
expect 2 'tokenizer' "$program" prepare text.txt --out none
cp -r shards mine
expect 2 'mine/tokenizer.json: lies in' "$program" prepare text.txt --tokenizer mine/tokenizer.json --out mine
expect 2 'mine/dataset.json: lies in' "$program" prepare mine --tokenizer byte --out mine
diff -r shards mine || fail "a refused command changed its inputs"
THALWEG_DATA=$PWD/empty expect 66 'get_data.sh' "$program" prepare text.txt --tokenizer gpt2 --out none

echo "== run directories and checkpoints"
train run.dir=good checkpoint.every=10 checkpoint.keep=0
tensors_of good >before
expect 2 'good: the run directory is not empty' run run.dir=good
expect 66 'nowhere' "$program" eval nowhere
expect 66 'nowhere' "$program" resume nowhere
tensors_of good | diff before - || fail "a refused command changed the run"
for file in model.safetensors state-00001-of-00001.safetensors run.json config.json; do
    rm -rf damaged && cp -r good damaged
    printf 'X' | dd of="damaged/checkpoints/step_00000020/$file" bs=1 seek=40 conv=notrunc 2>/dev/null
    expect 74 "$file" "$program" resume damaged/checkpoints/step_00000020 train.steps=24
    expect 74 "$file" "$program" sample damaged/checkpoints/step_00000020 --tokens 4
    rm -rf damaged && cp -r good damaged
    truncate -s -1 "damaged/checkpoints/step_00000020/$file"
    expect 74 "$file" "$program" eval damaged
    grep -q 'are missing' out.log || fail "what is missing is not told"
    grep -q 'the one before it is damaged/checkpoints/step_00000010' out.log || fail "the older checkpoint is not named"
done

echo "== models to look at"
for tokens in 0 -1 abc 1e12 99999999999999999999 4611686018427387904; do
    expect 2 "sample.tokens: \"$tokens\"" "$program" sample good --tokens $tokens
done
expect 2 'sample.temperature' "$program" sample good --temperature inf
expect 2 'run.seed' "$program" sample good --seed 99999999999999999999
expect 2 'model.width=64: the checkpoint says what the model is' "$program" sample good model.width=64
expect 2 'model.width=64: the checkpoint says what the model is' "$program" eval good model.width=64
expect 66 "data.val: no validation shards.*--data" "$program" eval good data.val=

echo "== a directory that another process trains in"
start run.dir=busy train.steps=100000
wait_for_lines busy/metrics.jsonl 1
expect 2 'another process' "$program" train "$tiny" "${data[@]}" run.dir=busy --resume
kill -TERM "$started"
status=0; wait "$started" || status=$?
[ $status -eq 75 ] || { cat start.log; fail "exit $status after SIGTERM"; }

echo "== check of what is not a run"
mkdir nothing
expect 66 'nothing: neither a checkpoint nor a run' "$program" check nothing
expect 2 'leave it out' "$program" check good train.steps=5

echo "== nowhere to write"
[ "$(id -u)" -eq 0 ] || { mkdir readonly && chmod a-w readonly && expect 73 'readonly' run run.dir=readonly/run; }
expect 73 '/dev/null.*not a directory' run run.dir=/dev/null/run
for operation in 3 6 9 12; do # somewhere inside a checkpoint: the run says so, the older checkpoint stays good
    rm -rf full
    status=0
    THALWEG_FAULT=$((operation + 20)):ENOSPC "$program" train "$tiny" "${data[@]}" run.dir=full checkpoint.every=5 \
        >full.log 2>&1 || status=$?
    [ $status -eq 0 ] || [ $status -eq 73 ] || { cat full.log; fail "exit $status with a full disk"; }
    "$program" resume full train.steps=22 >resume.log 2>&1 || { cat resume.log; fail "the run was lost"; }
done

echo "== a small disk: older checkpoints make room, and where they may not the run says so"
mkdir disk
if mount -t tmpfs -o size=10m tmpfs disk 2>/dev/null; then
    trap 'umount -l "$work/disk"' EXIT
    train run.dir=disk/run checkpoint.every=2 checkpoint.keep=1 checkpoint.keep_models=0
    expect 0 'Nothing is damaged.*goes on from step_00000020' "$program" check disk/run
    rm -r disk/run
    expect 73 'a checkpoint needs .* are free; free some space, lower checkpoint.keep' run run.dir=disk/run \
        checkpoint.every=4 checkpoint.keep=0
    expect 0 'Nothing is damaged' "$program" check disk/run
    expect 0 'finished: 20 steps' "$program" resume disk/run checkpoint.keep=1 checkpoint.keep_models=0
    umount disk
    trap - EXIT
else
    echo "   skipped: no disk can be made here"
fi
