#!/usr/bin/env bash
# What becomes of several ranks when one dies, stops, is cut off or is not like the others: all end with 71 and the name
# of the rank, no checkpoint is damaged, and --resume goes on to the same end.
. "$(dirname "$0")/lib.sh"
export OMP_NUM_THREADS=1
make_shards
slow=(device=cpu train.steps=800 train.batch_tokens=352 checkpoint.every=40 eval.every=0 dist.timeout=60)
train run.dir=whole --ranks 3 "${slow[@]}"

# begin NAME HARM OPTION...: three ranks in the background, past their first checkpoints, to which HARM is done.
begin() {
    local status options=("${@:3}")
    for _ in 1 2 3 4 5; do # where it is through before this script comes to it, again
        rm -rf "$1"
        start run.dir="$1" --ranks 3 "${slow[@]}" "${options[@]}"
        wait_for_lines "$1/metrics.jsonl" 130
        mapfile -t ranks < <(pgrep -P "$started" | sort -n)
        [ ${#ranks[@]} -eq 3 ] && $2 2>/dev/null && return 0
        status=0 && wait "$started" || status=$?
        [ $status -eq 0 ] || [[ $status -eq 71 && ${options[*]} ]] || break
        again "$1 ended with $status too early"
    done
    cat start.log
    fail "${#ranks[@]} processes under the launcher, expected 3"
}
harm() { kill -"$1" "${ranks[victim]}"; }
harm_all() { kill -"$1" "$started"; }
told() { grep -qE -- "$1" start.log || { cat start.log; fail "no \"$1\""; }; }
goes_on() { # RUN: nothing is damaged, and the end is the same
    expect 0 'Nothing is damaged' "$program" check "$1"
    "$program" train "$tiny" "${data[@]}" run.dir="$1" --ranks 3 "${slow[@]}" --resume >again.log 2>&1 ||
        { cat again.log; fail "$1 does not go on"; }
    same_run whole "$1"
}

echo "== a rank is killed"
for victim in 0 1 2; do
    begin killed$victim "harm KILL"
    ends_with 71
    told "rank $victim"
    goes_on killed$victim
done

echo "== a rank is stopped"
for victim in 0 2; do
    silent="rank $victim (has been silent|keeps the others waiting)"
    for limit in 4 12 36; do # until no other one is blamed, whom a busy machine lets wait for as long
        begin stopped$victim "harm STOP" dist.timeout=$limit
        other=$(( (victim + 1) % 3 ))
        while kill -0 "${ranks[other]}" 2>/dev/null && [[ $(ps -o stat= -p "${ranks[other]}") != Z* ]]; do
            sleep 0.05
        done
        ! grep -qE "$silent" start.log || break
        kill -KILL "${ranks[victim]}" 2>/dev/null || true
        ends_with 71
        again "stopped$victim blames another one within $limit s: $(tail -n 1 start.log)"
    done
    told "$silent"
    kill -KILL "${ranks[victim]}" 2>/dev/null || true # as the launcher's user would
    ends_with 71
    goes_on stopped$victim
done

echo "== the launcher is killed: nothing stays behind"
begin orphans "harm_all KILL"
{ wait "$started" || true; } 2>/dev/null
started=
for process in "${ranks[@]}"; do
    for _ in $(seq 1000); do kill -0 "$process" 2>/dev/null || break; sleep 0.05; done
    ! kill -0 "$process" 2>/dev/null || fail "a rank outlives its launcher"
done
goes_on orphans

echo "== stopped by a signal: a checkpoint, 75, and on"
begin signalled "harm_all TERM"
ends_with 75
goes_on signalled
victim=1
begin one_rank "harm USR1" # one of them asks for all
ends_with 75
goes_on one_rank

echo "== damaged data: the exit code of one process, and the rank that has met it"
mkdir damaged && cp shards/* damaged
damage() { # FILE BYTES: so many before the last 3000
    head -c "$2" /dev/zero | tr '\0' '\377' |
        dd of="$1" bs=1 seek=$(($(stat -c %s "$1") - 3000 - $2)) conv=notrunc status=none
}
damage damaged/val_000000.bin 4 # which one rank meets, not rank 0
evaluated=(train.steps=6 train.batch_tokens=352 device=cpu eval.every=3 eval.tokens=100K)
for ranks in 1 3; do
    expect 65 "^(rank [0-9]: )?damaged/val_000000.bin: token" "$program" train "$tiny" "${data[0]}" \
        data.val='damaged/val_*.bin' "${evaluated[@]}" run.dir=blind-$ranks --ranks $ranks
    [ -d blind-$ranks/checkpoints/step_00000006 ] || fail "a damaged validation shard ends training"
    ! grep -q stopped out.log || { cat out.log; fail "$ranks ranks say that they were stopped"; }
done
expect 65 'damaged/val_000000.bin: token' "$program" resume blind-1 --ranks 3
damage damaged/train_000000.bin 100000
expect 65 '^(rank [0-9]: )?damaged/train_000000.bin: token' "$program" train "$tiny" data.train='damaged/train_*.bin' \
    eval.every=0 run.dir=damaged-run --ranks 3 "${slow[@]}"

echo "== mistakes that rank 0 finds are told once"
for mistake in "66 nowhere" "2 blind-3 train.steps=none" "2 blind-3 optim.name=muon"; do
    read -r code words <<<"$mistake"
    expect "$code" . "$program" resume $words --ranks 3
    [ "$(wc -l <out.log)" -eq 1 ] || { cat out.log; fail "more than one message of: resume $words"; }
done

echo "== a sample that takes longer than the timeout"
for limit in 2 10 50; do # until a busy machine lets nobody wait for as long
    status=0
    "$program" train "$tiny" "${data[@]}" run.dir=slow-sample-$limit --ranks 2 device=cpu train.steps=2 eval.every=0 \
        sample.every=2 sample.tokens=$((limit * 45000)) sample.ignore_eos=true dist.timeout=$limit >train.log 2>&1 ||
        status=$?
    [ $status -eq 71 ] || break
    again "a sample within $limit s: $(tail -n 1 train.log)"
done
[ $status -eq 0 ] || { cat train.log; fail "exit $status of ranks with a sample"; }

echo "== ranks that were started one by one, and are not alike"
rank() { # RANK SECRET OPTION...
    local number=$1 secret=$2; shift 2
    THALWEG_RANK=$number THALWEG_RANKS=2 THALWEG_LOCAL_RANK=$number THALWEG_LOCAL_RANKS=2 THALWEG_SECRET=$secret \
        THALWEG_RENDEZVOUS=127.0.0.1:$port "$program" train "$tiny" "${data[@]}" run.dir=apart "${slow[@]}" "$@" \
        >"rank$number.log" 2>&1 </dev/null
}
both_end() { # PATTERN SECRET OPTION... of rank 1
    local pattern=$1 secret=$2 codes=(0 0) first; shift 2
    rm -rf apart
    free_port
    rank 0 one & first=$!
    rank 1 "$secret" "$@" || codes[1]=$?
    wait "$first" || codes[0]=$?
    [ "${codes[*]}" = "71 71" ] || { cat rank0.log rank1.log; fail "exit ${codes[*]}, expected 71 of both: $pattern"; }
    grep -qE -- "$pattern" rank0.log || { cat rank0.log; fail "rank 0 does not say \"$pattern\""; }
}
both_end 'secret' two
both_end 'rank 1.*configuration|configuration.*rank 1' one train.steps=801
both_end '"steps": 801' one train.steps=801
free_port
status=0
rank 0 one dist.timeout=2 || status=$?
[ $status -eq 71 ] || { cat rank0.log; fail "exit $status of a rank that waits for nobody"; }
grep -q 'rank 1' rank0.log || { cat rank0.log; fail "the rank that has not come is not named"; }
