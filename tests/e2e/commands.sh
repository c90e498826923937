#!/usr/bin/env bash
# Every command once, as the documentation shows it.
. "$(dirname "$0")/lib.sh"
make_text 2000 >text.txt
mkdir folder && make_text 30 >folder/a.txt && make_text 40 | sed 's/river/stream/g' >folder/b.txt
printf '{"text": "one document"}\n{"text": "another\\nwith two lines"}\n' >lines.jsonl

expect 0 'documents' "$program" prepare text.txt folder lines.jsonl --tokenizer byte --out shards
expect 0 'model.depth|"depth": 2' "$program" config "$tiny"
expect 0 'The configuration is good' "$program" check "$tiny" "${data[@]}"
expect 0 'finished: 20 steps' "$program" train "$tiny" "${data[@]}" run.dir=run sample.every=10 sample.tokens=8
expect 0 'bits per byte' "$program" eval run
expect 0 '"val_loss": [0-9]' "$program" eval run --json
expect 0 'validation loss' "$program" eval run --data 'shards/train_*.bin' eval.tokens=2K
"$program" sample run --prompt 'the river' --tokens 40 --seed 3 >a.txt
"$program" sample run --prompt 'the river' --tokens 40 --seed 3 >b.txt
"$program" sample run --prompt 'the river' --tokens 40 --seed 4 >c.txt
cmp a.txt b.txt || fail "one seed, two samples"
! cmp -s a.txt c.txt || fail "two seeds, one sample"
bytes=$("$program" sample run --tokens=3 | wc -c) # escapes of \xNN may stand for bytes
[ "$bytes" -ge 4 ] || fail "three tokens gave $bytes bytes"
grep -q '^the river' a.txt || fail "the prompt is not printed"
expect 0 'step / GEMMs' "$program" bench "$tiny" model.vocab=300
mkdir -p emptied
expect 0 '"step_over_gemms"' env TMPDIR=emptied "$program" bench "$tiny" model.vocab=300 --json
grep -q '"logging_share_of_100ms": [0-9]' out.log || { cat out.log >&2; fail "bench does not tell what logging costs"; }
rmdir emptied || fail "bench leaves files behind"
expect 0 'emptied: no folder can be made there, and what logging costs is not' \
    env TMPDIR=emptied "$program" bench "$tiny" model.vocab=300
for key in share_of_step elements_over_stream newton_schulz_over_library; do
    expect 0 "\"$key\": [0-9]" "$program" bench "$tiny" model.vocab=300 optim.name=amuse --json
done
expect 0 '^the optimizer .* % of the step' "$program" bench "$tiny" model.vocab=300 optim.name=muon
expect 0 '^muon +[0-9.]+ +[0-9.]+ MiB( +[^ ]+){7}$' "$program" bench "$tiny" model.vocab=300 --optimizer optim.name=muon
expect 0 '^sf_adamw' "$program" bench "$tiny" model.vocab=300 --recipes adamw,sf_adamw
expect 0 '^ +15 .* %$' "$program" bench "$tiny" model.vocab=300 --generate
expect 0 '"read_over_token": [0-9]' "$program" bench "$tiny" model.vocab=300 model.tied=false --generate --json
expect 2 'leave --optimizer and --recipes out' "$program" bench "$tiny" --generate --optimizer
expect 2 'optim.name: there is no "adamv"' "$program" bench "$tiny" model.vocab=300 --recipes adamw,adamv
expect 0 'OpenBLAS' "$program" doctor
expect 0 'train CONFIG.json|start a run' "$program" help
commands=$("$program" help | awk '/^Sections/ { exit } /^  [a-z]/ { print $1 }')
[ "$(wc -w <<<"$commands")" -ge 10 ] || fail "help lists these commands: $commands"
for command in $commands; do expect 0 "usage: train_gpt $command" "$program" help "$command"; done
for command in train resume eval sample prepare check config; do expect 2 'usage' "$program" $command; done
for section in model data train optim eval checkpoint sample log run; do
    expect 0 "$section\\." "$program" help $section
done

echo "== one process of each family trains"
expect 0 'finished' "$program" train "$tiny" "${data[@]}" run.dir=gpt2 model.norm=layernorm model.position=learned \
    model.mlp=gelu model.bias=true
expect 0 'finished' "$program" train "$tiny" "${data[@]}" run.dir=qwen3 model.qk_norm=true model.kv_heads=1
expect 0 'finished' "$program" train "$tiny" "${data[@]}" run.dir=relu2 model.mlp=relu2 model.tied=false
for run in gpt2 qwen3 relu2; do expect 0 'bits per byte' "$program" eval $run; done
