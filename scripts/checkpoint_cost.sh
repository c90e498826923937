#!/usr/bin/env bash
# What checkpoints cost a run in its steady state: how long training waits for the copy, and by how much the steps are
# longer while the writer works beside them, as a share of the time between two checkpoints.
#   scripts/checkpoint_cost.sh [key=value ...]      default: 10.8M parameters, AMUSE, 1000 steps, one every 200
set -euo pipefail
cd "$(dirname "$0")/.."

every=200 steps=1001 # the last one is waited for, and not counted
work=build/tmp/checkpoint-cost
rm -rf $work && mkdir -p $work
find /usr/include -name '*.h' -print0 | xargs -0 cat | head -c 20000000 >$work/text.txt || true
./train_gpt prepare $work/text.txt --tokenizer byte --out $work/shards >$work/prepare.log 2>&1
./train_gpt train configs/tiny.json data.train="$work/shards/train_*.bin" data.val="$work/shards/val_*.bin" \
    run.dir=$work/run model.depth=6 model.width=384 model.heads=6 train.sequence_length=256 train.micro_batch=1 \
    train.batch_tokens=256 optim.name=amuse optim.lr=0.003 train.steps=$steps eval.every=0 checkpoint.every=$every \
    "$@" 2>$work/train.log

grep -o 'training waited [0-9]* ms' $work/train.log | awk '{ print $3 / 1000 }' >$work/waited
grep -o '"seconds":[0-9.e+-]*' $work/run/metrics.jsonl | cut -d: -f2 >$work/seconds # of training, so far
awk -v every=$every '
    FILENAME ~ /waited$/ { waited += $1; checkpoints++; next }
    { step[++steps] = $1 - before; before = $1 }
    function median(from, to,    i, j, n, a, t) {
        for (i = from; i <= to; i++) {
            for (j = n++; j > 0 && a[j - 1] > step[i]; j--) a[j] = a[j - 1]
            a[j] = step[i]
        }
        return a[int(n / 2)]
    }
    END {
        near = 20 # steps beside which one is written, at most
        for (c = every; c + every <= steps; c += every) {
            usual = median(c - every / 2, c)
            for (i = c + 1; i <= c + near; i++) longer += step[i] - usual
            quiet += median(c + near + 1, c + every - near); intervals++
            for (i = c + near + 1; i <= c + 2 * near; i++) noise += step[i] - usual
        }
        between = every * quiet / intervals
        printf "checkpoints                %d, one every %d steps of %.1f ms\n", checkpoints, every,
            1e3 * between / every
        printf "training waited            %.1f ms for each\n", 1e3 * waited / checkpoints
        printf "the %d steps after it      %.1f ms longer than usual in all\n", near, 1e3 * longer / intervals
        printf "the %d steps after those   %.1f ms, where none is written\n", near, 1e3 * noise / intervals
        printf "cost                       %.2f %% of the time between two\n",
            100 * (waited / checkpoints + longer / intervals) / between
    }' $work/waited $work/seconds
grep -o 'step [0-9]*: checkpoint.*' $work/train.log
du -sh $work/run/checkpoints/* | tail -n 1
