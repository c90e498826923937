#!/usr/bin/env bash
# Ranks by ssh.sh, slurm.sbatch, torchrun.sh and mpirun: the same run as by --ranks bit for bit, signals and lost ranks
# as docs/multi-node.md has it, mistakes that are told. torchrun and mpirun are the real ones where they are installed;
# the others, and these where they are not, are small programs that set the variables of the real ones. Then two ranks
# in two network namespaces, and the wire between them is cut.
. "$(dirname "$0")/lib.sh"
export OMP_NUM_THREADS=1 TRAIN_GPT=$program
launch=$root/scripts/launch
make_shards
mkdir bin ranks
common=(device=cpu train.steps=300 train.batch_tokens=352 checkpoint.every=20 eval.every=0 dist.timeout=60)
train run.dir=whole --ranks 3 "${common[@]}"
arguments() { arguments=("$tiny" "${data[@]}" "${common[@]}" run.dir="$1"); }

# ---- what is started, and its end ----

# Ranks leave their process numbers in ranks/.
alive() { # those that run
    local pid
    for pid in $(ls ranks); do
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != train_gpt ] || [[ $(ps -o stat= -p "$pid") == Z* ]] || echo "$pid"
    done
}
spaces=()
clean() {
    [ -z "$started" ] || kill -KILL "$started" || true
    kill -KILL $(alive) || true
    for space in "${spaces[@]}"; do ip netns del "$space" || true; done
} 2>/dev/null
trap clean EXIT
nothing_stays() {
    for _ in $(seq 600); do [ -n "$(alive)" ] || return 0; sleep 0.1; done
    fail "ranks stay behind: $(alive)"
}

# begin RUN HARM COMMAND...: in the background, past its first checkpoint, with three ranks, to which HARM is done.
begin() {
    local run=$1 harm=$2 lines=0 status; shift 2
    for _ in 1 2 3 4 5; do # where it is through before this script comes to it, again
        rm -f ranks/*
        [ ! -e "$run/metrics.jsonl" ] || lines=$(wc -l <"$run/metrics.jsonl")
        "$@" >start.log 2>&1 </dev/null & started=$!
        wait_for_lines "$run/metrics.jsonl" $((lines + 30))
        mapfile -t running < <(alive)
        [ ${#running[@]} -eq 3 ] && $harm 2>/dev/null && return 0
        status=0 && wait "$started" || status=$?
        [ $status -eq 0 ] || break
        again "$run was through too early"
        rm -r "$run" && lines=0
    done
    cat start.log
    fail "${#running[@]} ranks run, expected 3: $*"
}
kill_victim() { kill -KILL "${running[victim]}"; }
waits=(sample.every=40 sample.tokens=1000000 sample.ignore_eos=true) # for what comes, however late
completes() { # RUN COMMAND...
    local run=$1; shift
    "$@" >start.log 2>&1 </dev/null || { cat start.log; fail "exit $?: $*"; }
    same_run whole "$run"
    nothing_stays
}
told() { grep -qE -- "$1" start.log || { cat start.log; fail "no \"$1\""; }; }

# ---- programs that stand in ----

# A host: no variables of here, standard input passed on.
cat >bin/login <<END
#!/usr/bin/env bash
shift
cd / && touch "$work/ranks/\$\$" && exec env -i PATH="$PATH" bash -c "\$*"
END
# Options, then a program. All of srun's ranks on one node; it ends with the highest code.
cat >bin/srun <<END
#!/usr/bin/env bash
while [[ \$1 == -* ]]; do shift; done
export SLURM_STEP_ID=0 SLURM_STEP_NODELIST=localhost SLURM_STEP_NUM_TASKS=3 SLURM_STEP_TASKS_PER_NODE=3 SLURM_NODEID=0
for rank in 0 1 2; do
    SLURM_PROCID=\$rank SLURM_LOCALID=\$rank "\$@" & pids+=(\$!)
    touch "$work/ranks/\$!"
done
for pid in "\${pids[@]}"; do
    wait "\$pid"
    status=\$?
    [ \$status -le "\${code:=0}" ] || code=\$status
done
exit "\$code"
END
cat >bin/scontrol <<END
#!/usr/bin/env bash
case \$1 in
show) echo "JobId=\$4 JobName=thalweg JobState=RUNNING Requeue=1 \$(cat "$work/comment") StdIn=/dev/null" ;;
update) echo "\$3" >"$work/comment" ;;
requeue) echo "\$2" >>"$work/requeued" ;;
esac
END
# Its own store listens at the port, here a rank that waits; all ranks again where one fails; ends with 1 then.
cat >bin/torchrun <<END
#!/usr/bin/env bash
for option; do
    case \$option in
    --nproc-per-node=*) ranks=\${option#*=} ;;
    --rdzv-endpoint=*) endpoint=\${option#*=} ;;
    --max-restarts=*) restarts=\${option#*=} ;;
    --rdzv-id=*) export TORCHELASTIC_RUN_ID=\${option#*=} ;;
    --*) ;;
    *) break ;;
    esac
    shift
done
export WORLD_SIZE=\$ranks LOCAL_WORLD_SIZE=\$ranks GROUP_RANK=0 MASTER_ADDR=localhost MASTER_PORT=\${endpoint#*:}
export THALWEG_RENDEZVOUS=localhost:\$MASTER_PORT
THALWEG_RANK=0 THALWEG_RANKS=2 "$program" train "$tiny" device=cpu & store=\$!
unset THALWEG_RENDEZVOUS
trap 'kill -KILL \$store' EXIT
for ((; restarts >= 0; restarts--)); do
    pids=() failed=0
    for ((rank = 0; rank < ranks; rank++)); do RANK=\$rank LOCAL_RANK=\$rank "\$@" & pids+=(\$!); done
    for pid in "\${pids[@]}"; do wait "\$pid" || failed=1; done
    [ \$failed -ne 0 ] || exit 0
done
exit 1
END
cat >bin/mpirun <<'END'
#!/usr/bin/env bash
while [ "$1" != -n ]; do shift; done
export OMPI_COMM_WORLD_SIZE=$2 OMPI_COMM_WORLD_LOCAL_SIZE=$2 PMIX_NAMESPACE=$RANDOM$$
shift 2
for ((rank = 0; rank < OMPI_COMM_WORLD_SIZE; rank++)); do
    OMPI_COMM_WORLD_RANK=$rank OMPI_COMM_WORLD_LOCAL_RANK=$rank "$@" & pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
exit "${code:-0}"
END
# Of a launcher that may be the real one: the rank tells its process number itself.
cat >bin/rank <<END
#!/usr/bin/env bash
touch "$work/ranks/\$\$" && exec "$program" "\$@"
END
chmod +x bin/*
for name in torchrun mpirun; do
    real=$(command -v $name || true)
    [ -z "$real" ] || rm bin/$name
    echo "$name: ${real:-stands in}"
done
PATH=$work/bin:$PATH

# ---- ssh.sh ----

by_ssh() { # RUN [HOSTS]
    free_port
    arguments "$1"
    command=(env LOGIN=login PORT=$port "$launch/ssh.sh" "${2:-127.0.0.1:2 somebody@localhost:1}" "${arguments[@]}")
}
echo "== ssh.sh"
by_ssh ssh
completes ssh "${command[@]}"
told '3 by THALWEG_RANK'
by_ssh ssh_stopped
begin ssh_stopped true "${command[@]}" "${waits[@]}"
tr '\0' '\n' <"/proc/${running[0]}/environ" >environment
grep -qx OMP_WAIT_POLICY=passive environment || fail "OMP_WAIT_POLICY is not passed on"
secret=$(sed -n 's/^THALWEG_SECRET=//p' environment)
[ ${#secret} -eq 32 ] || fail "the secret is \"$secret\""
cat /proc/[0-9]*/cmdline >cmdlines 2>/dev/null || true
! grep -qaF "$secret" cmdlines || fail "the secret is an argument of a process"
kill -TERM "$started"
ends_with 75
completes ssh_stopped "${command[@]}"
for victim in 0 2; do
    by_ssh ssh_killed$victim
    begin ssh_killed$victim kill_victim "${command[@]}"
    ends_with 71
    told 'ssh.sh: rank . on .* ended with 137'
    completes ssh_killed$victim "${command[@]}"
done
by_ssh ssh_orphans # a checkpoint is made
begin ssh_orphans true "${command[@]}" "${waits[@]}"
kill -KILL "$started"
{ wait "$started" || true; } 2>/dev/null
started=
nothing_stays
told 'stopped at step'
completes ssh_orphans "${command[@]}"

by_ssh mistakes
expect 2 'no such key' "${command[@]}" optim.nme=1
expect 2 'there is no configuration nowhere.json' "$launch/ssh.sh" localhost nowhere.json
expect 2 'expected hosts' "$launch/ssh.sh" localhost
for hosts in node01:two :2 localhost:0 "localhost:1 node02:"; do
    expect 2 'is not HOST or HOST:RANKS' "$launch/ssh.sh" "$hosts" "$tiny"
done
expect 127 'ssh.sh: rank 0 on 127.0.0.1 ended with 127' env TRAIN_GPT=./nothing "${command[@]}"

# ---- slurm.sbatch ----

export SLURM_JOB_ID=$((RANDOM * 32768 + $$))
cp "$launch/slurm.sbatch" spooled # as sbatch does
by_slurm() { arguments "$1"; command=(env RESTARTS=1 bash spooled "${arguments[@]}"); }
requeued() { # TIMES
    [ "$(grep -cx "$SLURM_JOB_ID" requeued)" -eq "$1" ] || { cat start.log; fail "not requeued $1 times"; }
}
echo "== slurm.sbatch"
: >comment
: >requeued
by_slurm slurm
completes slurm "${command[@]}"
told '3 by srun'
requeued 0
by_slurm slurm_limit
begin slurm_limit true "${command[@]}" "${waits[@]}"
kill -USR1 "${running[@]}"
ends_with 75
requeued 1
completes slurm_limit "${command[@]}"
requeued 1
victim=1
for time in 1 2; do # the second time it is enough
    by_slurm slurm_lost
    begin slurm_lost kill_victim "${command[@]}"
    ends_with 71
    requeued 2
done
told 'a rank was lost, time 2'
completes slurm_lost "${command[@]}"

expect 2 'no such key' "${command[@]}" optim.nme=1
requeued 2
expect 2 'expected a configuration' bash spooled
expect 2 'there is no configuration nowhere.json' bash spooled nowhere.json
expect 2 'there is no program ./nothing' env TRAIN_GPT=./nothing "${command[@]}"
expect 2 'given to sbatch' env -u SLURM_JOB_ID bash spooled "$tiny"
unset SLURM_JOB_ID

# ---- torchrun.sh, mpirun ----

by_torchrun() {
    free_port
    arguments "$1"
    command=(env TRAIN_GPT="$work/bin/rank" PORT=$port GPUS=3 RESTARTS=1 "$launch/torchrun.sh" "${arguments[@]}")
}
echo "== torchrun.sh" # a rank is killed, all are started again
by_torchrun torchrun
begin torchrun kill_victim "${command[@]}"
ends_with 0
told '3 by torchrun'
told 'resumed'
same_run whole torchrun
nothing_stays
expect 1 'no such key' "${command[@]}" optim.nme=1
expect 2 'expected a configuration' "$launch/torchrun.sh"
expect 2 'NODES=2 needs HOST' env NODES=2 "$launch/torchrun.sh" "$tiny"
mkdir plain && ln -s "$(command -v sed)" plain
expect 2 'torchrun is not in PATH' env PATH="$work/plain" "$BASH" "$launch/torchrun.sh" "$tiny"

echo "== mpirun"
by_mpirun() {
    arguments "$1"
    command=(mpirun --allow-run-as-root --oversubscribe -n 3 "$work/bin/rank" train "${arguments[@]}")
}
by_mpirun mpirun
completes mpirun "${command[@]}"
told '3 by mpirun'
by_mpirun mpirun_killed
begin mpirun_killed kill_victim "${command[@]}"
status=0
wait "$started" || status=$?
started=
case $status in 71 | 137) ;; *) cat start.log; fail "exit $status" ;; esac
completes mpirun_killed "${command[@]}" --resume
expect 2 'leave one of them out' "${command[@]}" --ranks 3

# ---- a wire that is cut ----

echo "== two network namespaces"
first=thalweg-$$-0 second=thalweg-$$-1
spaces=("$first" "$second")
make_spaces() {
    ip netns add $first && ip netns add $second && ip netns exec $first true &&
        ip -n $first link add wire0 type veth peer name wire1 netns $second
}
make_spaces >netns.log 2>&1 || { echo "left out: $(cat netns.log)"; exit 0; }
for rank in 0 1; do
    ip -n "${spaces[rank]}" address add 192.0.2.$((1 + rank))/24 dev wire$rank
    ip -n "${spaces[rank]}" link set wire$rank up
    ip -n "${spaces[rank]}" link set lo up
done
# Two ranks, until both have ended by a wire that is cut. False where one does not name the other: a busy machine may
# starve one for as long, which is blamed by both.
cut_wire() { # SECONDS
    local names=0
    rm -rf ranks/* wire
    arguments wire
    for rank in 0 1; do
        THALWEG_RANK=$rank THALWEG_RANKS=2 THALWEG_RENDEZVOUS=192.0.2.1:29400 ip netns exec "${spaces[rank]}" \
            "$work/bin/rank" train "${arguments[@]}" train.steps=100000 dist.timeout="$1" >rank$rank.log 2>&1 \
            </dev/null & pids[rank]=$!
    done
    started=${pids[0]}
    wait_for_lines wire/metrics.jsonl 45 # the second checkpoint waits for the first one
    ip -n "$second" link set wire1 down
    for rank in 0 1; do
        status=0
        wait "${pids[rank]}" || status=$?
        [ $status -eq 71 ] || { cat rank$rank.log; fail "exit $status of rank $rank, expected 71"; }
        ! grep -q "rank $((1 - rank)) " rank$rank.log || names=$((names + 1))
    done
    started=
    ip -n "$second" link set wire1 up
    [ $names -eq 2 ] && [ -n "$(checkpoint_of wire)" ]
}
cut_wire 4 || { again "the wire, with 12 s"; cut_wire 12; } || { again "the wire, with 36 s"; cut_wire 36; } ||
    { cat rank?.log; fail "a rank does not name the other"; }
expect 0 'Nothing is damaged' "$program" check wire
