#!/usr/bin/env bash
# Hugging Face directories: evaluated, begun with, resumed without them, exported; what is not here or lies is refused
# by name before it costs anything.
. "$(dirname "$0")/lib.sh"
make_shards
fixtures=$root/tests/fixtures/hugging_face
json() { "$program" eval "$@" --json; }
loss_of() { sed -n 's/^ *"val_loss": \(.*\),$/\1/p'; }

echo "== a checkpoint of ours is such a directory wherever it is copied"
train run.dir=run checkpoint.every=10
checkpoint=$(checkpoint_of run)
for file in config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json; do
    [ -s "$checkpoint/$file" ] || fail "$checkpoint has no $file"
done
cp -r "$checkpoint" copy && rm copy/manifest.json copy/run.json copy/state-*
ours=$(json run eval.tokens=2K --data 'shards/val_*.bin' | loss_of)
same=(train.sequence_length=16 train.micro_batch=2) # as the run has them
theirs=$(json copy eval.tokens=2K --data 'shards/val_*.bin' "${same[@]}" | loss_of)
[ -n "$ours" ] && [ "$ours" = "$theirs" ] || fail "the checkpoint has loss $ours, its copy $theirs"
expect 0 'bits per byte' "$program" eval copy --data 'shards/val_*.bin' train.sequence_length=16
expect 2 'do not fit model.context 16' "$program" eval copy --data 'shards/val_*.bin' train.sequence_length=32
expect 2 'one set of weights' "$program" eval copy --weights z --data 'shards/val_*.bin'
expect 2 'model.depth=3.*leave it out' "$program" eval copy model.depth=3 --data 'shards/val_*.bin'

echo "== a run begins with the weights of a checkpoint, of a directory, of a run, on one rank and on two"
for begin in "$checkpoint" copy run; do
    "$program" train "$tiny" "${data[@]}" model.depth=auto model.width=auto model.heads=auto model.init="$begin" \
        run.dir="from-${begin##*/}" eval.tokens=2K train.steps=6 checkpoint.every=3 >begin.log 2>&1 ||
        { cat begin.log; fail "begin with $begin"; }
    grep -q 'begin   with the weights of' begin.log || { cat begin.log; fail "the banner does not say it"; }
    first=$(sed -n '1s/.*"val_loss":\([^,]*\),.*/\1/p' "from-${begin##*/}/metrics.jsonl")
    [ "$first" = "$ours" ] || fail "begun with $begin: first validation loss $first, the checkpoint has $ours"
done
same_run from-copy from-run
# The fields that the configuration names agree with the weights.
train model.init=copy run.dir=two eval.tokens=2K train.steps=6 checkpoint.every=3 --ranks 2
[ "$(sed -n '1s/.*"val_loss":\([0-9.]\{6\}\).*/\1/p' two/metrics.jsonl)" = "${ours:0:6}" ] ||
    fail "two ranks: $(head -n 1 two/metrics.jsonl)"
expect 0 'begin   with the weights of copy' "$program" check "$tiny" "${data[@]}" model.init=copy

echo "== and goes on when they are gone"
mv copy gone
cp -r from-copy again && rm -r again/checkpoints/step_00000006
"$program" resume again >resume.log 2>&1 || { cat resume.log; fail "resume without the weights"; }
same_run from-copy again
cp -r from-copy third && rm -r third/checkpoints/step_00000006
"$program" train "$tiny" "${data[@]}" model.depth=auto model.width=auto model.heads=auto model.init=copy run.dir=third \
    eval.tokens=2K train.steps=6 checkpoint.every=3 --resume >resume.log 2>&1 ||
    { cat resume.log; fail "train --resume"; }
same_tensors from-copy third
expect 0 'bits per byte' "$program" eval from-copy
mv gone copy

echo "== what does not agree is told"
expect 2 'model.depth is 4, the weights of model.init copy have 2' \
    "$program" train "$tiny" "${data[@]}" model.init=copy model.depth=4 run.dir=no
expect 2 'model.norm is layernorm, the weights .* have rmsnorm' \
    "$program" train "$tiny" "${data[@]}" model.init=copy model.norm=layernorm run.dir=no
expect 2 'model.preset' "$program" train "$tiny" "${data[@]}" model.init=copy model.preset=llama-124m run.dir=no
expect 0 '' "$program" check "$tiny" "${data[@]}" model.init=copy model.context=64 train.sequence_length=64
expect 2 'model.context is 8, the weights .* have 16' \
    "$program" check "$tiny" "${data[@]}" model.init=copy model.context=8 train.sequence_length=8
expect 2 'do not fit model.context 16' "$program" check "$tiny" "${data[@]}" model.init=copy train.sequence_length=64
expect 2 '"gtp2" is neither auto, gpt2, llama, nor the path' "$program" check "$tiny" "${data[@]}" model.init=gtp2
expect 2 'less than the tokenizer' "$program" check "$tiny" "${data[@]}" model.init="$fixtures/llama" \
    model.width=auto model.heads=auto model.depth=auto
cp -r copy other && sed -i 's/"a":97,"b":98,/"a":98,"b":97,/' other/tokenizer.json
! cmp -s copy/tokenizer.json other/tokenizer.json || fail "the tokenizers are one"
expect 65 'other has another tokenizer than the shards.*--tokenizer other/tokenizer.json' \
    "$program" check "$tiny" "${data[@]}" model.init=other

echo "== export: our own, by iterate and dtype, sharded; the card"
"$program" train "$tiny" "${data[@]}" run.dir=averaged optim.name=sf_adamw train.steps=10 >/dev/null 2>&1
expect 0 'out-run: llama' "$program" export run --to hf out-run
cmp out-run/model.safetensors "$checkpoint/model.safetensors" || fail "the weights are not the checkpoint's"
cmp out-run/config.json "$checkpoint/config.json" || fail "config.json is not the checkpoint's"
cmp out-run/tokenizer.json "$checkpoint/tokenizer.json" || fail "tokenizer.json is not the checkpoint's"
grep -q 'validation loss.*nats per token at step 20' out-run/README.md || { cat out-run/README.md; fail "the card"; }
grep -q 'from text.txt' out-run/README.md || { cat out-run/README.md; fail "the card names no source"; }
theirs=$(json out-run eval.tokens=2K --data 'shards/val_*.bin' "${same[@]}" | loss_of)
[ "$theirs" = "$ours" ] || fail "the export has loss $theirs, the checkpoint $ours"
for weights in x z; do expect 0 'llama' "$program" export averaged --to hf out-$weights --weights $weights; done
cmp out-x/model.safetensors "$(checkpoint_of averaged)/model.safetensors" || fail "x is not what the checkpoint shows"
! cmp -s out-z/model.safetensors out-x/model.safetensors || fail "z is x"
expect 0 'llama' "$program" export run --to hf out-half --dtype bf16 --shard-size 20KB
[ -f out-half/model.safetensors.index.json ] && [ -f out-half/model-00002-of-00005.safetensors ] ||
    { ls out-half; fail "no shards"; }
grep -q '"dtype": "bfloat16"' out-half/config.json || fail "config.json does not say bfloat16"
expect 0 'validation loss' "$program" eval out-half --data 'shards/val_*.bin' train.sequence_length=16
expect 2 'not an empty directory' "$program" export run --to hf out-run
expect 2 'foo: there is no such key' "$program" export run --to hf out-no foo=1
expect 2 'model.depth=3.*leave it out' "$program" export run --to hf out-no model.depth=3
expect 0 'llama' "$program" export "$PWD/copy/" --to hf out-slash/
grep -q 'converted from | copy |' out-slash/README.md || { cat out-slash/README.md; fail "the card tells of folders"; }
expect 2 'expected hf' "$program" export run --to gguf out-no
expect 2 'expected auto, fp32' "$program" export run --to hf out-no --dtype fp8
expect 2 'such as 5GB' "$program" export run --to hf out-no --shard-size 5QB
"$program" train "$tiny" "${data[@]}" run.dir=relu2 model.mlp=relu2 train.steps=2 >relu2.log 2>&1
grep -q 'no Hugging Face class (model.mlp=relu2' relu2.log || { cat relu2.log; fail "the banner does not say it"; }
expect 2 'no Hugging Face class.*model.mlp=relu2' "$program" export relu2 --to hf out-no
[ ! -e out-no ] && [ ! -e out-no.partial ] || fail "a refused export left something"
cp -r "$(checkpoint_of relu2)" relu2-copy && rm relu2-copy/manifest.json
grep -q 'only train_gpt reads this' relu2-copy/config.json || fail "config.json does not say whose it is"
expect 0 'validation loss' "$program" eval relu2-copy --data 'shards/val_*.bin' train.sequence_length=16

echo "== ids of any model"
expect 0 '^[0-9 ]+$' "$program" sample "$fixtures/llama" --ids --prompt '1 2 3' --tokens 4 --temperature 0
expect 0 'llama' "$program" check "$fixtures/llama"

echo "== hostile directories are refused by name"
hostile() { # CODE PATTERN SED-OF-CONFIG
    rm -rf hostile && cp -r "$fixtures/llama" hostile
    sed -i "$3" hostile/config.json
    expect "$1" "$2" "$program" sample hostile --ids --prompt 1 --tokens 1
}
hostile 65 'config.json:[0-9]+:[0-9]+: model_type is mistral' 's/"model_type": "llama"/"model_type": "mistral"/'
hostile 65 'rope_parameters is llama3, expected default' 's/"rope_type": "default"/"rope_type": "llama3"/'
hostile 65 'attention_bias is true' 's/"attention_bias": false/"attention_bias": true/'
hostile 65 'vocab_size is 1e\+?15|vocab_size is 1000000000000000' 's/"vocab_size": 83/"vocab_size": 1000000000000000/'
hostile 65 'embed_tokens.weight has shape \(83, 32\), by the config \(1999999999, 32\)' \
    's/"vocab_size": 83/"vocab_size": 1999999999/'
hostile 65 'there is no tensor model.layers.2' 's/"num_hidden_layers": 2/"num_hidden_layers": 3/'
hostile 65 'has no tensor model.layers.1' 's/"num_hidden_layers": 2/"num_hidden_layers": 1/'
hostile 65 'lm_head.weight is not model.embed_tokens' 's/"tie_word_embeddings": false/"tie_word_embeddings": true/'
hostile 65 'hidden_act is gelu' 's/"hidden_act": "silu"/"hidden_act": "gelu"/'
hostile 65 'config.json:' 's/}$/}}/'
rm -rf hostile && cp -r "$fixtures/llama" hostile && rm hostile/config.json
expect 66 'config.json: is missing' "$program" sample hostile --ids --prompt 1 --tokens 1
rm -rf hostile && cp -r "$fixtures/llama" hostile && rm hostile/model-00002-*
expect 66 'model-00002-of-00004.safetensors: is missing' "$program" sample hostile --ids --prompt 1 --tokens 1
rm -rf hostile && cp -r "$fixtures/llama" hostile && truncate -s -1 hostile/model-00003-*
expect 65 'model-00003-of-00004.safetensors: .*cut short' "$program" sample hostile --ids --prompt 1 --tokens 1
rm -rf hostile && cp -r "$fixtures/llama" hostile && rm hostile/*.safetensors hostile/*.index.json
echo x >hostile/pytorch_model.bin
expect 66 'pickled weights.*save_pretrained' "$program" sample hostile --ids --prompt 1 --tokens 1
echo text >file.bin
expect 65 'neither a directory nor a checkpoint of llm.c' "$program" sample file.bin --ids --prompt 1 --tokens 1
{ printf '\xc6\xd74\x01\x09\0\0\0' && head -c 1016 /dev/zero; } >old.bin
expect 65 'a checkpoint of llm.c of version 9' "$program" check old.bin
expect 66 'neither a checkpoint nor a run' "$program" sample nowhere --ids --prompt 1 --tokens 1
echo "all of it"
