// The memory that a run takes, and what to do where there is not enough; how fast the device multiplies.
#include <math.h>

#include "commands/run.h"
#include "runtime/integers.h"
#include "runtime/philox.h"

// ---- the plan ----

enum { ARENAS = 6 };

// Everything that takes memory, the backend itself last: an arena without memory of its own.
static void list_arenas(const Run *run, const Arena *list[ARENAS], Arena *backend) {
    *backend = (Arena){.name = "backend", .used = run->kernels->workspace_bytes()};
    static const Arena none = {0};
    const Arena *copies = run->kernels->is_host() ? &run->copies : &none; // else they are not on the device
    const Arena *all[ARENAS] = {&run->gpt.weight_arena, &run->gpt.grad_arena, &run->optim.arena, &run->gpt.act_arena,
                                copies, backend};
    for (int i = 0; i < ARENAS; i++) list[i] = all[i];
}

size_t run_planned_bytes(const Run *run) {
    const Arena *list[ARENAS];
    Arena backend;
    list_arenas(run, list, &backend);
    return arena_total(list, ARENAS);
}

size_t run_memory_bytes(const Run *run) {
    int64_t ranks = run->launch.local_size, devices = run->kernels->device_count();
    return run->kernels->memory_bytes() / (size_t)(ranks > devices ? divide_up(ranks, devices) : 1);
}

static void report_arenas(const Run *run, Text *out) {
    const Arena *list[ARENAS];
    Arena backend;
    list_arenas(run, list, &backend);
    arena_report(out, list, ARENAS);
}

void run_report_memory(const Run *run, Text *out) {
    char number[TEXT_NUMBER];
    size_t there = run_memory_bytes(run);
    text_printf(out, "memory  on %s, which has %s%s\n", run->kernels->name, text_bytes(number, (double)there),
                run->comm.size > 1 ? " for each rank" : "");
    report_arenas(run, out);
    if (!run->kernels->is_host() && run->copies.used > 0)
        text_printf(out, "        and %s of the host's for checkpoints on their way\n",
                    text_bytes(number, (double)run->copies.used));
}

// ---- what would fit ----

// The whole plan with another micro-batch and another level of recomputation.
static size_t bytes_with(const Run *run, int64_t micro_batch, int recompute) {
    Gpt other;
    GptSetup setup = run->gpt.setup;
    setup.batch = micro_batch;
    setup.recompute = recompute;
    gpt_plan(&other, run->kernels, &run->shape, &setup);
    const Arena *now = &run->gpt.act_arena, *then = &other.act_arena;
    size_t bytes = run_planned_bytes(run) - arena_total(&now, 1) + arena_total(&then, 1);
    gpt_close(&other);
    return bytes;
}

// For each level the largest micro-batch that fits, as far as it is more than the level before allowed. A step stays
// what it is: more micro-batches make it up.
static void propose(const Run *run, double there, Text *out) {
    enum { LEVELS = 3 };
    int64_t best = 0;
    char number[TEXT_NUMBER];
    for (int level = run->gpt.setup.recompute; level < LEVELS; level++) {
        int64_t batch = run->gpt.setup.batch;
        while (batch > best && (double)bytes_with(run, batch, level) > there) batch /= 2;
        if (batch <= best) continue;
        best = batch;
        text_printf(out, "  train.micro_batch=%ld train.recompute=%d train.batch_tokens=%ld fits: %s\n", batch, level,
                    run_step_tokens(run), text_bytes(number, (double)bytes_with(run, batch, level)));
    }
    text_add(out, best ? "the steps stay the same" : "no micro-batch fits; choose a smaller model: model.depth, "
                                                     "model.width or the vocabulary");
}

int64_t run_fitting_micro_batch(const Run *run, int64_t most) {
    const double share = 0.95; // of the memory
    size_t there = run_memory_bytes(run);
    int64_t batch = most > 1 ? most : 1;
    while (batch > 1 && there > 0 && (double)bytes_with(run, batch, run->gpt.setup.recompute) > share * (double)there)
        batch /= 2;
    return batch;
}

bool run_check_memory(const Run *run, Errors *errors) {
    size_t planned = run_planned_bytes(run), there = run_memory_bytes(run);
    double share = run->kernels->is_host() ? 1 : 0.98; // a driver takes a little more than it says
    if (there == 0 || (double)planned <= share * (double)there) return true;
    char a[TEXT_NUMBER], b[TEXT_NUMBER];
    Text text = {0};
    report_arenas(run, &text);
    if (run->parts & RUN_TRAINING) propose(run, share * (double)there, &text);
    else text_add(&text, "lower train.micro_batch or train.sequence_length, or choose a smaller model");
    errors_add(errors, EXIT_USAGE, "not enough memory: this needs %s, and %s has %s\n%s",
               text_bytes(a, (double)planned), run->kernels->name, text_bytes(b, (double)there), text_string(&text));
    text_close(&text);
    return false;
}

// ---- the rate of products ----

// The same prime number of them over and over, so that no row of a matrix is like another.
void run_fill_random(const Kernels *k, Tensor out) {
    enum { PIECE = 65521 };
    static float piece[PIECE];
    static char converted[PIECE * sizeof(double)];
    int64_t count = tensor_count(out);
    philox_normal(piece, PIECE, 1e-3, 1, STREAM_BENCH, 3, 0);
    dtype_convert(converted, out.dtype, piece, DTYPE_F32, PIECE);
    Tensor flat = tensor_reshape(out, count, 0, 0, 0);
    for (int64_t i = 0; i < count; i += PIECE)
        k->upload(tensor_slice(flat, 0, i, count - i < PIECE ? count - i : PIECE), converted);
}

double run_gemm_rate(const Kernels *kernels, DType dtype) {
    enum { SMALL = 1024, LARGE = 8192, REPEATS = 12 };
    const double patience = 0.02; // seconds, enough for all of them on a device
    int64_t side = kernels->peak_flops(dtype) > 0 ? LARGE : SMALL;
    size_t bytes = (size_t)(side * side) * dtype_bytes(dtype);
    char *memory = kernels->take_memory(3 * bytes);
    if (!memory) return NAN;
    Tensor out = tensor_2d(memory, dtype, side, side), in = tensor_2d(memory + bytes, dtype, side, side);
    Tensor weight = tensor_2d(memory + 2 * bytes, dtype, side, side);
    run_fill_random(kernels, in);
    run_fill_random(kernels, weight);
    double best = INFINITY, spent = 0;
    for (int i = 0; i <= 1 || (i <= REPEATS && spent < patience); i++) {
        double begin = clock_seconds();
        kernels->linear_forward(out, TENSOR_NONE, in, &(Linear){.weight = weight});
        kernels->finish();
        double seconds = clock_seconds() - begin;
        if (i == 0) continue; // it warms up
        spent += seconds;
        if (seconds < best) best = seconds;
    }
    kernels->return_memory(memory, 3 * bytes);
    return 2.0 * (double)side * (double)side * (double)side / best;
}
