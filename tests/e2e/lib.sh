# Shared by the end-to-end tests: an empty folder of their own, a small corpus, and checks that say what went wrong.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
program=$(realpath "${TRAIN_GPT:-$root/train_gpt}")
work=$root/build/tmp/e2e-$(basename "$0" .sh)
rm -rf "$work" && mkdir -p "$work" && cd "$work"
export OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive NO_COLOR=1 # busy waiting starves a shared machine
export THALWEG_DATA=$work/cache # nothing of the user's is read, or written

fail() { echo "FAILED: $*" >&2; exit 1; }

# expect CODE PATTERN command...: the exit code, and a pattern that stdout or stderr must show.
expect() {
    local code=$1 pattern=$2 status=0; shift 2
    "$@" >out.log 2>&1 </dev/null || status=$?
    [ "$status" -eq "$code" ] || { cat out.log >&2; fail "exit $status, expected $code: $*"; }
    grep -qE -- "$pattern" out.log || { cat out.log >&2; fail "no \"$pattern\" in what was printed by: $*"; }
}

# Repeatable text: words chosen by a small recurrence.
make_text() { # lines
    awk -v lines="$1" 'BEGIN { split("the river runs deep below old stone walls and carries sand to sea", w, " "); s = 7
        for (i = 0; i < lines; i++) { line = ""
            for (j = 0; j < 9; j++) { s = (s * 1103 + 12345) % 65536; line = line (j ? " " : "") w[1 + s % 13] }
            print line "." } }'
}

make_shards() {
    make_text 2000 >text.txt
    "$program" prepare text.txt --tokenizer byte --out shards >prepare.log 2>&1 || { cat prepare.log; fail prepare; }
}

data=(data.train='shards/train_*.bin' data.val='shards/val_*.bin')
tiny=$root/configs/tiny.json

train() {
    "$program" train "$tiny" "${data[@]}" "$@" >train.log 2>&1 </dev/null || { cat train.log >&2; fail "train $*"; }
}

# The same in the background: sets `started`, its process; until a file of it has so many lines, until it heeds the
# signal of a number, or it is gone; until it ends.
started=
trap '[ -z "$started" ] || kill -KILL "$started" 2>/dev/null || true' EXIT
start() { "$program" train "$tiny" "${data[@]}" "$@" >start.log 2>&1 </dev/null & started=$!; }
wait_for_lines() { # FILE LINES
    while kill -0 "$started" 2>/dev/null && [ "$(cat "$1" 2>/dev/null | wc -l)" -lt "$2" ]; do sleep 0.02; done
}
heeds() { ((0x0$(sed -n 's/^SigCgt:[^0-9a-f]*//p' "/proc/$1/status" 2>/dev/null) >> ($2 - 1) & 1)); }
wait_to_heed() { # SIGNAL-NUMBER
    for _ in $(seq 3000); do
        kill -0 "$started" 2>/dev/null && ! heeds "$started" "$1" || return 0
        sleep 0.02
    done
    fail "signal $1 is not heeded"
}
# A test that tries something again, because a busy machine may be too slow for it, says so in its log.
again() { echo "-- again: $*"; }

ends_with() { # CODE
    local status=0
    wait "$started" || status=$?
    started=
    [ $status -eq "$1" ] || { cat start.log; fail "exit $status, expected $1"; }
}

# Rests a sweep, as Ctrl-Z does, until it and all of its runs are stopped or at their end; lets it go on.
states() { ps -o state= -p "$started" $(pgrep -P "$started" -f run.dir= | sed "s/^/-p /") | tr -d "\n"; }
until_states() { # PATTERN
    local i
    for i in $(seq 1500); do [[ ! $(states) =~ $1 ]] || return 0; sleep 0.02; done
    fail "the sweep and its runs are in states $(states), expected $1"
}
rest() { kill -TSTP "$started" && until_states '^[TZ]+$'; }
go_on() { kill -CONT "$started" && until_states '^[^T]*$'; }

# Those of this test, by words of their command line: other instances of it may be at work.
processes_of() { # WORDS
    local pid
    for pid in $(pgrep -f -- "$1"); do [ "$(readlink "/proc/$pid/cwd")" != "$work" ] || echo "$pid"; done
}

free_port() { # sets `port`: nobody listens there, nor at the one behind it
    for _ in $(seq 50); do
        port=$((10000 + (RANDOM + $$) % 20000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || (exec 3<>"/dev/tcp/127.0.0.1/$((port + 1))") 2>/dev/null ||
            return 0
    done
    fail "no port is free"
}

resume() { "$program" resume "$@" >resume.log 2>&1 || { cat resume.log; fail "resume $*"; }; }

# Everything that must be equal: the tensors of the newest checkpoint, and the metrics without their times.
checkpoint_of() {
    local path newest=
    for path in "$1"/checkpoints/step_*; do [[ ${path##*/} == *.* || ! -e $path ]] || newest=$path; done
    echo "$newest"
}
tensors_of() { (cd "$(checkpoint_of "$1")" && sha256sum ./*.safetensors); }
metrics_of() {
    sed -E 's/"(tokens_per_second|seconds|mfu|gpu_[a-z]+)":("[^"]*"|[^,}]*),?//g' "$1/metrics.jsonl"
}
same_tensors() { # a b
    local a b file
    a=$(checkpoint_of "$1") b=$(checkpoint_of "$2")
    [ -n "$a" ] && [ "${a##*/}" = "${b##*/}" ] || fail "$1 ends with ${a:-nothing}, $2 with ${b:-nothing}"
    for file in "$a"/*.safetensors; do cmp "$file" "$b/${file##*/}" || fail "$1 and $2 differ in their tensors"; done
}
same_run() { # a b
    same_tensors "$1" "$2"
    diff <(metrics_of "$1") <(metrics_of "$2") || fail "$1 and $2 differ in their metrics"
}

# in_pairs FUNCTION ARGUMENT...: for every argument, two at a time; ends the test where one fails.
in_pairs() {
    local function=$1 first pids=() pid; shift
    for first in 1 2; do
        for ((i = first; i <= $#; i += 2)); do "$function" "${!i}"; done &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || exit 1; done
}
