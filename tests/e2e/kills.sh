#!/usr/bin/env bash
# Runs that signals end at random moments, some of them again and again, and that go on to the same end, bit for bit.
#   kills.sh [--long] [SEED]     --long: 100 runs with each signal, else 10; the seed is printed
. "$(dirname "$0")/lib.sh"
count=10
[ "${1:-}" != --long ] || { count=100; shift; }
seed=${1:-1}
echo "seed $seed"
make_text 300 >text.txt
"$program" prepare text.txt --tokenizer byte --out shards >prepare.log 2>&1 || { cat prepare.log; fail prepare; }

every=5
data+=(threads=1 model.depth=1 model.width=16 model.heads=1 train.steps=300 eval.every=40 checkpoint.every=$every)
kinds=("optim.name=adamw data.prefetch=0" "optim.name=amuse" "optim.name=lion data.prefetch=8 checkpoint.keep=0")
run() { "$program" train "$tiny" "${data[@]}" ${kinds[$1]} run.dir="$2" --resume; }

# Starts it and sends the signal after so many milliseconds. False: it was through before.
interrupt() { # KIND RUN SIGNAL MILLISECONDS
    local status=0 pid step
    (exec "$program" train "$tiny" "${data[@]}" ${kinds[$1]} run.dir="$2" --resume) >"$2.log" 2>&1 </dev/null &
    pid=$!
    sleep "$(printf '%d.%03d' $(($4 / 1000)) $(($4 % 1000)))"
    kill -"$3" $pid 2>/dev/null || true
    { wait $pid || status=$?; } 2>/dev/null
    case $3:$status in
    *:0) return 1 ;;
    KILL:137) return 0 ;;
    TERM:143) [ -s "$2.log" ] || return 0 ;; # before it caught signals
    TERM:75) # with everything in a checkpoint
        step=$(sed -n 's/^stopped at step \([0-9]*\) .*/\1/p' "$2.log")
        [ -n "$step" ] || ! grep -q 'before the first step' "$2.log" || return 0
        [[ $(checkpoint_of "$2") != */step_$(printf %08d "${step:-0}") ]] || return 0
        ;;
    esac
    cat "$2.log"
    fail "$2: exit status $status after SIG$3"
}

case_of() { # SIGNAL-NUMBER
    local signal=${1%-*} number=${1#*-} hits=0 wanted most window=$span repeated
    local kind=$((number % ${#kinds[@]}))
    RANDOM=$((seed * 1000 + number))
    wanted=$((1 + RANDOM % 3))
    while [ $hits -lt $wanted ]; do
        if interrupt $kind "$1" "$signal" $((RANDOM % window)); then hits=$((hits + 1)); continue; fi
        rm -r "$1" # it was through: anew, and sooner
        hits=0 window=$((window * 3 / 4 + 1))
    done
    run $kind "$1" >"$1.log" 2>&1 || { cat "$1.log"; fail "$1 does not go on: $?"; }
    same_run whole_$kind "$1"
    most=$((hits * 2 * every)) # one checkpoint may have been on its way
    [ "$signal" = KILL ] || most=0
    repeated=$(cat "$1"/metrics.*.orphan*.jsonl 2>/dev/null | grep -c grad_norm) || true
    [ "$repeated" -le $most ] || fail "$1 repeated $repeated steps, expected at most $most"
    echo "$1 $hits $repeated" >>done.txt
    rm -r "$1"
}

span=100000 # milliseconds
for kind in "${!kinds[@]}"; do
    begin=${EPOCHREALTIME/./}
    run $kind whole_$kind >train.log 2>&1 || { cat train.log; fail "run $kind"; }
    took=$(((${EPOCHREALTIME/./} - begin) / 1000))
    [ $took -ge $span ] || span=$took
done
in_pairs case_of $(seq -f 'KILL-%.0f' $count) $(seq -f 'TERM-%.0f' $count)
awk -v span=$span '{ hits += $2; repeated += $3 }
    END { print NR " runs of " span " ms, " hits " signals, " repeated " steps repeated" }' done.txt
