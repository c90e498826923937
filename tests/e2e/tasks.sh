#!/usr/bin/env bash
# What an evaluation measures: validation loss and HellaSwag, alone and together, by `eval` and while training; on
# several ranks, and stopped in the middle.
. "$(dirname "$0")/lib.sh"
make_shards
fixture=$root/tests/fixtures/hellaswag
unset THALWEG_DATA

# Examples in HellaSwag's form, short enough for bytes.
awk 'BEGIN { split("river stone wall sand sea boat rain moss", w, " "); s = 11
    for (i = 0; i < 40; i++) {
        for (j = 1; j <= 10; j++) { s = (s * 1103 + 12345) % 65536; p[j] = w[1 + int(s / 64) % 8] }
        context = "the " p[1] " and the " p[2]
        printf "{\"ind\": %d, \"activity_label\": \"Old %s\", \"ctx_a\": \"%s.\", \"ctx_b\": \"it\", ", i, p[3], context
        printf "\"ctx\": \"%s. it\", ", context
        printf "\"endings\": [\"is %s.\", \"runs to %s\", \"[x] %s %s\", \"%s\"], \"label\": %d}\n",
            p[4], p[5], p[6], p[7], p[8], int(s / 512) % 4
    } }' >hellaswag.jsonl
both=(eval.tasks=val,hellaswag eval.hellaswag=hellaswag.jsonl eval.every=5 train.steps=10 train.sequence_length=48
    train.batch_tokens=288)
number() { sed -nE "s/.*\"$1\": ?([-+.0-9e]+).*/\1/p" "$2" | tail -n 1; } # KEY FILE: the last one
four=(hellaswag_llmc_acc hellaswag_llmc_acc_norm hellaswag_lmeval_acc hellaswag_lmeval_acc_norm)

echo "== while training: in the metrics, on the console, and the same from eval"
train run.dir=both "${both[@]}"
grep -qE 'step 5: validation loss .*; hellaswag_llmc acc [01]\.[0-9]{4}, acc_norm .*; hellaswag_lmeval acc' train.log ||
    { cat train.log; fail "nothing of HellaSwag on the console"; }
"$program" eval both --tasks val,hellaswag --json >both.json 2>eval.log || { cat eval.log; fail eval; }
for key in val_loss "${four[@]}"; do
    [ "$(grep -c "\"$key\":" both/metrics.jsonl)" -eq 3 ] || fail "not three lines with $key: $(cat both/metrics.jsonl)"
    a=$(number $key both/metrics.jsonl) b=$(number $key both.json)
    [ -n "$a" ] && awk -v a="$a" -v b="$b" 'BEGIN { d = a - b; exit d * d > 1e-12 }' || fail "$key: $a, and eval has $b"
done
[ "$(number hellaswag_examples both.json)" = 40 ] || fail "not 40 examples: $(cat both.json)"
[ -n "$(number hellaswag_lmeval_acc_norm_stderr both.json)" ] || fail "no error of the mean: $(cat both.json)"
! grep -q '"hellaswag"' both.json || fail "a plain name for one of two conventions"

echo "== several ranks share the examples"
train run.dir=three --ranks 3 "${both[@]}"
for key in "${four[@]}"; do
    [ "$(number "$key" three/metrics.jsonl)" = "$(number "$key" both/metrics.jsonl)" ] || fail "$key on three ranks"
done

echo "== eval: either task alone, the default, a limit, a model without a tokenizer"
"$program" eval both --json >val.json
! grep -q hellaswag val.json || fail "HellaSwag without being asked"
mv shards elsewhere # a task needs only its own data
expect 0 'over 7 examples' "$program" eval both --tasks hellaswag --hellaswag hellaswag.jsonl --examples 7
expect 66 'val_' "$program" eval both --tasks val
mv elsewhere shards
expect 2 'eval.tasks: "val,swag" is not a list of tasks; there are val, hellaswag' "$program" eval both --tasks val,swag
expect 2 'eval.tasks' "$program" eval both eval.tasks=
mkdir bare # of many documents, without a word on tokenizer and separator
make_text 300 | sed 's/.*/{"text": "&"}/' >text.jsonl
expect 0 . "$program" prepare text.jsonl --tokenizer byte --val-fraction 0.2 --out prepared
cp prepared/*.bin bare
train run.dir=bare_run data.train='bare/train_*.bin' data.val='bare/val_*.bin' model.vocab=400 \
    train.sequence_length=96 train.batch_tokens=192 train.steps=1
"$program" eval bare_run --tasks hellaswag --hellaswag "$fixture/examples.bin" --json >bin.json || fail "eval of a .bin"
[ -n "$(number hellaswag_llmc_acc bin.json)" ] && [ -z "$(number hellaswag_lmeval_acc bin.json)" ] ||
    fail "a binary holds llm.c's convention alone: $(cat bin.json)"
expect 2 'no tokenizer' "$program" eval bare_run --tasks hellaswag --hellaswag hellaswag.jsonl
expect 65 'not in the model' "$program" eval both --tasks hellaswag --hellaswag "$fixture/examples.bin"

echo "== what is missing or damaged is told before the first step"
swag=("$program" train "$tiny" "${data[@]}" "${both[@]}")
expect 66 'hellaswag_val.jsonl.*scripts/get_data.sh hellaswag' env THALWEG_DATA=nowhere "${swag[@]}" \
    eval.hellaswag= run.dir=missing
head -c 5000 hellaswag.jsonl >cut.jsonl
expect 65 'cut.jsonl, line' "${swag[@]}" eval.hellaswag=cut.jsonl run.dir=missing
expect 65 'tokens, and the model sees 8' "${swag[@]}" train.sequence_length=8 run.dir=missing
expect 2 'checkpoint.best.*add val' "${swag[@]}" eval.tasks=hellaswag checkpoint.best=true run.dir=missing
[ ! -e missing ] || fail "a run that did not begin left something"
mkdir -p fetched/hellaswag
cp hellaswag.jsonl fetched/hellaswag/hellaswag_val.jsonl
expect 0 'hellaswag_lmeval' env THALWEG_DATA=fetched "$program" train "$tiny" "${both[@]}" run.dir=alone \
    data.train='shards/train_*.bin' eval.tasks=hellaswag eval.hellaswag= eval.examples=5
! grep -q val_loss alone/metrics.jsonl || fail "a validation loss from nowhere"

echo "== long rows lose the beginning of their context, which is told once"
expect 0 'hellaswag_lmeval: [0-9]+ of 160 rows are longer than the 30 tokens' "${swag[@]}" train.sequence_length=30 \
    train.batch_tokens=60 run.dir=short
[ "$(grep -c 'rows are longer' out.log)" -le 2 ] || fail "told again and again: $(cat out.log)"

echo "== stopped while it evaluates: the evaluation is made by the resume"
for i in $(seq 5); do cat hellaswag.jsonl; done >many.jsonl
slow=("${both[@]}" eval.hellaswag=many.jsonl eval.tokens=1K model.width=64 train.steps=6 eval.every=3)
train run.dir=straight "${slow[@]}"
met=0
for wait in 0.02 0.1 0.25; do
    rm -rf stopped
    start run.dir=stopped "${slow[@]}"
    wait_for_lines stopped/metrics.jsonl 3 # steps 1 to 3; their evaluation comes next
    sleep $wait
    kill -TERM "$started" 2>/dev/null || true
    status=0 && wait "$started" || status=$?
    started=
    [ $status -ne 0 ] || continue
    [ $status -eq 75 ] || { cat start.log; fail "exit $status after SIGTERM"; }
    met=$((met + 1))
    resume stopped
    same_run straight stopped
done
[ $met -gt 0 ] || fail "no SIGTERM met the run"

echo "== bits per byte of shards that others made: a separator has no bytes"
for run in both foreign; do
    [ $run = both ] || train run.dir=foreign data.train='bare/train_*.bin' data.val='bare/val_*.bin' data.tokenizer=byte
    "$program" eval $run --data 'bare/val_*.bin' --json eval.tokens=2K train.sequence_length=16 >bits.json || fail eval
    tokens=$(number tokens bits.json)
    bytes=$(tail -c +1025 bare/val_000000.bin | od -An -v -tu2 -w2 |
        awk -v last=$((tokens + 1)) 'NR > 1 && NR <= last && $1 < 256 { n++ } END { print n }')
    [ "$bytes" -lt "$tokens" ] && [ "$bytes" = "$(number bytes bits.json)" ] || fail "$bytes bytes: $(cat bits.json)"
    loss=$(number val_loss bits.json) bits=$(number bits_per_byte bits.json)
    awk -v loss="$loss" -v bits="$bits" -v t="$tokens" -v b="$bytes" \
        'BEGIN { d = loss * t / b / log(2) - bits; exit d * d > 1e-12 }' || fail "$(cat bits.json)"
done

echo "== a Hugging Face directory scores as lm-evaluation-harness and llm.c score it"
"$program" eval "$fixture" --tasks hellaswag --hellaswag "$fixture/examples.jsonl" --json >fixture.json 2>eval.log ||
    { cat eval.log; fail eval; }
found=$(for key in "${four[@]}"; do number $key fixture.json; done | xargs)
[ "$found" = "0.2 0.25 0.22 0.23" ] || fail "the oracles have 0.2 0.25 0.22 0.23, we $found"
