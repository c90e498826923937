#!/usr/bin/env bash
# Sweep files as users write them: what is wrong is told before anything is begun, and a dry run tells what there would
# be. The sweeps of the project plan without a problem.
source "$(dirname "$0")/lib.sh"
make_shards
dry() { "$program" sweep "$@" --dry-run "${data[@]}"; }
shows() { grep -qE -- "$1" out.log || { cat out.log >&2; fail "no \"$1\" in what was printed"; }; }
nothing_begun() { [ ! -e sweeps ] || fail "a dry run wrote $(find sweeps)"; }

# A misspelt key, a value that is none, a bound where a list is wanted: all at once, each with its place.
cat >wrong.json <<END
{
    "base": "$tiny",
    "axes": {
        "optim.weight_deacy": [0.1, 0.01],
        "model.norm": ["layernorm", "rmsnrom"],
        "run.seed": {"uniform": [1, 3]}
    }
}
END
expect 2 'wrong.json:4:31: optim.weight_deacy: there is no such key; did you mean "optim.weight_decay"' dry wrong.json
shows 'wrong.json:5:37: model.norm: "rmsnrom" is not one of the choices.*did you mean "rmsnorm"'
shows 'wrong.json:6:33: run.seed: "uniform" is drawn from at random; add "random"'
echo '{"base": "nowhere.json"}' >baseless.json
expect 2 'baseless.json:1:10: base: nowhere.json: there is no such file' dry baseless.json
expect 66 'no such sweep file; it comes first' dry optim.lr=1
echo "{\"base\": \"$tiny\", \"axes\": {\"optim.lr\": [0.001]}, \"budget\": {\"max_runs\": 1}}" >one.json
expect 2 'override optim.lr: it is an axis of one.json' dry one.json optim.lr=0.1
expect 2 'override optim.rl: .*did you mean "optim.lr"' dry one.json optim.rl=0.1

# Every run, and the sums. One that cannot run says why and stops no other.
cat >good.json <<END
{
    "base": "$tiny",
    "axes": {"model.heads": [2, 3], "run.seed": [1, 2, 2]},
    "arms": [{"name": "short", "set": {"train.steps": 4}}, {"name": "long"}]
}
END
expect 0 '^8 runs, 4 that cannot run, 4 duplicates$' dry good.json --jobs 3
shows '^4 to run: .* core-hours; about .* on 3 slots'
shows '^[0-9a-f]{12}  long  .*  new  +model.heads=2 run.seed=1$'
shows '^cannot run \(exit 2\): [0-9a-f]{12} [0-9a-f]{12} [0-9a-f]{12} [0-9a-f]{12}$'
order=$(grep -E ' new ' out.log | sed -E 's/.* (long|short) .*/\1/' | tr '\n' ' ')
[ "$order" = 'long long short short ' ] || { cat out.log >&2; fail "not the longest first"; }
nothing_begun

# Columns stand under each other whatever characters a name has; wc counts them as a terminal does.
cat >wide.json <<END
{"base": "$tiny", "arms": [{"name": "\u5b66\u7fd2\u7387", "set": {"optim.lr": 0.1}},
    {"name": "re\u0301sume\u0301", "set": {"optim.lr": 0.2}}, {"name": "plain"}]}
END
expect 0 '^3 runs$' dry wide.json
for row in $(grep -nE ' (status|new) ' out.log | cut -d : -f 1); do
    sed -nE "${row}s/ (status|new) .*//p" out.log | LC_ALL=C.UTF-8 wc -L
done >widths.log
[ "$(wc -l <widths.log) $(uniq widths.log | wc -l)" = '4 1' ] || { cat out.log >&2; fail "columns are not aligned"; }

# A budget is planned with.
cat >budget.json <<END
{"base": "$tiny", "axes": {"run.seed": [1, 2, 3]}, "budget": {"max_hours": 1e-9, "max_parallel": 2}}
END
expect 0 '^budget.max_hours ends it after .*: some will be left' dry budget.json --jobs 3
shows '^3 to run: .* on 2 slots'
nothing_begun

# An id does not know where and how a run is shown, and does know what it is.
ids() { dry one.json "$@" | grep -oE '^[0-9a-f]{12} '; }
first=$(ids)
[ "$(ids log.every=7 threads=1 device=cpu)" = "$first" ] || fail "another id for the same run"
[ "$(ids optim.clip=0.5)" != "$first" ] || fail "one id for two runs"

# Data that is not there is told by every run, and the plan goes on.
expect 66 '^1 run, 1 that cannot run' "$program" sweep one.json --dry-run data.train=missing.bin
shows 'missing.bin: no file matches'

# What the project offers, small or large, with each option that its arms set.
sweeps=$root/configs/sweeps
expect 0 '^15 to run:' dry "$sweeps/optimizers.json"
expect 0 '^15 to run:' dry "$sweeps/optimizers.json" base="$root/configs/llama-124m.json" device=cpu model.depth=1 \
    model.vocab=300
expect 0 '^146 runs, 24 left out$' dry "$sweeps/optimizers_full.json" device=cpu model.depth=1 model.vocab=300
shows '^146 to run:'
nothing_begun
