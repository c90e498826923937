#!/usr/bin/env bash
# Threads do not change a bit; micro-batches see the same data and agree to rounding; recomputation changes nothing.
. "$(dirname "$0")/lib.sh"
make_shards
wide=(model.width=128 model.heads=4 train.sequence_length=64 train.batch_tokens=768 train.steps=6 eval.every=3
    eval.tokens=1K)

echo "== threads"
train "${wide[@]}" run.dir=one threads=1 train.micro_batch=4
train "${wide[@]}" run.dir=two threads=2 train.micro_batch=4
same_run one two

echo "== recompute"
for level in 1 2; do
    train "${wide[@]}" run.dir=recompute$level train.recompute=$level train.micro_batch=4
    same_run one recompute$level
done

echo "== micro-batches"
losses() { grep -oE '"(val_)?loss":[0-9.e+-]+' "$1/metrics.jsonl" | cut -d: -f2; }
for micro in 1 2 3 5; do
    train "${wide[@]}" run.dir=micro$micro train.micro_batch=$micro
    paste <(losses one) <(losses micro$micro) | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-5 * $1) exit 1 }' ||
        { paste <(losses one) <(losses micro$micro); fail "micro-batch $micro differs"; }
done
