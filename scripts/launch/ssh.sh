#!/usr/bin/env bash
# One training run on several machines by ssh alone: the same folder and program on all of them (a shared file system),
# a rank for each GPU. Ends with the exit code of the first rank that failed, 0 when all are done.
#   scripts/launch/ssh.sh "HOST[:RANKS] ..." CONFIG.json run.dir=DIR [key=value ...]
# RANKS is 8 where it is left out. The first host is where the ranks meet, at PORT (29500). LOGIN is what runs a command
# on a host (ssh).
set -uo pipefail

[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
read -ra hosts <<<"$1"
shift
program=${TRAIN_GPT:-./train_gpt} port=${PORT:-29500} login=${LOGIN:-ssh}
secret=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
total=0
for host in "${hosts[@]}"; do
    case $host in *:*) total=$((total + ${host##*:})) ;; *) total=$((total + 8)) ;; esac
done

# The secret goes by standard input: arguments can be read by everybody on a machine.
start_rank() { # HOST RANK LOCAL_RANK LOCAL_RANKS ARGUMENT...
    local host=$1 variables
    variables="THALWEG_RANK=$2 THALWEG_RANKS=$total THALWEG_LOCAL_RANK=$3 THALWEG_LOCAL_RANKS=$4"
    variables+=" THALWEG_RENDEZVOUS=${hosts[0]%%:*}:$port"
    shift 4
    printf '%s\n' "$secret" | $login "$host" "cd $(printf %q "$PWD") && read -r THALWEG_SECRET &&
        export THALWEG_SECRET $variables && exec $(printf '%q ' "$program" train "$@" --resume) </dev/null"
}

rank=0 pids=()
for host in "${hosts[@]}"; do
    count=8
    case $host in *:*) count=${host##*:} ;; esac
    for ((local_rank = 0; local_rank < count; local_rank++, rank++)); do
        start_rank "${host%%:*}" $rank $local_rank "$count" "$@" &
        pids+=($!)
    done
done
trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM INT
code=0
for pid in "${pids[@]}"; do
    wait "$pid"
    status=$?
    if [ $code -eq 0 ] || { [ $code -eq 71 ] && [ $status -ne 0 ]; }; then code=$status; fi # 71: another failed first
done
exit $code
