#!/usr/bin/env bash
# What needs a real GPU, in stages of less than ten minutes each on a machine with nvcc and a driver:
#   scripts/gpu_check.sh correct     builds; kernels and training against the CPU, a hundred equal repeats
#   scripts/gpu_check.sh speed       124M, 350M, 1558M with AdamW, Muon and AMUSE: step, MFU, every kernel and its
#                                    limit; generation at 124M and 1558M
#   scripts/gpu_check.sh peers       the same models in PyTorch (torch.compile, fused AdamW), and llm.c in $LLMC
#   scripts/gpu_check.sh ranks       several ranks on one GPU by dist.comm=host, one rank by NCCL
#   scripts/gpu_check.sh sanitize    compute-sanitizer: memcheck, racecheck, initcheck, synccheck on the kernel tests
# Results are written row by row to $OUT (docs/measurements where it is not set), one file for each stage and card.
# PACKAGES=folder: Debian packages (.deb) that are unpacked first, for a machine that cannot install any.
# NCCL_HOME=folder: NCCL with include/ and lib/; where there is none else, that of PyTorch is taken.
# PRESETS="gpt2-124m ...", RECIPES="adamw ..." choose less.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

stage=${1:-}
case $stage in correct | speed | peers | ranks | sanitize) ;; *) sed -n '2,13p' "$0" >&2; exit 2 ;; esac
out=${OUT:-docs/measurements}
mkdir -p "$out"
card=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
[ -n "$card" ] || { echo "no GPU answers: nvidia-smi names none" >&2; exit 66; }
table=$out/$(tr '[:upper:] ' '[:lower:]_' <<<"${card#NVIDIA }" | tr -cd 'a-z0-9_')_$stage.md
failed=0

# say TEXT...: to the terminal and into the table, at once: a stage that is stopped leaves what it had.
say() { echo "$*" | tee -a "$table"; }

begin() {
    printf '# %s: %s\n\n' "$card" "$1" | tee "$table"
    say "Program: $(build/cuda/train_gpt --version 2>/dev/null || git describe --always --dirty 2>/dev/null), driver" \
        "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1), $(date -u +%Y-%m-%d)."
    say ""
}

unpack() {
    [ -n "${PACKAGES:-}" ] || return 0
    for package in "$PACKAGES"/*.deb; do dpkg -x "$package" /; done
    ldconfig
}

# NCCL_HOME=... for make where it finds no NCCL by itself, but Python has one.
nccl() {
    local told home
    [ -z "${NCCL_HOME:-}" ] || { echo "NCCL_HOME=$NCCL_HOME"; return; }
    told=$(make -n CUDA=1 train_gpt 2>/dev/null | head -n 1)
    [[ $told != *"nccl: off"* ]] && return
    home=$(python3 -c 'import importlib.util as u; print(u.find_spec("nvidia.nccl").submodule_search_locations[0])' \
        2>/dev/null) && echo "NCCL_HOME=$home"
}

build() {
    unpack
    # shellcheck disable=SC2046 # one word or none
    make CUDA=1 $(nccl) -j"$(nproc)" "$@" >build.log 2>&1 || { tail -n 30 build.log; exit 1; }
    rm -f build.log
}

# check NAME COMMAND...: a row with ok or FAIL; what it printed stays in build/gpu-logs.
check() {
    local name=$1 begin=$SECONDS status
    shift
    mkdir -p build/gpu-logs
    "$@" >"build/gpu-logs/$name.log" 2>&1
    status=$?
    if [ $status -eq 0 ]; then say "| $name | ok | $((SECONDS - begin)) s |"
    else
        failed=$((failed + 1))
        say "| $name | FAIL ($status) | $((SECONDS - begin)) s |"
        grep -vE '^\[ +(OK|RUN) ' "build/gpu-logs/$name.log" | tail -n 15 | sed 's/^/    /'
    fi
}

# ---- correct ----

# Two runs of one configuration leave equal bytes behind, where neither chooses by measuring.
equal_runs() { # NAME CONFIG ASSIGNMENT...
    local name=$1 config=$2 program=build/cuda/train_gpt
    shift 2
    for run in a b; do
        rm -rf "build/gpu-$name-$run"
        THALWEG_MEASURE=0 \
            "$program" train "$config" device=cuda run.dir="build/gpu-$name-$run" \
            data.train='build/gpu-data/train_*.bin' data.val='build/gpu-data/val_*.bin' "$@" || return
    done
    for file in model.safetensors state-00001-of-00001.safetensors; do
        cmp "build/gpu-$name-a"/checkpoints/step_*/$file "build/gpu-$name-b"/checkpoints/step_*/$file || return
    done
}

# What the GPU says of itself is in the metrics, and it is no fiction. The run is as long as a few looks at it.
gpu_numbers() {
    local run=build/gpu-numbers
    rm -rf $run
    build/cuda/train_gpt train configs/gpt2-124m.json device=cuda run.dir=$run model.vocab=50257 train.tokens=auto \
        train.steps=200 train.micro_batch=8 train.batch_tokens=8192 eval.every=0 checkpoint.every=0 sample.every=0 \
        log.gpu_seconds=0.5 data.{train='build/gpu-data/train_*.bin',val='build/gpu-data/val_*.bin'} || return
    python3 - $run/metrics.jsonl <<'PYTHON'
import json, sys
last = {}
for line in open(sys.argv[1]): last.update(json.loads(line))
print({key: value for key, value in last.items() if key.startswith("gpu_") or key == "mfu"})
limits = dict(gpu_power=(20, 2000), gpu_temperature=(10, 110), gpu_clock=(100, 4000), gpu_memory=(1e8, 1e12),
              gpu_utilization=(0.05, 1), gpu_energy=(10, 1e7))
sys.exit([key for key, (low, high) in limits.items() if not low <= last.get(key, -1) <= high] or 0)
PYTHON
}

# What logging costs, as bench says; at most 0.5 % of a step of 100 ms.
logging_costs() {
    build/cuda/train_gpt bench --json device=cuda model.preset=gpt2-124m train.micro_batch=8 >build/gpu-logging.json ||
        return
    python3 - <<'PYTHON'
import json, sys
told = json.load(open("build/gpu-logging.json"))
print({key: told[key] for key in ("logging_seconds", "logging_share_of_100ms", "gpu_look_seconds")})
sys.exit(not told["logging_share_of_100ms"] < 0.005)
PYTHON
}

correct() {
    build unit-tests
    begin "correctness"
    say "| check | result | time |"
    say "|---|---|---|"
    for program in build/cuda/tests/test_{kernels_*,services,telemetry,training,generate,gradients}; do
        case $program in *.[od] | *.ptxas) continue ;; esac
        check "$(basename "$program")" "$program"
    done
    build/cuda/train_gpt prepare README.md docs Makefile kernels --tokenizer byte --out build/gpu-data >/dev/null
    check "tiny twice, equal bytes" equal_runs tiny configs/tiny.json
    check "tiny with amuse twice" equal_runs amuse configs/tiny.json optim.name=amuse
    check "124m twice" equal_runs 124m configs/gpt2-124m.json model.vocab=50257 train.tokens=auto train.steps=8 \
        train.micro_batch=8 train.batch_tokens=16384 eval.every=0 checkpoint.every=0 sample.every=0
    check "metrics tell of the GPU" gpu_numbers
    check "logging costs" logging_costs
    say "| | $(tail -n 1 build/gpu-logs/"logging costs.log") | |"
    check "end to end" env TRAIN_GPT=build/cuda/train_gpt bash tests/e2e/cuda.sh
    check "without graphs" env THALWEG_GRAPHS=0 build/cuda/tests/test_training
}

# ---- speed ----

declare -A micro_batch=([gpt2-124m]=64 [gpt2-350m]=32 [gpt2-1558m]=16 [gpt2-774m]=16)

speed() {
    build
    begin "speed"
    say "One micro-batch a step; \`tokens/s at 0.5M\` composes 524288 tokens from micro-batches and one optimizer step."
    say ""
    say "| model | optimizer | micro-batch | ms/step | optimizer ms | tokens/s | tokens/s at 0.5M | MFU |" \
        "of a large product | memory |"
    say "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for preset in ${PRESETS:-gpt2-124m gpt2-350m gpt2-1558m}; do
        for recipe in ${RECIPES:-adamw muon amuse}; do
            local json=$out/bench_${preset}_$recipe.json
            build/cuda/train_gpt bench --json device=cuda model.preset="$preset" optim.name="$recipe" \
                train.sequence_length=1024 train.micro_batch="${micro_batch[$preset]}" >"$json" 2>build/bench.err ||
                { say "| $preset | $recipe | failed: $(tail -n 1 build/bench.err) |"; failed=$((failed + 1)); continue; }
            say "$(python3 scripts/peers/bench_row.py "$preset" "$recipe" "$json")"
        done
        [ -e "$out/bench_${preset}_adamw.json" ] || continue
        say ""
        say "$(python3 scripts/peers/bench_row.py --kernels "$preset" "$out/bench_${preset}_adamw.json")"
        say ""
    done
    speed_of_tokens
}

# One sequence, token by token.
speed_of_tokens() {
    say "Generation: a token at several places of the context, beside a read of its bytes."
    say ""
    say "| model | dtype | position | ms/token | tokens/s | GB | their read, ms | reached | drawing, ms |" \
        "prompt tokens/s |"
    say "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for preset in gpt2-124m gpt2-1558m; do
        local json=$out/bench_${preset}_generate.json
        build/cuda/train_gpt bench --generate --json device=cuda model.preset=$preset >"$json" 2>build/bench.err ||
            { say "| $preset | failed: $(tail -n 1 build/bench.err) |"; failed=$((failed + 1)); continue; }
        say "$(python3 scripts/peers/bench_row.py --generate $preset "$json")"
    done
}

# ---- peers ----

peers() {
    unpack
    begin "PyTorch and llm.c"
    say "| program | model | micro-batch | ms/micro-batch | tokens/s |"
    say "|---|---|--:|--:|--:|"
    for preset in ${PRESETS:-gpt2-124m gpt2-350m gpt2-1558m}; do
        say "$(python3 scripts/peers/pytorch_gpt.py "$preset" "${micro_batch[$preset]}" 2>build/peers.err ||
            echo "| PyTorch | $preset | failed: $(tail -n 1 build/peers.err) |")"
    done
    if [ -x "${LLMC:-}/train_gpt2cu" ]; then say "| llm.c | see \`scripts/peers/README.md\` for its command | | | |"
    else say "| llm.c | not at hand: LLMC names no folder with train_gpt2cu | | | |"; fi
}

# ---- ranks ----

# The largest relative difference between the losses of two runs, which is at most LIMIT.
differ() { # LIMIT RUN RUN
    python3 - "$@" <<'PYTHON'
import json, sys
limit, runs = float(sys.argv[1]), sys.argv[2:]
losses = [[row[key] for row in map(json.loads, open(run + "/metrics.jsonl")) for key in ("loss", "val_loss")
           if key in row] for run in runs]
worst = max(abs(a - b) / abs(a) for a, b in zip(*losses))
print("%.1e" % worst)
sys.exit(len(losses[0]) < 10 or len(losses[0]) != len(losses[1]) or not worst <= limit)
PYTHON
}

ranks() {
    build build/cuda/train_gpt build/cuda/tests/test_comm_nccl
    begin "several ranks"
    say "| check | result | time |"
    say "|---|---|---|"
    check "NCCL, one rank" build/cuda/tests/test_comm_nccl
    build/cuda/train_gpt prepare README.md docs Makefile kernels --tokenizer byte --out build/gpu-data >/dev/null
    say ""
    say "Losses of \`configs/tiny.json\` in fp32 beside those of one rank; \`dist.comm=host\`, all ranks on one GPU;" \
        "at most 1e-4 apart."
    say ""
    say "| optimizer | ranks | largest difference | time |"
    say "|---|--:|--:|--:|"
    for recipe in ${RECIPES:-adamw muon amuse}; do
        for count in 1 2 4; do
            local run=build/gpu-ranks-$recipe begin=$SECONDS result="" comm=()
            [ $count -eq 1 ] || comm=(dist.comm=host)
            rm -rf "$run-$count"
            build/cuda/train_gpt train configs/tiny.json --ranks $count "${comm[@]}" \
                device=cuda precision=fp32 optim.name="$recipe" train.batch_tokens=256 train.micro_batch=4 \
                data.train='build/gpu-data/train_*.bin' data.val='build/gpu-data/val_*.bin' run.dir="$run-$count" \
                >"$run-$count.log" 2>&1 && result=$(differ 1e-4 "$run-1" "$run-$count") ||
                { result="FAIL ${result:-$(tail -n 1 "$run-$count.log")}"; failed=$((failed + 1)); }
            say "| $recipe | $count | $result | $((SECONDS - begin)) s |"
        done
    done
}

# ---- sanitize ----

sanitize() {
    command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not here: skipped"; exit 77; }
    build unit-tests
    begin "compute-sanitizer"
    say "| tool and test | result | time |"
    say "|---|---|---|"
    for tool in memcheck racecheck initcheck synccheck; do
        for program in build/cuda/tests/test_kernels_{rows,heads,linear,step,update,matrices}; do
            check "$tool $(basename "$program")" \
                timeout 120 compute-sanitizer --tool $tool --error-exitcode 9 "$program"
        done
    done
}

$stage
say ""
say "$failed failed."
[ $failed -eq 0 ]
