#!/usr/bin/env bash
# One training run on several machines by ssh alone: the same folder and program on all of them (a shared file system),
# a rank for each GPU. Signals are passed on: SIGTERM stops the run with a checkpoint, as does the end of this script,
# whatever ends it. Its exit code is that of the first rank that failed by itself, 71 where one was lost.
#   scripts/launch/ssh.sh "HOST[:RANKS] ..." CONFIG.json run.dir=DIR [key=value ...]
# RANKS is 8 where it is left out. The first host is where the ranks meet, at PORT (29500). TRAIN_GPT is the program
# (./train_gpt), LOGIN what runs a command on a host (ssh), once for each rank and without asking for a password.
# Variables whose names begin with NCCL_, CUDA_ or OMP_ go to all ranks.
set -uo pipefail

usage() { echo "ssh.sh: $1"; sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; } >&2
[ $# -ge 2 ] || usage "expected hosts and a configuration"
read -ra hosts <<<"$1"
shift
[ -f "$1" ] || usage "there is no configuration $1 in $PWD"
program=${TRAIN_GPT:-./train_gpt} port=${PORT:-29500} login=${LOGIN:-ssh}
grace=30 # seconds that the others may go on behind a failure; they notice most within a second
total=0 meeting=${hosts[0]%%:*}
meeting=${meeting##*@}
for i in "${!hosts[@]}"; do
    [[ ${hosts[i]} == *:* ]] || hosts[i]+=:8
    [[ ${hosts[i]} =~ ^[^:]+:[1-9][0-9]*$ ]] || usage "\"${hosts[i]}\" is not HOST or HOST:RANKS"
    total=$((total + ${hosts[i]##*:}))
done

# A rank gets the secret by standard input, for arguments can be read by everybody on a machine, then names of signals,
# which ssh does not pass on. The end of it is the end of this script.
command_of() { # RANK LOCAL_RANK LOCAL_RANKS ARGUMENT...
    local variables="THALWEG_RANK=$1 THALWEG_RANKS=$total THALWEG_LOCAL_RANK=$2 THALWEG_LOCAL_RANKS=$3" name
    for name in $(compgen -e); do
        case $name in NCCL_* | CUDA_* | OMP_*) variables+=" $name=$(printf %q "${!name}")" ;; esac
    done
    shift 3
    cat <<END
cd $(printf %q "$PWD") && read -r THALWEG_SECRET && exec 3<&0 </dev/null || exit
export THALWEG_SECRET $variables THALWEG_RENDEZVOUS=$meeting:$port
(while read -r signal <&3; do kill -s "\$signal" \$\$; done; kill -s TERM \$\$) >/dev/null 2>&1 &
exec $(printf '%q ' "$program" train "$@" --resume) 3<&-
END
}

code=0 failed=0 # when the first one failed
pids=() places=() pipes=()
tell() { # SIGNAL, to all that run
    for rank in "${!pids[@]}"; do echo "$1" 2>/dev/null >&"${pipes[rank]}"; done
}
note_end() { # RANK STATUS
    local status=$2
    unset "pids[$1]"
    [ "$status" -ne 0 ] || return 0
    [ "$status" -le 128 ] || status=71
    [ "$2" -eq 71 ] || [ "$2" -eq 75 ] || echo "ssh.sh: rank $1 on ${places[$1]} ended with $2$(
        [ "$2" -le 128 ] || echo ": a signal, its machine or ${login%% *} ended it")" >&2
    [ "$status" -eq 75 ] || [ $failed -ne 0 ] || failed=$((SECONDS + 1))
    if [ $code -eq 0 ] || [ $code -eq 71 ]; then code=$status; fi # 71: another failed first
}

folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
for signal in TERM INT HUP USR1 USR2; do trap "tell $signal" "$signal"; done
rank=0
for host in "${hosts[@]}"; do
    for ((local_rank = 0; local_rank < ${host##*:}; local_rank++, rank++)); do
        mkfifo "$folder/$rank" || exit 1
        $login "${host%:*}" "$(command_of $rank $local_rank "${host##*:}" "$@")" <"$folder/$rank" &
        pids[rank]=$! places[rank]=${host%:*}
    done
done
trap '' PIPE
secret=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
for rank in "${!pids[@]}"; do # now: a login that had another's end of a pipe would keep that rank alive
    exec {pipe}>"$folder/$rank"
    pipes[rank]=$pipe
    echo "$secret" 2>/dev/null >&"$pipe"
done

while [ ${#pids[@]} -gt 0 ]; do
    for rank in "${!pids[@]}"; do
        kill -0 "${pids[rank]}" 2>/dev/null && continue
        wait "${pids[rank]}"
        note_end "$rank" $?
    done
    [ $failed -eq 0 ] || [ $((SECONDS - failed)) -lt $grace ] || { tell KILL; failed=$SECONDS; }
    sleep 0.2
done
exit $code
