#!/usr/bin/env bash
# One training run under torchrun, which is run on every node with the same arguments. torchrun starts the ranks, and
# again where one fails, RESTARTS times (3): they continue from the last checkpoint.
#   NODES=2 HOST=node01 PORT=29500 GPUS=8 scripts/launch/torchrun.sh CONFIG.json run.dir=DIR [key=value ...]
# NODES 1, HOST this machine, GPUS 8; PORT is torchrun's, and the ranks meet at the one behind it. JOB (thalweg) keeps
# jobs apart, TRAIN_GPT is the program (./train_gpt).
set -euo pipefail

usage() { echo "torchrun.sh: $1"; sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; } >&2
program=${TRAIN_GPT:-./train_gpt} nodes=${NODES:-1} port=${PORT:-29500}
[ $# -ge 1 ] || usage "expected a configuration"
[ -f "$1" ] || usage "there is no configuration $1 in $PWD"
[ -x "$program" ] || usage "there is no program $program in $PWD"
[ "$nodes" = 1 ] || [ -n "${HOST:-}" ] || usage "NODES=$nodes needs HOST, the first of them"
command -v torchrun >/dev/null || usage "torchrun is not in PATH"
exec torchrun --no-python --nnodes="$nodes" --nproc-per-node="${GPUS:-8}" --max-restarts="${RESTARTS:-3}" \
    --rdzv-backend=c10d --rdzv-endpoint="${HOST:-127.0.0.1}:$port" --rdzv-id="${JOB:-thalweg}" \
    "$program" train "$@" --resume
