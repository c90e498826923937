#!/usr/bin/env bash
# Sweeps: every run once, each with its own status while the others go on; stopped, continued, shared, split, pruned.
. "$(dirname "$0")/lib.sh"
make_text 500 >text.txt
"$program" prepare text.txt --tokenizer byte --out shards >prepare.log 2>&1 || { cat prepare.log; fail prepare; }

# write_sweep FILE MEMBERS: a sweep over tiny.json.
write_sweep() { printf '{"base": "%s", %s}\n' "$tiny" "$2" >"$1"; }
short=("${data[@]}" model.depth=1 model.width=16 model.heads=1 checkpoint.every=10)
sweep() { "$program" sweep "$@"; }
count() { # DIR EVENT [MORE]: lines of its record
    grep "\"event\":\"$2\"" "$1/state.jsonl" >lines.log || true
    grep -cE -- "${3:-.}" lines.log || true
}
has() { # DIR TIMES EVENT [MORE]
    local there; there=$(count "$1" "$3" "${4:-.}")
    [ "$there" -eq "$2" ] || { cat "$1/state.jsonl"; fail "$1: $there lines of $3 ${4:-}, expected $2"; }
}
same_sweep() { # A B: the runs of both
    local run
    diff <(ls "$1/runs") <(ls "$2/runs") || fail "$1 and $2 have other runs"
    for run in "$1"/runs/*; do same_run "$run" "$2/runs/${run##*/}"; done
}
no_processes() { # DIR: none of its runs is at work
    local i
    for i in $(seq 1000); do processes_of "run.dir=$1/runs/" >pids.log; [ -s pids.log ] || return 0; sleep 0.05; done
    fail "processes of $1 are left: $(cat pids.log)"
}

echo "== a grid: each run once, and a table"
write_sweep grid.json '"axes": {"optim.lr": [0.001, 0.003, 0.01], "run.seed": [1, 2]}'
launcher=(RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 MASTER_ADDR=nowhere MASTER_PORT=1 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2
    OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 THALWEG_RANK=1 THALWEG_RANKS=2) # of the sweep, not of its runs
expect 0 '6 finished; grid/summary.csv' env "${launcher[@]}" "$program" sweep grid.json "${short[@]}" --dir grid \
    --jobs 2
grep -qE '2 seeds +optim.lr=0.01' out.log || { cat out.log; fail "no group over seeds"; }
has grid 6 started
has grid 6 ended '"status":"finished"'
grep -q '</html>' grid/report.html || fail "no report"
[ "$(wc -l <grid/summary.csv)" -eq 7 ] || fail "summary.csv has not a line a run"
grep -q '"best_run": "[0-9a-f]' grid/summary.json || fail "summary.json names no best run"
expect 0 '6 finished' sweep grid.json "${short[@]}" --dir grid
has grid 6 started # they were not begun again
expect 0 '6 runs, 6 done' sweep grid.json "${short[@]}" --dir grid --dry-run

echo "== a terminal: each line of the table fits it, whatever characters a name has"
write_sweep wide.json '"name": "\u5b66\u7fd2\u7387\u3092\u6bd4\u3079\u308b\u5b9f\u9a13\u306e\u4e00\u89a7",
    "arms": [{"name": "e\u0301\u5b66\u7fd2\u7387\u3092\u6bd4\u3079\u308b\u5b9f\u9a13"}]'
printf -v words '%q ' env TERM=xterm LC_ALL=C.UTF-8 "$program" sweep wide.json "${short[@]}" train.steps=1000000 \
    train.max_seconds=1 --dir wide --jobs 1
status=0
SHELL=/bin/bash script -qec "stty cols 79 rows 24; $words >table.log" raw >script.log 2>&1 </dev/null || status=$?
[ $status -eq 75 ] || { cat raw; fail "exit $status on a terminal"; }
sed -E '1d; $d' raw | tr '\r' '\n' | sed -E $'s/\033\\[[0-9]*[A-Z]//g' >lines.log
grep -q 'val_loss *left' lines.log || { cat raw; fail "no table was drawn"; }
grep -q $'e\u0301\u5b66' lines.log || { cat raw; fail "the table has no arm"; }
[ "$(LC_ALL=C.UTF-8 wc -L <lines.log)" -lt 79 ] || { cat lines.log; fail "a line does not fit the terminal"; }
write_sweep other.json '"axes": {"optim.lr": [0.01], "run.seed": [1]}, "metric": {"name": "grad_norm"}'
expect 2 'compared by val_loss .min., not by grad_norm .min.; choose another --dir' sweep other.json "${short[@]}" \
    --dir grid
mkdir other && cp -r grid/runs other
expect 0 '1 finished' sweep other.json "${short[@]}" --dir other # by the other metric, and it is not trained again
same_sweep grid other
grep -q 'grad_norm [0-9.]*$' out.log || { cat out.log; fail "not by the other metric"; }
cp -r grid torn
printf '{"v":1,"time":1,"event":"ended","run":"' >>torn/state.jsonl # by a crash
write_sweep more.json '"axes": {"optim.lr": [0.001, 0.003, 0.01, 0.02], "run.seed": [1, 2]}'
expect 0 '8 finished' sweep more.json "${short[@]}" --dir torn --jobs 2
has torn 8 started
echo 'x' >>torn/state.jsonl
expect 65 'state.jsonl:[0-9]*: no line of' sweep more.json "${short[@]}" --dir torn

echo "== resting, stopped by a signal, and on to the same end"
long=("${short[@]}" train.steps=1000 eval.every=500 checkpoint.every=500 threads=1)
write_sweep long.json '"axes": {"run.seed": [1, 2, 3, 4]}'
sweep long.json "${long[@]}" --dir whole --jobs 2 >whole.log 2>&1 || { cat whole.log; fail "the sweep: $?"; }
start_sweep() { "$program" sweep long.json "${long[@]}" "$@" >start.log 2>&1 </dev/null & started=$!; }
written() { cat stopped/runs/*/metrics.jsonl 2>/dev/null | wc -c || true; }
for _ in 1 2 3 4 5; do # until neither it nor what it began is through before the signal comes
    rm -rf stopped
    start_sweep --dir stopped --jobs 2
    wait_for_lines stopped/state.jsonl 3
    rest
    before=$(written)
    sleep 0.3
    [ "$(written)" -eq "$before" ] || fail "runs go on while their sweep rests"
    go_on
    wait_for_lines stopped/state.jsonl 4
    kill -TERM "$started" 2>/dev/null || true
    status=0 && wait "$started" || status=$?
    [ "$(count stopped ended '"status":"interrupted"')" -eq 0 ] || break
    again "all was through before the signal"
done
started=
[ $status -eq 75 ] || { cat start.log; fail "exit $status after SIGTERM"; }
grep -q 'go on with: .*--dir stopped' start.log || { cat start.log; fail "it does not say how to go on"; }
[ "$(count stopped ended '"status":"interrupted"')" -gt 0 ] || { cat stopped/state.jsonl; fail "nothing was stopped"; }
no_processes stopped
expect 0 '4 finished' sweep long.json "${long[@]}" --dir stopped --jobs 2
same_sweep whole stopped
start_sweep train.steps=1000000 --dir twice --jobs 2
wait_for_lines twice/state.jsonl 3
kill -INT "$started"
while kill -0 "$started" 2>/dev/null && ! grep -q 'Ctrl-C again' start.log; do sleep 0.02; done
kill -INT "$started" 2>/dev/null || true
status=0 && wait "$started" || status=$?
started=
[[ $status = 130 || $status = 75 ]] || { cat start.log; fail "exit $status after two SIGINT"; } # 75: they were quick
no_processes twice

echo "== a budget of time and of places"
for hours in 3e-5 3e-4 3e-3; do # until it is not over before a run is begun
    write_sweep budget.json '"axes": {"run.seed": [1, 2, 3]}, "budget": {"max_hours": '$hours', "max_parallel": 1}'
    rm -rf budget
    expect 75 'stopping: .*; budget.max_hours is over' timeout 60 "$program" sweep budget.json "${long[@]}" \
        train.steps=1000000 --dir budget --jobs 3
    [ "$(count budget started)" -eq 0 ] || break
done
has budget 1 started
has budget 1 ended '"status":"interrupted"'
no_processes budget

echo "== two processes on one folder share the work"
# begin_to_rest DIR COMMAND...: a sweep that rests while its first run is at work, `run`; it begins again where it came
# further than that.
begin_to_rest() {
    local dir=$1; shift
    for _ in 1 2 3 4 5; do
        rm -rf "$dir"
        "$@" >start.log 2>&1 </dev/null & started=$!
        wait_for_lines "$dir/state.jsonl" 2
        rest
        run=$(ps -o pid=,state= --ppid "$started" | awk '$2 == "T" { print $1 }') || true
        [ -z "$run" ] || [ "$(wc -l <"$dir/state.jsonl")" -ne 2 ] || return 0
        { kill -KILL "$started" && wait "$started" || true; } 2>/dev/null
        no_processes "$dir"
        again "$dir was further than its first run"
    done
    cat start.log
    fail "$dir does not rest with its first run"
}
begin_to_rest shared "$program" sweep long.json "${long[@]}" --dir shared --jobs 1
kill -KILL "$run" # which is tried again
go_on
expect 0 '4 finished' sweep long.json "${long[@]}" --dir shared --jobs 1
ends_with 0
has shared 1 ended '"status":"out_of_memory","signal":9,"reason":"ended by signal 9'
has shared 5 started
same_sweep whole shared

echo "== a run directory that another process still has is waited for"
run=$(ls grid/configs | head -n 1)
run=${run%.json}
mkdir -p waits/runs/"$run"
exec 9>waits/runs/"$run"/lock
flock 9
"$program" sweep grid.json "${short[@]}" --dir waits --jobs 2 >start.log 2>&1 </dev/null 9>&- & started=$!
wait_for_lines waits/state.jsonl 11 # of the five others
sleep 0.5
has waits 0 started "$run"
exec 9>&-
ends_with 0
has waits 6 ended '"status":"finished"'

echo "== processes that begin together"
write_sweep many.json '"axes": {"run.seed": {"grid": [1, 20, 20]}}'
for part in 0 1 2 3; do
    "$program" sweep many.json "${short[@]}" train.steps=2 eval.every=2 --dir many --jobs 1 --shard $part/4 \
        >many.$part.log 2>&1 </dev/null & parts[part]=$!
done
for part in 0 1 2 3; do wait "${parts[part]}" || { cat many.$part.log; fail "part $part: exit $?"; }; done
has many 20 ended '"status":"finished"'

echo "== shards"
expect 0 '3 finished, 3 planned' sweep grid.json "${short[@]}" --dir split --jobs 2 --shard 1/2
expect 0 '6 finished' sweep grid.json "${short[@]}" --dir split --jobs 2 --shard 0/2
has split 6 started
same_sweep grid split
expect 2 '--shard 2/2: expected' sweep long.json --shard 2/2

echo "== each ends as its own status, and the others go on"
mixed='"set": {"data.train": "shards/train_*.bin", "data.val": "shards/val_*.bin", "checkpoint.every": 0},
    "arms": [{"name": "good"},
    {"name": "diverges", "set": {"train.max_bad_steps": 1}},
    {"name": "large", "set": {"model.width": 65536, "model.depth": 48, "model.heads": 512}},
    {"name": "elsewhere", "set": {"data.train": "elsewhere/*.bin"}},
    {"name": "wide", "set": {"model.width": 128}}]'
write_sweep mixed.json "$mixed, \"on_failure\": {\"retries\": 2}"
mixed() { (ulimit -f 1000 && exec env --default-signal=XFSZ THALWEG_PLANT=7:0:3:nan "$program" sweep mixed.json \
    --dir mixed --jobs 2); }
expect 2 '1 finished, 1 diverged, 1 out of memory, 1 no data, 1 cannot write' mixed
for row in 'finished  *[0-9.]* *20/20' 'stopped: loss or gradient' 'not enough memory: this needs' \
    'elsewhere/\*.bin: no file matches' 'failed: File too large'; do
    grep -qE "$row" out.log || { cat out.log; fail "no \"$row\" in the table"; }
done
has mixed 7 started # the full disk was tried three times
mkdir elsewhere && cp shards/train_*.bin elsewhere
expect 2 '3 finished, 1 diverged, 1 out of memory' sweep mixed.json --dir mixed --jobs 2
has mixed 1 started "$(sed -n 's/.*"id":"\([0-9a-f]*\)","arm":"diverges".*/\1/p' mixed/state.jsonl | head -n 1)"

echo "== data that all of them lack: nothing is begun"
expect 66 'train_gpt prepare' sweep grid.json data.train='none/*.bin' --dir none
[ ! -e none ] || fail "it made $(ls none)"

echo "== successive halving: the best go on, the rest is pruned"
write_sweep halving.json '"axes": {"optim.lr": [1e-6, 1e-5, 1e-4, 0.001, 0.003, 0.01]},
    "early_stop": {"kind": "asha", "min_steps": 4, "eta": 2}'
halve() { expect 0 "$1" sweep halving.json "${short[@]}" eval.every=5 --dir "$2" --jobs 2; }
halve 'finished, [345] pruned' halved
has halved 1 plan
[ "$(count halved ended '"status":"paused".*"step":5,')" -eq 6 ] || { cat halved/state.jsonl; fail "not all paused"; }
[ "$(count halved ended '"status":"finished"')" -gt 0 ] || fail "none finished"
best=$(sed -n 's/.*"best_run": "\(.*\)".*/\1/p' halved/summary.json)
grep -q '"lr": 0.01,' "halved/configs/$best.json" || { cat halved/summary.csv; fail "the best was pruned"; }
write_sweep best.json '"axes": {"optim.lr": [0.01]}'
expect 0 '1 finished' sweep best.json "${short[@]}" eval.every=5 --dir best
same_run "best/runs/$best" "halved/runs/$best" # pauses change nothing

echo "== a record that cannot be written: no run is begun on top of it, and none twice"
limited() { ulimit -f 1000 && exec env --default-signal=XFSZ "$program" sweep long.json "${long[@]}" "$@"; }
begin_to_rest full limited --dir full --jobs 1
printf '%*s#torn\n' $((1024000 - 6 - $(stat -c %s full/state.jsonl))) '' >>full/state.jsonl
go_on
ends_with 73
[ "$(grep -c '^started' start.log)" -eq 1 ] || { cat start.log; fail "it went on without a record"; }
grep -q 'full/state.jsonl: its lines wait' start.log || { cat start.log; fail "it says nothing of its record"; }
expect 0 '4 finished' sweep long.json "${long[@]}" --dir full --jobs 2
same_sweep whole full

mkdir disk
mount -t tmpfs -o size=16m tmpfs disk 2>/dev/null || {
    echo "no small disk can be mounted here: the rest is left out"
    exit 0
}
trap '[ -z "$started" ] || kill -KILL "$started" 2>/dev/null || true; umount -l "$work/disk"' EXIT
echo "== a full disk: it says so, and goes on when there is room"
expect 0 '6 finished' sweep grid.json "${short[@]}" --dir roomy
mkdir disk/sweep
dd if=/dev/zero of=disk/ballast bs=4k count=4000 >dd.log 2>&1
status=0
sweep grid.json "${short[@]}" --dir disk/sweep --jobs 1 >out.log 2>&1 || status=$?
[ $status -eq 73 ] || { cat out.log; fail "exit $status on a full disk"; }
grep -q 'free some space' out.log || { cat out.log; fail "it does not say what to do"; }
rm disk/ballast
expect 0 '6 finished' sweep grid.json "${short[@]}" --dir disk/sweep --jobs 1
same_sweep roomy disk/sweep
