#!/usr/bin/env bash
# Includes point down only: train_gpt.c -> sweep -> report -> commands -> {model, optim, data} -> comm ->
# kernels/kernels.h -> runtime. The three wings never include each other; a backend, kernels/cpu or kernels/cuda, is
# seen by kernels alone, and what NCCL needs of kernels/cuda by comm. Every include of ours is written with its folder
# and in quotes. First the check must find the wrong includes that it plants itself.
#   scripts/check_layers.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# folder or file: the folders and single headers that it may include
layers='
train_gpt.c      commands model optim data comm kernels/kernels.h runtime
sweep            sweep report commands model optim data comm kernels/kernels.h runtime
report           report commands data kernels/kernels.h runtime
commands         commands model optim data comm kernels runtime
model            model comm kernels/kernels.h runtime
optim            optim comm kernels/kernels.h runtime
data             data kernels/kernels.h runtime
comm             comm kernels/kernels.h kernels/cuda runtime
kernels          kernels kernels/cpu runtime
kernels/cpu      kernels/cpu kernels runtime
kernels/cuda     kernels/cuda kernels runtime
runtime          runtime
tests            tests tests/reference tests/cudasim sweep report commands model optim data comm kernels kernels/cpu \
                 kernels/cuda runtime
tests/fuzz       tests/fuzz sweep report commands model data runtime
tests/reference  tests/reference kernels runtime
tests/cudasim    tests/cudasim tests/test.h
tests/cudasim/include  tests/cudasim
'

# Every include line of ours below the current folder, as FILE:LINE:TEXT.
includes() {
    find . \( -name .git -o -name build -o -name runs \) -prune -o -type f \
        \( -name '*.[ch]' -o -name '*.def' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cpp' \) -print0 |
        xargs -0 -r grep -nHE '^[[:space:]]*#[[:space:]]*include' | sed 's|^\./||'
}

wrong_includes() {
    includes | awk -v layers="$layers" '
        BEGIN {
            gsub(/\\\n/, "", layers)
            rows = split(layers, line, "\n")
            for (i = 1; i <= rows; i++) {
                words = split(line[i], word, " ")
                if (words == 0) continue
                ours[word[1]] = 1
                for (j = 2; j <= words; j++) allowed[word[1], word[j]] = 1
            }
        }
        function folder(path) { return sub("/[^/]*$", "", path) ? path : "" }
        {
            split($0, part, ":")
            file = part[1]; place = file ":" part[2]
            from = file in ours ? file : folder(file)
            match($0, /["<][^">]*[">]/)
            quoted = substr($0, RSTART, 1) == "\""
            target = substr($0, RSTART + 1, RLENGTH - 2)
            to = folder(target)
            if (!quoted && !(to in ours)) next # a header of the system
            if (!quoted) print place ": write \"" target "\" in quotes"
            else if (to == "") print place ": write \"" target "\" with its folder"
            else if (!(from in ours)) print place ": scripts/check_layers.sh knows no layer for " file
            else if (!((from, to) in allowed) && !((from, target) in allowed))
                print place ": " from " must not include " target
        }'
}

# ---- the check itself ----

planted=$(mktemp -d)
trap 'rm -rf "$planted"' EXIT
mkdir -p "$planted"/{runtime,kernels/cpu,kernels/cuda,model,optim,data,commands,other}
plant() { echo "$2" >"$planted/$1"; }
plant runtime/up.c '#include "kernels/kernels.h"'
plant kernels/up.c '#include "model/gpt.h"'
plant optim/across.c '#include "model/gpt.h"'
plant data/across.def '#include "optim/optim.h"'
plant model/through.h '#  include "kernels/cpu/cpu.h"'
plant model/beside.c '#include "kernels/checked.h"'
plant commands/through.c '#include "kernels/cpu/gemm.h"'
plant commands/bare.c '#include "run.h"'
plant kernels/cpu/angle.c '#include <runtime/text.h>'
plant kernels/cuda/across.cu '#include "kernels/cpu/cpu.h"'
plant other/stranger.c '#include "runtime/text.h"'
plant train_gpt.c '#include "kernels/cpu/cpu.h"'
plant model/good.c '#include "runtime/text.h" // "model/gpt.h"'
expected=12
caught=$(cd "$planted" && wrong_includes)
if [ "$(wc -l <<<"$caught")" -ne $expected ] || grep -q good <<<"$caught"; then
    printf 'of %d planted wrong includes these were seen:\n%s\n' $expected "$caught"
    exit 1
fi

wrong=$(wrong_includes)
[ -z "$wrong" ] || { echo "$wrong"; exit 1; }
