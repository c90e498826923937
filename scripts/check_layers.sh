#!/usr/bin/env bash
# Includes point down only: train_gpt.c -> commands -> {model, optim, data} -> kernels -> runtime. The three wings never
# include each other, and kernels/cpu is seen by the kernels alone. Begins by catching wrong arrows of its own making.
set -euo pipefail
cd "$(dirname "$0")/.."

# folder: what its files may include
layers='
runtime      runtime
kernels/cpu  kernels/cpu kernels runtime
kernels      kernels kernels/cpu runtime
model        model kernels runtime
optim        optim kernels runtime
data         data kernels runtime
commands     commands model optim data kernels runtime
train_gpt.c  commands model optim data kernels runtime
'

# check ROOT: every wrong include below it, one a line.
check() {
    local root=$1 place allowed file include folder
    while read -r place allowed; do
        [ -n "$place" ] || continue
        while IFS=: read -r file _ include; do
            include=${include#*\"}; include=${include%%\"*}
            folder=${include%/*}
            [ "$folder" != "$include" ] || { echo "$file: write \"$include\" with its folder"; continue; }
            case " $allowed " in *" $folder "*) ;; *) echo "$file must not include \"$include\"" ;; esac
        done < <(find "$root/$place" -maxdepth 1 -name '*.[ch]' -exec grep -nHE '^#include "' {} + 2>/dev/null || true)
    done <<<"$layers"
}

planted=$(mktemp -d)
trap 'rm -rf "$planted"' EXIT
mkdir -p "$planted"/{runtime,optim}
echo '#include "kernels/kernels.h"' >"$planted/runtime/up.c"
echo '#include "model/gpt.h"' >"$planted/optim/across.c"
echo '#include "optim.h"' >"$planted/optim/bare.c"
[ "$(check "$planted" | wc -l)" -eq 3 ] || { echo "the check does not see planted wrong includes"; exit 1; }

wrong=$(check .)
[ -z "$wrong" ] || { echo "$wrong"; exit 1; }
