#!/usr/bin/env bash
# A sweep that is killed at random moments, again and again, sometimes with some of its runs: in the end every run has
# one result, bit for bit that of a sweep that was left alone, and no process is left behind.
#   sweep_kills.sh [--long] [SEED]     --long: 100 kills, else 20; the seed is printed
. "$(dirname "$0")/lib.sh"
kills=20
[ "${1:-}" != --long ] || { kills=100; shift; }
RANDOM=${1:-1}
echo "seed ${1:-1}"
make_text 300 >text.txt
"$program" prepare text.txt --tokenizer byte --out shards >prepare.log 2>&1 || { cat prepare.log; fail prepare; }
printf '{"base": "%s", "axes": {"optim.lr": [0.001, 0.003, 0.01], "run.seed": [1, 2, 3, 4]}}\n' "$tiny" >sweep.json
options=("${data[@]}" threads=1 model.depth=1 model.width=16 model.heads=1 train.steps=600 eval.every=100
    checkpoint.every=25)
sweep() { exec "$program" sweep sweep.json "${options[@]}" --dir "$1" --jobs 2; }

begin=${EPOCHREALTIME/./}
(sweep whole) >whole.log 2>&1 || { cat whole.log; fail "the sweep: $?"; }
window=$(((${EPOCHREALTIME/./} - begin) / 1000)) # milliseconds
[ $window -le 400 ] || window=400

no_orphans() {
    local i
    for i in $(seq 2000); do processes_of run.dir=killed/runs/ >pids.log; [ -s pids.log ] || return 0; sleep 0.02; done
    fail "processes outlive the sweep: $(cat pids.log)"
}

# Begins it and kills it after so long; every third time one of its runs before. False: it was through before.
kill_one() { # NUMBER MILLISECONDS
    local status=0 run
    (sweep killed) >killed.log 2>&1 </dev/null & started=$!
    sleep "$(printf '0.%03d' "$2")"
    if [ $(($1 % 3)) -eq 0 ]; then
        run=$(pgrep -P "$started" | head -n 1) || true
        [ -z "$run" ] || kill -KILL "$run" 2>/dev/null || true
        sleep 0.02
    fi
    kill -KILL "$started" 2>/dev/null || true
    { wait "$started" || status=$?; } 2>/dev/null
    started=
    no_orphans
    case $status in
    137) ;;
    0) return 1 ;;
    *) cat killed.log; fail "exit status $status, expected to be killed" ;;
    esac
}

for ((done = 0; done < kills; done++)); do
    kill_one $done $((RANDOM % window)) && continue
    rm -r killed # it was through: anew, and sooner
    done=-1 window=$((window * 3 / 4 + 1))
done
attempts=0
until (sweep killed) >killed.log 2>&1; do # a run that was killed twice in one call is left to the next
    attempts=$((attempts + 1))
    [ $attempts -lt 3 ] || { cat killed.log; fail "it does not come to an end"; }
done
no_orphans
for run in whole/runs/*; do
    id=${run##*/}
    grep -c "\"run\":\"$id\",\"status\":\"finished\"" killed/state.jsonl >count.log || true
    [ "$(cat count.log)" -eq 1 ] || { cat killed/state.jsonl; fail "$id finished $(cat count.log) times"; }
    same_run "$run" "killed/runs/$id"
done
[ "$(ls killed/runs | wc -l)" -eq 12 ] || fail "runs: $(ls killed/runs)"
# Runs that would go on for minutes, and rest, so that nothing but the end of their sweep ends them.
options+=(train.steps=1000000)
(sweep orphans) >start.log 2>&1 </dev/null & started=$!
wait_for_lines orphans/state.jsonl 3
mapfile -t processes < <(pgrep -P "$started")
[ ${#processes[@]} -eq 2 ] || { cat start.log; fail "${#processes[@]} processes under the sweep, expected 2"; }
rest
{ kill -KILL "$started"; wait "$started" || true; } 2>/dev/null
started=
for _ in $(seq 1000); do kill -0 "${processes[@]}" 2>/dev/null || break; sleep 0.05; done
! kill -KILL "${processes[@]}" 2>/dev/null || fail "runs outlive their sweep"
echo "12 runs, $kills kills within $window ms, $(grep -c '"started"' killed/state.jsonl) starts"
