#!/usr/bin/env bash
# Numbers that go bad: steps that are not finite are skipped and counted, and too many of them end the run with 76.
. "$(dirname "$0")/lib.sh"
make_shards
expect 76 'not finite' "$program" train "$tiny" "${data[@]}" run.dir=run optim.lr=1000 optim.clip=0 \
    optim.warmup_steps=0 optim.weight_decay=1000 train.steps=200 train.max_bad_steps=3 eval.every=0
grep -q '"skipped":3' run/metrics.jsonl || { tail -n 3 run/metrics.jsonl; fail "skipped steps are not counted"; }
grep -q 'null' run/metrics.jsonl || fail "a loss that is not finite is not written as null"
