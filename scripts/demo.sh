#!/usr/bin/env bash
# From nothing to a trained model: set-up, build, text into tokens, about two minutes of training on 2 cores,
# evaluation and a sample. DATA=path takes any text file or folder; without it, the C headers of this machine.
set -euo pipefail
cd "$(dirname "$0")/.."

text=${DATA:-/usr/include}
shards=data/demo
run=runs/demo

[ -e "$text" ] || { echo "DATA=$text: there is no such file or folder" >&2; exit 66; }
if [ -e "$run/lock" ] && ! flock -n "$run/lock" true; then
    echo "a demo is training in $run; let it finish, or stop it with Ctrl-C there" >&2
    exit 1
fi
scripts/install_deps.sh
make -s -j"$(nproc)"

echo; echo "== text into tokens: $text"
./train_gpt prepare "$text" --tokenizer byte --out "$shards"

echo; echo "== training (stop with Ctrl-C, continue with: ./train_gpt resume $run)"
rm -rf "$run" # only ever the last demo
./train_gpt train configs/demo.json run.dir="$run"

echo; echo "== held-out text"
./train_gpt eval "$run"

echo; echo "== a sample"
./train_gpt sample "$run" --tokens 400 --temperature 0.8

cat <<END

== the run is in $run; next:
  ./train_gpt sample $run --prompt '#include <' --tokens 200
  ./train_gpt resume $run train.steps=2200                      # train it longer
  ./train_gpt bench model.preset=gpt2-124m train.micro_batch=1  # how fast a larger model would be
END
