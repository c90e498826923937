#!/usr/bin/env bash
# The real compiler: the CUDA backend compiles for every architecture we name, no kernel of attention, norms, loss,
# update and generation spills registers on sm_80, 89 and 90a, the program is linked as safely as the CPU program, and
# starts as one where no driver answers. Skipped (77) where there is no nvcc.
#   scripts/check_cuda.sh
set -euo pipefail
cd "$(dirname "$0")/.."

nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null) || { echo "no nvcc here"; exit 77; }
build=build/cuda-all
make -s CUDA=1 NVCC="$nvcc" ARCHS="80 89 90a 100" BUILD=$build -j"$(nproc)"

# FILE ARCHITECTURE KERNEL REGISTERS SPILLED of every kernel, from what ptxas said.
kernels() {
    awk '
        FNR == 1 { file = FILENAME; sub(/.*\//, "", file); sub(/\.ptxas$/, "", file) }
        /Compiling entry function/ { split($0, word, "\047"); kernel = word[2]; arch = word[4] }
        /bytes spill stores/ { spilled = $0; sub(/.*stack frame, /, "", spilled); spilled = spilled + 0 }
        /Used [0-9]+ registers/ {
            registers = $0; sub(/.*Used /, "", registers)
            print file, arch, kernel, registers + 0, spilled; spilled = 0
        }' $build/kernels/cuda/*.ptxas
}

# On a machine with a GPU, `make` alone builds for that.
fake=$(mktemp -d)
trap 'rm -rf "$fake"' EXIT
printf '#!/bin/sh\necho 9.0\n' >"$fake/nvidia-smi"
chmod +x "$fake/nvidia-smi"
told=$(PATH=$fake:$PATH make -n NVCC="$nvcc" 2>/dev/null)
grep -q 'cuda: on (sm 90a).* -> build/cuda$' <<<"$told" ||
    { echo "make does not build for a GPU that is there"; exit 1; }

TRAIN_GPT=$build/train_gpt scripts/check_hardening.sh

# NCCL is in the program where it is at hand; what asks for it and has none is told so.
if [ -e $build/comm/nccl.o ]; then
    told=$(ldd $build/train_gpt)
    grep -q 'libnccl\.so\.2 => /' <<<"$told" || { echo "the program does not find libnccl"; exit 1; }
    make -s CUDA=1 NVCC="$nvcc" ARCHS="80 89 90a 100" BUILD=$build -j"$(nproc)" $build/tests/test_comm_nccl
else
    echo "no NCCL here: the row nccl is not compiled"
fi
! told=$(make -n CUDA=1 NVCC="$nvcc" NCCL=1 NCCL_HOME="$fake" 2>&1) ||
    { echo "make goes on without the NCCL that is asked for"; exit 1; }
grep -q 'NCCL=1: .*NCCL_HOME=/path' <<<"$told" || { echo "make does not say where NCCL was looked for"; exit 1; }

kernels >$build/kernels.txt
count=$(wc -l <$build/kernels.txt)
[ "$count" -gt 100 ] || { echo "ptxas told of $count kernels only"; exit 1; }
bad=$(awk '$5 > 0 && $2 != "sm_100" && $1 ~ /attention|norm|classifier|update|few|cache/' $build/kernels.txt)
[ -z "$bad" ] || { echo "registers are spilled (file, architecture, kernel, registers, bytes):"; echo "$bad"; exit 1; }
echo "$count kernels; most registers: $(sort -k4 -n $build/kernels.txt | tail -n 1)"
awk '$5 > 0' $build/kernels.txt | sed 's/^/spills: /'

command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1 && exit # it would train on the GPU
TRAIN_GPT=$build/train_gpt bash tests/e2e/invariance.sh
told=$($build/train_gpt doctor)
grep -q 'no NVIDIA driver here' <<<"$told" || { echo "doctor does not say that there is no driver"; exit 1; }
