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

checkpoints=("$run"/checkpoints/step_*)
halfway=${checkpoints[$((${#checkpoints[@]} / 2 - 1))]}
echo; echo "== held-out text: the model of $halfway"
./train_gpt eval "$halfway"
echo; echo "== held-out text: the last model"
./train_gpt eval "$run"

echo; echo "== a sample"
./train_gpt sample "$run" --tokens 400 --temperature 0.8

echo; echo "== a report: figures of this run in one HTML file, for a browser"
./train_gpt report "$run"

cat <<END

== the run is in $run. Every checkpoint of it is a finished model, the average of the steps so far. Next:
  ./train_gpt sample $run --prompt '#include <' --tokens 200
  ./train_gpt eval $halfway --weights z   # the same without the average
  ./train_gpt resume $run train.steps=1400                      # train it longer; nothing was set for the length
  ./train_gpt bench model.preset=gpt2-124m train.micro_batch=1  # how fast a larger model would be
END
