#!/usr/bin/env bash
# Runs that are stopped at awkward moments or by damaged data: what was trained is kept, and goes on to the same end.
. "$(dirname "$0")/lib.sh"
make_shards

echo "== while it evaluates: the evaluation is made by the resume"
slow=(train.steps=6 eval.every=3 eval.tokens=6K train.micro_batch=1 train.batch_tokens=64 model.width=128 model.depth=4)
train run.dir=straight "${slow[@]}"
met=0
for wait in 0.02 0.1 0.25 0 0 0 0 0; do # 0: only where none met it
    [ $wait != 0 ] || [ $met -eq 0 ] || break
    rm -rf stopped
    start run.dir=stopped "${slow[@]}"
    wait_for_lines stopped/metrics.jsonl 1 # the first evaluation, and the steps to the second one, are short
    sleep $wait
    kill -TERM "$started" 2>/dev/null || true
    status=0 && wait "$started" || status=$?
    [ $status -ne 0 ] || continue
    [ $status -eq 75 ] || { cat start.log; fail "exit $status after SIGTERM"; }
    met=$((met + 1))
    if [ -d stopped/checkpoints ]; then resume stopped; else train run.dir=stopped "${slow[@]}"; fi
    same_run straight stopped
done
[ $met -gt 0 ] || fail "no SIGTERM met the run"

echo "== before the first step: nothing is kept, nothing is in the way"
wait_for_file() { while kill -0 "$started" 2>/dev/null && [ ! -e "$1" ]; do sleep 0.01; done; }
for _ in 1 2 3 4 5; do # until the signal is not too late
    rm -rf early
    start run.dir=early eval.every=0 model.width=768 model.depth=8 # initial values take their time
    wait_for_file early/lock
    kill -TERM "$started"
    ends_with 75
    ! grep -q 'before the first step' start.log || break
    again "the signal came behind the first step"
done
grep -q 'before the first step' start.log || { cat start.log; fail "the signal came too late"; }
[ ! -e early ] || fail "a run without a step left $(ls early)"

echo "== SIGINT twice, SIGUSR1, SIGUSR2"
long=(train.steps=100000 eval.every=0 checkpoint.every=0)
start run.dir=user1 "${long[@]}"
wait_for_lines user1/metrics.jsonl 5
kill -USR2 "$started"
wait_for_file user1/checkpoints
before=$(wc -l <user1/metrics.jsonl)
wait_for_lines user1/metrics.jsonl $((before + 5)) # it goes on
kill -USR1 "$started"
ends_with 75
[ "$(ls user1/checkpoints | wc -l)" -eq 2 ] || fail "checkpoints: $(ls user1/checkpoints)"
start run.dir=twice train.batch_tokens=1B # a step of hours
wait_for_lines twice/metrics.jsonl 1
kill -INT "$started"
kill -TERM "$started" # whatever comes between
while kill -INT "$started" 2>/dev/null; do sleep 0.02; done
ends_with 130

echo "== a time limit is kept, whatever is under way"
expect 75 'stopped at step' "$program" train "$tiny" "${data[@]}" run.dir=timed train.steps=1000000 \
    train.max_seconds=3 eval.every=0 sample.every=50 sample.tokens=1000000 sample.ignore_eos=true
expect 0 . "$program" sample timed --tokens 4

echo "== several starts in one directory: one of them trains"
for i in 1 2 3 4; do
    "$program" train "$tiny" "${data[@]}" run.dir=shared train.steps=300 eval.every=0 >shared.$i.log 2>&1 &
    pids[i]=$!
done
winners=0
for i in 1 2 3 4; do
    status=0 && wait "${pids[i]}" || status=$?
    [ $status -eq 0 ] && winners=$((winners + 1))
    [ $status -eq 0 ] || [ $status -eq 2 ] || { cat shared.$i.log; fail "exit $status"; }
done
[ $winners -eq 1 ] || { tail -n 2 shared.*.log; fail "$winners of 4 trained"; }
[ "$(grep -c grad_norm shared/metrics.jsonl)" -eq 300 ] || fail "the metrics are not those of one run"

echo "== while it samples, and by SIGHUP"
for signal in TERM HUP; do
    rm -rf sampling
    start run.dir=sampling sample.every=1 sample.tokens=1000000 sample.ignore_eos=true train.steps=3
    wait_for_lines sampling/metrics.jsonl 2
    sleep 0.1
    kill -$signal "$started"
    ends_with 75
done

echo "== a damaged id: the steps before it are kept, and mended data goes on"
make_text 25000 >large.txt # the middle of a shard of more than 2 MiB is not part of the data's fingerprint
"$program" prepare large.txt --tokenizer byte --out large >prepare.log 2>&1 || { cat prepare.log; fail prepare; }
data=(data.train='large/train_*.bin' data.val='large/val_*.bin')
run=(model.depth=1 model.width=16 model.heads=1 train.steps=140 eval.every=0 data.sampler=sequential
    train.sequence_length=64 train.micro_batch=64 train.batch_tokens=4096)
cp large/train_000000.bin whole.bin
at=$((1024 + 2 * 550000))
printf '\xff\xff' | dd of=large/train_000000.bin bs=1 seek=$at conv=notrunc 2>/dev/null
expect 65 "large/train_000000.bin: token 550000 \\(byte $at\\) is 65535" "$program" train "$tiny" "${data[@]}" \
    "${run[@]}" run.dir=damaged
grep -q 'step 134: checkpoint' out.log || { cat out.log; fail "the steps before the damage were not kept"; }
expect 65 "token 550000" "$program" check "$tiny" "${data[@]}" "${run[@]}"
cp whole.bin large/train_000000.bin
train "${run[@]}" run.dir=undamaged
mv large elsewhere # the same data in another place
resume damaged data.train='elsewhere/train_*.bin' data.val='elsewhere/val_*.bin'
same_run undamaged damaged
data=(data.train='shards/train_*.bin' data.val='shards/val_*.bin')

echo "== damaged validation data: the run goes on, and says 65 at its end"
cp -r shards bad_val
printf '\xff\xff' | dd of=bad_val/val_000000.bin bs=1 seek=1100 conv=notrunc 2>/dev/null
expect 65 'val_000000.bin: token 38' "$program" train "$tiny" data.train='bad_val/train_*.bin' \
    data.val='bad_val/val_*.bin' run.dir=bad_val_run
grep -q 'step 20: checkpoint' out.log || fail "it did not go on"
resume bad_val_run data.val='shards/val_*.bin' # mended: the evaluation of the last step is made
grep -q '"step":20,.*"val_loss"' bad_val_run/metrics.jsonl || fail "the evaluation was not made up for"

echo "== a start that fails leaves no directory in the way"
expect 2 'not enough memory' "$program" train "$tiny" "${data[@]}" run.dir=failed model.vocab=2000000000
[ ! -e failed ] || fail "left: $(ls failed)"
expect 0 'finished' "$program" train "$tiny" "${data[@]}" run.dir=failed

echo "== standard output that cannot be written"
expect 73 'standard output' bash -c "'$program' help >/dev/full"
expect 73 'standard output' bash -c "'$program' eval failed --json >&-"
