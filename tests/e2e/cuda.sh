#!/usr/bin/env bash
# The CUDA backend end to end, on the simulator or on a GPU: training, evaluation, samples, resume, plans. Only for
# programs that were built with it.
. "$(dirname "$0")/lib.sh"
make_shards
cuda=(device=cuda)
"$program" train "$tiny" "${data[@]}" "${cuda[@]}" run.dir=probe train.steps=1 eval.every=0 >probe.log 2>&1 || {
    grep -q 'no CUDA backend' probe.log && { echo "this program has no CUDA backend"; exit 77; }
    cat probe.log >&2; fail "one step on device=cuda"
}
short=(train.steps=8 eval.every=4 checkpoint.every=4)

echo "== bf16: trains, evaluates, samples"
train "${cuda[@]}" run.dir=bf16
grep -q bfloat16 bf16/checkpoints/step_*/config.json || fail "precision auto is not bf16 on device=cuda"
losses() { grep -oE '"loss":[0-9.e+-]+' "$1/metrics.jsonl" | cut -d: -f2; }
losses bf16 | awk 'NR == 1 { first = $1 } { last = $1 } END { exit !(last < first) }' || fail "the loss does not fall"
expect 0 'loss' "$program" eval bf16 device=cuda
expect 0 '.' "$program" sample bf16 --tokens 8 device=cuda
expect 0 'loss' "$program" eval bf16 device=cpu # the same checkpoint
expect 0 'llama' "$program" export bf16 --to hf full --weights x --dtype fp32
expect 0 'llama' "$program" export bf16 --to hf rounded --weights x --dtype fp32 precision=bf16
! cmp -s full/model.safetensors rounded/model.safetensors || fail "an export in fp32 is rounded to bf16"

echo "== equal bits: again and without graphs, where neither measures; resumed, with what was measured"
for recipe in adamw amuse; do
    THALWEG_MEASURE=0 train "${cuda[@]}" "${short[@]}" optim.name=$recipe run.dir=$recipe-first
    THALWEG_MEASURE=0 train "${cuda[@]}" "${short[@]}" optim.name=$recipe run.dir=$recipe-again \
        sample.every=1 sample.tokens=4 # samples between the steps change nothing
    same_run $recipe-first $recipe-again
    THALWEG_MEASURE=0 THALWEG_GRAPHS=0 train "${cuda[@]}" "${short[@]}" optim.name=$recipe run.dir=$recipe-direct
    same_run $recipe-first $recipe-direct
    train "${cuda[@]}" "${short[@]}" optim.name=$recipe run.dir=$recipe
    cp -r $recipe $recipe-resumed
    rm -r $recipe-resumed/checkpoints/step_00000008
    expect 0 'resumed' "$program" resume $recipe-resumed
    same_run $recipe $recipe-resumed
done

echo "== steps behind a bad one are held by the device: as if none were queued before the result of the last is there"
one_by_one=train.max_seconds=1d
for plant in 3:1:0:nan 3:1:0:nan,4:0:5:inf 3:1:0:nan:once; do
    for order in ahead apart; do
        rm -rf bad-$order
        THALWEG_MEASURE=0 THALWEG_PLANT=$plant train "${cuda[@]}" "${short[@]}" eval.every=0 checkpoint.every=0 \
            optim.name=amuse run.dir=bad-$order $([ $order = ahead ] || echo $one_by_one)
    done
    same_run bad-ahead bad-apart
done
THALWEG_MEASURE=0 train "${cuda[@]}" "${short[@]}" eval.every=0 checkpoint.every=0 optim.name=amuse run.dir=good
same_run good bad-ahead # the fault passed

echo "== fp32: the CPU's losses"
train "${cuda[@]}" "${short[@]}" precision=fp32 run.dir=fp32
train device=cpu "${short[@]}" precision=fp32 run.dir=cpu
paste <(losses fp32) <(losses cpu) | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-5 * $1) exit 1 }' ||
    { paste <(losses fp32) <(losses cpu); fail "fp32 on device=cuda differs from the CPU"; }

echo "== samples: the CPU's text, behind the end of the context, too; a token as a recorded program and without"
greedy() { "$program" sample fp32 --prompt 'the river' --temperature 0 --tokens 20 --ignore-eos "$@" 2>/dev/null; }
greedy device=cpu >cpu.txt
greedy device=cuda precision=fp32 >cuda.txt
THALWEG_GRAPHS=0 greedy device=cuda precision=fp32 >direct.txt
cmp cpu.txt cuda.txt || fail "greedy text on device=cuda differs from the CPU"
cmp cpu.txt direct.txt || fail "greedy text without graphs differs"

echo "== choices go with checkpoints"
[ -s bf16/checkpoints/step_00000020/tuning.json ] || fail "no tuning.json in a checkpoint"

echo "== plans and mistakes"
expect 2 'soap runs on the CPU only' "$program" train "$tiny" "${data[@]}" "${cuda[@]}" optim.name=soap
expect 0 'memory  on cuda' "$program" check "$tiny" "${data[@]}" "${cuda[@]}"
expect 2 'train.micro_batch=[0-9]+ train.recompute=[0-9] train.batch_tokens=67108864 fits' "$program" check "$tiny" \
    "${data[@]}" "${cuda[@]}" train.sequence_length=1024 train.micro_batch=65536 train.batch_tokens=67108864 \
    eval.every=0 model.width=1024 model.heads=16
expect 2 'THALWEG_GRAPHS' env THALWEG_GRAPHS=yes "$program" train "$tiny" "${data[@]}" "${cuda[@]}" run.dir=graphs

[[ $("$program" --version) == *", sim"* ]] || exit 0 # what follows is made up
export THALWEG_MEASURE=0                             # and ends with equal bits

echo "== ranges for profilers nest and end"
CUDASIM_RANGES=ranges.txt train "${cuda[@]}" "${short[@]}" sample.every=4 sample.tokens=4 run.dir=ranges
cat >expected.txt <<'END'
16 step/micro-step
2 /checkpoint copy
2 /sample
3 /evaluation
8 /step
8 step/optimizer
END
LC_ALL=C sort ranges.txt | diff - expected.txt || fail "other ranges"
CUDASIM_DEVICES=2 CUDASIM_RANGES=ranks.txt train "${cuda[@]}" "${short[@]}" --ranks 2 run.dir=ranges-ranks
grep -qE '^[0-9]+ optimizer/sum$' ranks.txt || fail "what ranks send is no range"
grep -qE '^8 /step$' ranks.txt || fail "a range of one rank does not end"

# nvml KIND COMMAND...: with a library in the place of NVML, see tests/fake_nvml.c; missing: with one that is none.
for kind in full old empty; do
    ln -s "$(dirname "$program")/tests/nvml_$kind" .
    [ -e "nvml_$kind/libnvidia-ml.so.1" ] || fail "$(readlink "nvml_$kind") is not there; make SIM=1 unit-tests"
done
mkdir nvml_missing && echo none >nvml_missing/libnvidia-ml.so.1
nvml() { LD_LIBRARY_PATH=$work/nvml_$1 "${@:2}"; }
few=(train.steps=4 eval.every=0 checkpoint.every=0 log.gpu_seconds=0.01)
many=("${few[@]}" train.steps=1000000)
# looks RUN LINES PATTERN OPTION...: the program trains until so many lines of its steps have the pattern, then a signal
# stops it. What it says is in start.log.
looks() {
    local run=$1 lines=$2 pattern=$3 there=0; shift 3
    LD_LIBRARY_PATH=$work/nvml_full "$program" "$@" >start.log 2>&1 </dev/null & started=$!
    for _ in $(seq 3000); do
        there=$(cat "$run/metrics.jsonl" 2>/dev/null | grep -cE -- "$pattern") || true
        kill -0 "$started" 2>/dev/null && [ "$there" -lt "$lines" ] || break
        sleep 0.02
    done
    [ "$there" -ge "$lines" ] || { tail "$run/metrics.jsonl" start.log >&2; fail "$there lines of $run have $pattern"; }
    kill -TERM "$started"
    ends_with 75
}
looks_at() { # RUN LINES TEXT OPTION...
    looks "$1" "$2" "${3//./\\.}" train "$tiny" "${data[@]}" "${cuda[@]}" "${many[@]}" run.dir="$1" "${@:4}"
}

echo "== the GPUs of a run, by their place on the bus, whichever a process may use"
numbers() {
    printf '"gpu_power":%s,"gpu_temperature":%s,"gpu_clock":%s,"gpu_memory":%s,"gpu_utilization":%s,' "$@"
}
export CUDASIM_DEVICES=4
for _ in 1 2 3 4 5; do # until the driver's answer at the end comes within the moment for which it is waited
    rm -rf first
    looks_at first 1 "$(numbers 100.5 31 1490 1073741824 0.1)"
    ! grep -qE '^energy  [0-9.]+ Wh of the GPUs here, [0-9.e+]+ mJ a token$' start.log || break
    again "no energy"
done
grep -q '^energy ' start.log || { cat start.log; fail "no energy"; }
CUDA_VISIBLE_DEVICES=2,0 looks_at third 1 "$(numbers 300.5 33 1470 3221225472 0.3)"
CUDA_VISIBLE_DEVICES=2,0 looks_at both 1 "$(numbers 401 33 1470 3221225472 0.2)" --ranks 2
CUDA_VISIBLE_DEVICES=3 looks_at sparing 1 '"gpu_power":400.5,"gpu_clock":1460,' # what it does not tell is left out
! grep -q gpu_temperature sparing/metrics.jsonl || fail "a temperature that was not told"
CUDA_VISIBLE_DEVICES=2 nvml full train "${cuda[@]}" "${few[@]}" run.dir=other
unset CUDASIM_DEVICES
nvml full train "${cuda[@]}" "${few[@]}" run.dir=usual
same_run usual other

echo "== the energy of a run goes on through its processes, also that of steps that are done again"
expect 75 'stopped at step 1 of' nvml full "$program" train "$tiny" "${data[@]}" "${cuda[@]}" "${many[@]}" \
    run.dir=spent train.stop_at=1
echo '{"step":2,"tokens":128,"gpu_energy":1000000}' >>spent/metrics.jsonl # behind its checkpoint
looks spent 1 '"lr":.*"gpu_energy":10[0-9]{5}(\.|,|})' resume spent train.stop_at=0

echo "== throttling is told once"
FAKE_NVML=hot looks_at hot 3 '"gpu_throttle":"thermal, power limit"'
[ "$(grep -c 'GPU 0000:01:00.0 runs at 1490 MHz and 31 C' start.log)" -eq 1 ] ||
    { cat start.log >&2; fail "not told once"; }

echo "== no library or one of no use, a driver that fails or answers no more: one message, and the run goes on"
fails() { # KIND BEHAVIOUR PATTERN
    for _ in 1 2 3 4 5; do # until the end of the run, too, waits long enough for what is told
        rm -rf "fails-$1-$2"
        FAKE_NVML=$2 nvml "$1" train "${cuda[@]}" "${few[@]}" run.dir="fails-$1-$2"
        ! grep -qE "$3" train.log || break
        again "NVML $1 $2 is not told of"
    done
    [ "$(grep -cE "$3.*log.gpu_seconds=0" train.log)" -eq 1 ] || { cat train.log; fail "NVML $1 $2: not told once"; }
    ! grep -q gpu_ "fails-$1-$2/metrics.jsonl" || fail "NVML $1 $2 gave numbers"
    same_run usual "fails-$1-$2"
}
fails missing "" 'libnvidia-ml.so.1 cannot be loaded'
fails empty "" 'has no nvmlInit_v2'
fails full fails 'Driver Not Loaded'
CUDASIM_DEVICES=9 CUDA_VISIBLE_DEVICES=8 fails full nowhere 'does not show the GPU at 0000:09:00.0'
nvml missing train "${cuda[@]}" "${few[@]}" log.gpu_seconds=0 run.dir=quiet
nvml missing train device=cpu "${few[@]}" run.dir=on-cpu
! grep -q libnvidia train.log || fail "NVML is told of on device=cpu"
FAKE_NVML=hangs nvml full train "${cuda[@]}" "${few[@]}" run.dir=hangs
same_run usual hangs

echo "== doctor tells what the driver tells"
CUDASIM_DEVICES=4 nvml full "$program" doctor >doctor.log
for line in 'GPU 0000:02:00.0, 32 C, 200 W, at most 700 W$' \
    'GPU 0000:04:00.0, 400 W, at most 700 W, counts no energy$' \
    'driver 580.00.1; a look at all GPUs takes [0-9.e-]+ ms'; do
    grep -qE "^ok +NVML +$line" doctor.log || { cat doctor.log >&2; fail "doctor does not say $line"; }
done
FAKE_NVML=hot nvml old "$program" doctor >doctor.log
grep -qE '^warn +NVML .*its clocks are held down' doctor.log || { cat doctor.log >&2; fail "doctor sees no heat"; }
nvml missing "$program" doctor >doctor.log
grep -qE '^missing +NVML .*cannot be loaded; install' doctor.log || { cat doctor.log >&2; fail "nothing is missing"; }

echo "== bench tells what logging costs, and what a look at the GPU does"
for _ in 1 2 3 4 5; do # until all looks are there within the moment for which it waits
    THALWEG_DATA=$PWD nvml full "$program" bench "$tiny" "${cuda[@]}" model.vocab=300 --json >costs.json 2>bench.log
    ! grep -qE '"gpu_look_seconds": [0-9]' costs.json || break
    again "bench has no look"
done
for key in logging_seconds logging_share_of_100ms gpu_look_seconds; do
    grep -qE "\"$key\": [0-9]" costs.json || { cat costs.json bench.log >&2; fail "bench does not tell $key"; }
done

echo "== a sweep: each run sees GPUs of its own"
export CUDASIM_DEVICES=4 OMP_NUM_THREADS=1
printf '{"base": "%s", "axes": {"run.seed": [1, 2]}, "budget": {"gpus_per_run": 2}}\n' "$tiny" >sweep.json
sweep=("${data[@]}" "${cuda[@]}" train.steps=4 eval.every=2 eval.tokens=64 --dir sweep)
expect 0 '2 finished' "$program" sweep sweep.json "${sweep[@]}"
grep -q '"slot":"gpus 0,1"' sweep/state.jsonl && grep -q '"slot":"gpus 2,3"' sweep/state.jsonl ||
    { cat sweep/state.jsonl; fail "the runs had other GPUs"; }
grep -q '2 ranks' sweep/logs/*.log || { cat sweep/logs/*.log; fail "a run is not two ranks"; }
"$program" sweep sweep.json "${sweep[@]}" train.steps=10000 --dir named --gpus 3,1,0,2 >start.log 2>&1 & started=$!
wait_for_lines named/state.jsonl 3
for process in $(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' named/state.jsonl); do
    for _ in $(seq 1000); do # until it is the program
        tr '\0' '\n' <"/proc/$process/environ" | grep '^CUDA_VISIBLE_DEVICES=' && break || sleep 0.05
    done
done >visible.log
kill -TERM "$started"
ends_with 75
diff <(sort visible.log) <(printf 'CUDA_VISIBLE_DEVICES=%s\n' 0,2 3,1) || fail "the runs see other GPUs"
