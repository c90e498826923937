#!/usr/bin/env bash
# One training run under torchrun, which is run on every node with the same arguments. torchrun starts and restarts the
# ranks; a restart continues from the last checkpoint.
#   NODES=2 HOST=node01 PORT=29500 GPUS=8 scripts/launch/torchrun.sh CONFIG.json run.dir=DIR [key=value ...]
# NODES 1, HOST this machine, GPUS 8; PORT is torchrun's, and the ranks meet at the one behind it.
set -euo pipefail

program=${TRAIN_GPT:-./train_gpt} nodes=${NODES:-1} host=${HOST:-127.0.0.1} port=${PORT:-29500}
exec torchrun --no-python --nnodes="$nodes" --nproc-per-node="${GPUS:-8}" --max-restarts="${RESTARTS:-3}" \
    --rdzv-backend=c10d --rdzv-endpoint="$host:$port" --rdzv-id="${JOB:-thalweg}" \
    "$program" train "$@" --resume
