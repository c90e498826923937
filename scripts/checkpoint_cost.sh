#!/usr/bin/env bash
# What checkpoints cost a run in its steady state: how long training waits for the copy, and by how much the steps are
# longer while the writer works beside them, as a share of the time between two checkpoints.
#   scripts/checkpoint_cost.sh [key=value ...]      default: 10.7M parameters, SF-AdamW, 1001 steps, one every 200
set -euo pipefail
cd "$(dirname "$0")/.."

every=200 steps=1001 # the last one is waited for, and not counted
work=build/tmp/checkpoint-cost
rm -rf $work && mkdir -p $work
(find /usr/include -name '*.h' -print0 | xargs -0 cat 2>/dev/null || true) | head -c 20000000 >$work/text.txt
./train_gpt prepare $work/text.txt --tokenizer byte --out $work/shards >$work/prepare.log 2>&1
./train_gpt train configs/tiny.json data.train="$work/shards/train_*.bin" data.val="$work/shards/val_*.bin" \
    run.dir=$work/run model.depth=6 model.width=384 model.heads=6 train.sequence_length=160 train.micro_batch=1 \
    train.batch_tokens=160 optim.name=sf_adamw optim.lr=0.003 train.steps=$steps eval.every=0 checkpoint.every=$every \
    "$@" 2>$work/train.log

grep -o 'training waited [0-9]* ms' $work/train.log | awk '{ print $3 / 1000 }' >$work/waited
grep -o '"seconds":[0-9.e+-]*' $work/run/metrics.jsonl | cut -d: -f2 >$work/seconds # of training, so far
awk -v every=$every -v near=20 '
    FILENAME ~ /waited$/ { if (checkpoints++) waited += $1; else first = $1; next }
    { step[++steps] = $1 - before; before = $1 }
    function median(from, to,    i, j, n, a) {
        for (i = from; i <= to; i++) {
            for (j = n++; j > 0 && a[j - 1] > step[i]; j--) a[j] = a[j - 1]
            a[j] = step[i]
        }
        return a[int(n / 2)]
    }
    function longer(from, usual,    i, sum) { # than usual, the steps from there on
        for (i = from; i < from + near; i++) sum += step[i] - usual
        return sum
    }
    END {
        for (c = 2 * every; c + every <= steps; c += every) { # a checkpoint is written beside the steps behind it
            usual = median(c - every / 2, c)
            beside += longer(c + 1, usual)
            noise += longer(c + 1 + near, usual)
            between += every * median(c + 1 + 2 * near, c + every)
            intervals++
        }
        waited /= checkpoints - 1
        printf "checkpoints                one every %d steps of %.1f ms\n", every, 1e3 * between / intervals / every
        printf "training waited            %.1f ms for each, %.1f ms for the first\n", 1e3 * waited, 1e3 * first
        printf "the %d steps after it      %.1f ms longer than usual in all\n", near, 1e3 * beside / intervals
        printf "the %d steps after those   %.1f ms, where none is written\n", near, 1e3 * noise / intervals
        printf "cost                       %.2f %% of the time between two, but for the first\n",
            100 * (waited + beside / intervals) / (between / intervals)
    }' $work/waited $work/seconds
grep -o 'step [0-9]*: checkpoint.*' $work/train.log
du -sh $work/run/checkpoints/* | tail -n 1
