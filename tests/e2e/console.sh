#!/usr/bin/env bash
# What a person sees while a run goes on: plain lines where there is no terminal; on one a live line with a bar that
# fits it; warnings once; a summary however the run ends. And how long a run will take, before it begins.
. "$(dirname "$0")/lib.sh"
make_shards
escape=$'\033'
long=(train.steps=600 eval.every=200 checkpoint.every=250 sample.every=300 sample.tokens=4)

has() { grep -qE -- "$2" "$1" || { cat "$1" >&2; fail "no \"$2\" in $1"; }; }
has_no() { ! grep -qE -- "$2" "$1" || { cat "$1" >&2; fail "\"$2\" in $1"; }; }

# on_terminal COLUMNS NAME VARIABLE=...: a run on a terminal of its own. `raw` gets all that it is sent; `lines` what it
# shows, lines drawn over each other one by one, with bars of =.
on_terminal() {
    local columns=$1 name=$2 words; shift 2
    printf -v words '%q ' env TERM=xterm LC_ALL=C.UTF-8 "$@" "$program" train "$tiny" "${data[@]}" "${long[@]}" \
        run.dir="$name"
    SHELL=/bin/bash script -qec "stty cols $columns rows 24; $words" raw >script.log 2>&1 </dev/null ||
        { cat script.log; fail "exit $? of $name"; }
    sed -E '1d; $d' raw | tr '\r' '\n' | sed -E "s/$escape\[[0-9]*[mK]//g; s/━|╸|─/=/g" >lines # without script's own
}

echo "== no terminal: no escape sequences, and the end is told"
begin=$SECONDS
train run.dir=plain "${long[@]}"
seconds=$((SECONDS - begin))
has_no train.log "$escape"
has train.log '^step 600/600  loss [0-9.]+  lr [0-9.e-]+  norm [0-9.]+  [0-9.]+[KM]? tok/s  [0-9]+% of limit'
has train.log '^steps   600 of 64 tokens, [0-9.]+[KM]? tokens/s in the mean$'
has train.log '^spent   .*: training [0-9]+%, evaluation [0-9]+%, checkpoints [0-9]+%, samples [0-9]+%, all else'
has train.log '^loss    [0-9.]+ in validation at step 600'
has train.log '^kept    plain/checkpoints/step_00000600$'
has train.log '^finished: 600 steps .*train_gpt sample plain.*train_gpt report plain$'
[ "$(grep -c '^step [0-9]*/' train.log)" -lt $((10 + 2 * seconds)) ] || fail "more than a line a second"

echo "== a terminal: a bar that fits, and a last line that ends"
for columns in 120 60 24; do
    on_terminal $columns at_$columns NO_COLOR=1
    [ "$(grep -cE '^step [0-9]+/600' lines)" -gt 2 ] || { cat raw; fail "nothing was drawn on $columns columns"; }
    grep -E '^step [0-9]+/600' lines | awk -v most=$columns 'length >= most { print; bad = 1 } END { exit bad }' ||
        fail "a line does not fit $columns columns"
    has_no raw "$escape\[[0-9;]*m"
    has lines '^step 600/600'
    has lines '^kept '
    if [ $columns -eq 120 ]; then # a sample is to come, and none was made yet; then all is known
        has lines '^step [12]?[0-9]{1,2}/600 .*ETA [^ ]+\+'
        has_no lines '^step [3-6][0-9][1-9]/600 .*ETA [^ ]+\+'
    fi
    [ "$(sed '$d' raw | tail -c 1 | od -An -tx1 | tr -d ' ')" = 0a ] || fail "the last line does not end"
    same_run plain at_$columns
done
on_terminal 120 coloured LC_ALL=C NO_COLOR=
has lines '^step 600/600  \[=+\]  100%'
has raw "$escape\[36m"
on_terminal 120 dumb TERM=dumb
has_no lines "$escape"
has_no lines '===|100%'

echo "== warnings are told once, and counted"
THALWEG_PLANT=80:1:99:1e6,90:1:99:1e6,95:1:99:1e6 train run.dir=spikes train.steps=100 train.on_spike=skip
[ "$(grep -c 'is a spike' train.log)" -eq 1 ] || { cat train.log; fail "not told once"; }
has train.log '^spikes were met \(2 more times\)$'
has train.log '^        of the whole run 3 skipped$'

echo "== a run that is stopped, and one that diverges, tell as much"
expect 75 '^stopped at step .* continue with: train_gpt resume stops' "$program" train "$tiny" "${data[@]}" \
    run.dir=stops train.stop_at=10 log.every=5
has out.log '^step 5/20 .*  ETA [^ ]+ to stop_at 10$'
has out.log '^        train.stop_at ends it at step 10, after about '
has out.log '^steps   10 of'
has out.log '^kept    stops/checkpoints/step_00000010$'
expect 75 '^stopped at step ' "$program" train "$tiny" "${data[@]}" run.dir=timely train.steps=100000000 \
    train.max_seconds=1 log.every=5 eval.every=0
has out.log '^step 5/100000000 .*  ETA [^ ]+ to max_seconds$'
has out.log '^        train.max_seconds ends it after 1.0s: about [0-9]+ resumes to step 100000000$'
expect 76 '^stopped: loss or gradient was not finite' "$program" train "$tiny" "${data[@]}" run.dir=bad optim.lr=1000 \
    optim.clip=0 optim.warmup_steps=0 optim.weight_decay=1000 train.steps=200 train.max_bad_steps=3 eval.every=0
has out.log '^spent '

echo "== how long it will take: a rule, what bench measured, and what it is scaled to"
check() { "$program" check "$tiny" "${data[@]}" "$@" >check.out 2>check.err || fail "exit $? of check $*"; }
check
has check.out '^time    about .* of it evaluation: a rule, 80% of this machine'
has check.out "^        measure it: train_gpt bench $tiny 'data.train=shards/train_\*.bin'"
expect 0 'kept in .*/cache/bench.json' "$program" bench "$tiny" "${data[@]}"
check
has check.out '^time    about .*: bench measured these steps here on 2'
check model.width=64
has check.out '^time    about .*: by FLOPs from what bench measured of 41.2K parameters with adamw on [0-9]+ threads?'
expect 0 '^ok +bench .*41.2K parameters with adamw' "$program" doctor
has out.log '^ok +speed .*GFLOP/s of matrix products'
train run.dir=timed
has train.log '^time    about .*: bench measured these steps'

echo "== the same as JSON, and nothing else"
check --json
[ "$(head -c 1 check.out)" = '{' ] && [ "$(tail -n 1 check.out)" = '}' ] || fail "more than an object"
for key in '"valid": true' '"parameters": 41152' '"steps": 20' '"tokens_per_step": 64' '"memory_bytes": [0-9]+' \
    '"memory_available": [0-9]+' '"seconds": [0-9.]+' '"how": "measured"'; do has check.out "$key"; done
expect 2 '"valid": false' "$program" check "$tiny" "${data[@]}" train.steps=0 --json
expect 2 'train.steps: "0" is outside the range' "$program" check "$tiny" "${data[@]}" train.steps=0 --json
expect 2 'leave it out' "$program" check timed --json

echo "== a file of measurements that is damaged stops nothing"
echo '{"format"' >cache/bench.json
check
has check.err 'bench.json:[0-9]+:[0-9]+: '
has check.out ': a rule'
expect 0 'kept in' "$program" bench "$tiny" "${data[@]}"
check
has check.out 'bench measured these steps'
THALWEG_DATA=/proc/nothing expect 0 'step / GEMMs' "$program" bench "$tiny" "${data[@]}"
