// bench: how long a training step takes, beside what its own matrix products take when the vendor library is called
// bare with the same shapes in the same run; and its optimizer's part of it. Random data, warm-up, medians.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "commands/arguments.h"
#include "commands/bench.h"
#include "commands/command.h"
#include "commands/console.h"
#include "commands/estimate.h"
#include "commands/telemetry.h"
#include "runtime/file.h"
#include "runtime/memory.h"
#include "runtime/philox.h"

enum { REPEATS = 7, SHAPES = 16, WARMUP = 3 };

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(const double *values, int count) {
    double sorted[BENCH_REPEATS];
    memcpy(sorted, values, (size_t)count * sizeof *values);
    qsort(sorted, (size_t)count, sizeof *sorted, ascending);
    return sorted[count / 2];
}

// ---- random input ----

static Batch random_batch(const Run *run, char *memory) {
    int64_t b = run->gpt.setup.batch, t = run->gpt.setup.length, n = b * t;
    int32_t *tokens = (int32_t *)memory, *targets = tokens + n, *positions = targets + n;
    int32_t *token_order = positions + n, *position_order = token_order + n;
    float *weights = (float *)(position_order + n);
    for (int64_t i = 0; i < n; i++) {
        uint64_t vocab = (uint64_t)run->shape.vocab;
        tokens[i] = (int32_t)(philox_u64(1, STREAM_BENCH, 1, (uint64_t)i) % vocab);
        targets[i] = (int32_t)(philox_u64(1, STREAM_BENCH, 2, (uint64_t)i) % vocab);
        positions[i] = (int32_t)(i % t);
        weights[i] = 1;
    }
    int64_t bound = run->shape.vocab > t ? run->shape.vocab : t;
    int32_t *counts = memory_take(bound + 1, sizeof *counts, "counts of tokens");
    batch_sort(token_order, tokens, n, run->shape.vocab, counts);
    batch_sort(position_order, positions, n, t, counts);
    free(counts);
    return (Batch){.tokens = tensor_2d(tokens, DTYPE_I32, b, t),
                   .targets = tensor_2d(targets, DTYPE_I32, b, t),
                   .positions = tensor_2d(positions, DTYPE_I32, b, t),
                   .weights = tensor_2d(weights, DTYPE_F32, b, t),
                   .token_order = tensor_1d(token_order, DTYPE_I32, n),
                   .position_order = tensor_1d(position_order, DTYPE_I32, n)};
}

// ---- the step ----

static double step_seconds(Run *run, const Batch *batch, int64_t t) {
    double begin = clock_seconds();
    StepScalars scalars;
    run_begin_step(run, &scalars, t);
    for (int64_t micro = 0; micro < run->micro_steps; micro++) run_micro_step(run, batch, micro);
    run_end_step(run);
    run_wait_step(run);
    return clock_seconds() - begin;
}

// ---- its matrix products, bare ----

typedef struct {
    const char *name;
    int64_t rows, in, out;
    int64_t calls; // per micro-batch
    double seconds[REPEATS]; // of all calls, forward and both backward products
} Layer;

static int list_layers(const Run *run, Layer *layers) {
    const GptShape *s = &run->shape;
    int64_t n = run->gpt.setup.batch * run->gpt.setup.length, chunk = run->gpt.logits.shape[0];
    int64_t heads = s->heads * s->head_dim, qkv = heads + 2 * s->kv_heads * s->head_dim;
    Layer list[] = {
        {"qkv", n, s->width, qkv, s->layers, {0}},
        {"attention out", n, heads, s->width, s->layers, {0}},
        {"mlp in", n, s->width, activation_inputs(s->activation) * s->ffn_width, s->layers, {0}},
        {"mlp out", n, s->ffn_width, s->width, s->layers, {0}},
        {"head", chunk, s->width, s->rows, n / chunk, {0}},
        {"head, last rows", n % chunk, s->width, s->rows, 1, {0}},
    };
    int count = 0;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (list[i].rows > 0 && list[i].calls > 0) layers[count++] = list[i];
    return count;
}

static double layer_flops(const Layer *l) { return 6.0 * (double)(l->rows * l->in * l->out * l->calls); }

// Where a layer's tensors lie while its products are measured.
static size_t aligned(int64_t elements, DType dtype) {
    return ((size_t)elements * dtype_bytes(dtype) + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
}

static size_t layer_bytes(const Run *run, const Layer *l) {
    DType compute = run->compute;
    return aligned(l->rows * l->in, compute) + aligned(l->rows * l->out, compute) + aligned(l->in * l->out, compute) +
           aligned(l->in * l->out, run->wide);
}

// One layer's three products, once; `memory` holds input, output, weight and its gradient.
static double layer_seconds(const Run *run, const Layer *l, char *memory) {
    const Kernels *k = run->kernels;
    DType compute = run->compute;
    Tensor in = tensor_2d(memory, compute, l->rows, l->in);
    Tensor out = tensor_2d(memory += aligned(l->rows * l->in, compute), compute, l->rows, l->out);
    Tensor weight = tensor_2d(memory += aligned(l->rows * l->out, compute), compute, l->out, l->in);
    Tensor dweight = tensor_2d(memory + aligned(l->in * l->out, compute), run->wide, l->out, l->in);
    double begin = clock_seconds();
    k->library_product(out, in, weight, PRODUCT_FORWARD);
    k->library_product(in, out, weight, PRODUCT_BACKWARD_INPUT);
    k->library_product(dweight, out, in, PRODUCT_BACKWARD_WEIGHT);
    k->finish();
    return clock_seconds() - begin;
}

// ---- the result ----

typedef struct {
    double step[REPEATS];
    Layer layers[SHAPES];
    int layer_count;
    double peak_bytes;
    BenchLimits limits;
    Tally tallies[CHECKED_TALLIES];
    int tally_count;
    OptimizerBench optimizer;
    LoggingBench logging;
} Result;

static double gemm_seconds(const Run *run, const Result *r) {
    double total = 0;
    for (int i = 0; i < r->layer_count; i++)
        total += bench_median(r->layers[i].seconds, REPEATS) * (double)(r->layers[i].calls * run->micro_steps);
    return total;
}

static size_t products_bytes(const Run *run, const Result *r) {
    size_t most = 0;
    for (int i = 0; i < r->layer_count; i++)
        if (layer_bytes(run, &r->layers[i]) > most) most = layer_bytes(run, &r->layers[i]);
    return most;
}

// Products and steps alternate, so that a slow minute of the machine slows both.
static void measure_in_turns(Run *run, Result *r, const Batch *batch, char *products) {
    for (int i = 0; i < r->layer_count; i++) layer_seconds(run, &r->layers[i], products);
    for (int repeat = 0; repeat < REPEATS; repeat++) {
        console_progress("measuring", repeat, REPEATS);
        r->step[repeat] = step_seconds(run, batch, repeat + WARMUP + 1);
        for (int i = 0; i < r->layer_count; i++)
            r->layers[i].seconds[repeat] = layer_seconds(run, &r->layers[i], products);
        optimizer_bench_repeat(&r->optimizer);
    }
    console_note("measured %d times", REPEATS);
}

// One more step, through the decorator that times every operation.
static void measure_operations(Run *run, Result *r, const Batch *batch) {
    const Kernels *plain = run->kernels;
    run->kernels = run->gpt.kernels = run->optim.kernels = checked_kernels(plain);
    checked_take_tallies(r->tallies); // of what was called before
    step_seconds(run, batch, REPEATS + WARMUP + 1);
    run->kernels = run->gpt.kernels = run->optim.kernels = plain;
    r->tally_count = checked_take_tallies(r->tallies);
}

static bool measure(Run *run, Result *r, const Batch *batch, Errors *errors) {
    run->telemetry = telemetry_begin(run);
    gpt_fill(&run->gpt, run->gpt.grads, 1);
    optim_begin(&run->optim, run->gpt.grads);
    for (int t = 1; t <= WARMUP; t++) step_seconds(run, batch, t); // chooses products, records, warms up
    r->peak_bytes = (double)run->kernels->used_bytes(); // before the products take memory of their own
    r->layer_count = list_layers(run, r->layers);
    size_t bytes = products_bytes(run, r);
    char *products = run->kernels->take_memory(bytes);
    if (!products)
        return errors_add(errors, EXIT_USAGE, "not enough memory for the bare products; lower train.micro_batch");
    run_fill_random(run->kernels, tensor_1d(products, run->compute, (int64_t)(bytes / dtype_bytes(run->compute))));
    bool good = optimizer_bench_open(&r->optimizer, run, errors);
    if (good) measure_in_turns(run, r, batch, products);
    run->kernels->return_memory(products, bytes);
    if (!good) return false;
    r->limits = (BenchLimits){run_gemm_rate(run->kernels, run->compute), bench_copy_rate(run->kernels)};
    measure_operations(run, r, batch);
    bench_logging(run, bench_median(r->step, REPEATS), r->limits.flops, &r->logging);
    return true;
}

// Model FLOPs utilisation: against what the maker says, where that is known, and against a large product of this run.
typedef struct {
    double peak, of_peak, of_product;
} Utilisation;

static Utilisation utilisation(const Run *run, const Result *r, double flops) {
    double peak = run->peak;
    return (Utilisation){peak, peak > 0 ? flops / peak : 0, flops / r->limits.flops};
}

static BenchTimes times_of(const Run *run, const Result *r) {
    double optimizer = optimizer_bench_seconds(&r->optimizer);
    return (BenchTimes){(bench_median(r->step, REPEATS) - optimizer) / (double)run->micro_steps, optimizer};
}

static void print_lines(const Run *run, const Result *r) {
    char a[TEXT_NUMBER], b[TEXT_NUMBER];
    Text model = {0};
    gpt_print(&run->shape, &model);
    printf("model            %s\n", text_string(&model));
    const Gpt *gpt = &run->gpt;
    printf("a step           %ld tokens, %ld micro-batch%s of %ld x %ld, random, on %s\n", run_step_tokens(run),
           run->micro_steps, run->micro_steps == 1 ? "" : "es", gpt->setup.batch, gpt->setup.length,
           run->kernels->name);
    text_close(&model);
    double step = bench_median(r->step, REPEATS), gemms = gemm_seconds(run, r);
    double tokens = (double)run_step_tokens(run) / step;
    double flops = tokens * gpt_flops_per_token(&run->shape, run->gpt.setup.length);
    printf("time             %.2f ms (median of %d), %s tokens/s, %.1f GFLOP/s\n", 1e3 * step, REPEATS,
           text_count(a, tokens), flops * 1e-9);
    Utilisation share = utilisation(run, r, flops);
    if (share.peak > 0)
        printf("MFU              %.1f %% of the %.1f TFLOP/s of dense %s (6 N + 12 L T C FLOP a token)\n",
               100 * share.of_peak, share.peak * 1e-12, dtype_name(run->compute));
    printf("%-16s %.1f %% of the %.3f TFLOP/s of a large product in this run\n", share.peak > 0 ? "" : "MFU",
           100 * share.of_product, r->limits.flops * 1e-12);
    printf("its bare GEMMs   %.2f ms (the library's first choice, same shapes, same run)\n", 1e3 * gemms);
    printf("step / GEMMs     %.3f\n", step / gemms);
    printf("peak memory      %s, planned %s\n", text_bytes(a, r->peak_bytes),
           text_bytes(b, (double)run_planned_bytes(run)));
    BenchTimes times = times_of(run, r);
    printf("a micro-batch    %.2f ms\n", 1e3 * times.micro_batch);
    printf("the optimizer    %.2f ms, %.1f %% of the step\n", 1e3 * times.optimizer, 100 * times.optimizer / step);
    bench_print_logging(&r->logging, step);
    putchar('\n');
    optimizer_bench_print_head();
    optimizer_bench_print(&r->optimizer);
    printf("\n%-18s %6s %6s %6s %6s %12s\n", "bare products", "rows", "in", "out", "calls", "GFLOP/s");
    for (int i = 0; i < r->layer_count; i++) {
        const Layer *l = &r->layers[i];
        double rate = layer_flops(l) / ((double)l->calls * bench_median(l->seconds, REPEATS));
        printf("%-18s %6ld %6ld %6ld %6ld %12.1f\n", l->name, l->rows, l->in, l->out, 3 * l->calls, rate * 1e-9);
    }
}

static void print_json(const Run *run, const Result *r) {
    double step = bench_median(r->step, REPEATS), gemms = gemm_seconds(run, r);
    double tokens = (double)run_step_tokens(run) / step;
    Text text = {0};
    JsonWriter w = {.out = &text, .indent = 2};
    json_begin(&w, NULL, '{');
    json_string(&w, "device", run->kernels->name);
    json_integer(&w, "parameters", gpt_parameter_count(&run->shape));
    json_integer(&w, "tokens_per_step", run_step_tokens(run));
    json_number(&w, "step_seconds", step);
    json_number(&w, "gemm_seconds", gemms);
    json_number(&w, "step_over_gemms", step / gemms);
    json_number(&w, "tokens_per_second", tokens);
    double flops = tokens * gpt_flops_per_token(&run->shape, run->gpt.setup.length);
    Utilisation share = utilisation(run, r, flops);
    json_number(&w, "flops_per_second", flops);
    if (share.peak > 0) json_number(&w, "mfu", share.of_peak);
    json_number(&w, "share_of_large_product", share.of_product);
    BenchTimes times = times_of(run, r);
    json_number(&w, "micro_batch_seconds", times.micro_batch);
    bench_operations_json(r->tallies, r->tally_count, &r->limits, &w);
    json_number(&w, "peak_bytes", r->peak_bytes);
    json_integer(&w, "planned_bytes", (int64_t)run_planned_bytes(run));
    json_begin(&w, "optimizers", '[');
    optimizer_bench_json(&r->optimizer, step, &w);
    json_end(&w, ']');
    bench_logging_json(&r->logging, step, &w);
    bench_ranks_json(run, &times, &w);
    json_end(&w, '}');
    puts(text_string(&text));
    text_close(&text);
}

// For later estimates; that this fails is told, and no failure.
static void remember(const Run *run, const Result *r) {
    BenchTimes times = times_of(run, r);
    Measurement m;
    Errors errors = {0};
    char path[4096];
    estimate_describe(run, &m);
    m.step_seconds = bench_median(r->step, REPEATS);
    m.micro_batch_seconds = fmax(times.micro_batch, 1e-9);
    m.optimizer_seconds = times.optimizer;
    m.product_flops = r->limits.flops;
    m.copy_bytes = r->limits.bytes;
    m.time = (int64_t)time(NULL);
    measurements_path(path);
    if (measurements_add(&m, &errors)) console_note("kept in %s: `check` and `train` tell times by it", path);
    console_errors(&errors);
}

static bool measure_and_print(Run *run, bool json, Errors *errors) {
    static Result result;
    int64_t n = run->gpt.setup.batch * run->gpt.setup.length;
    char *memory = memory_take(n, 6 * sizeof(int32_t), "a batch of tokens");
    Batch batch = random_batch(run, memory);
    bool good = measure(run, &result, &batch, errors);
    if (good && json) print_json(run, &result);
    if (good && !json) print_lines(run, &result);
    if (good && !json) bench_print_operations(result.tallies, result.tally_count, &result.limits);
    if (good) remember(run, &result);
    BenchTimes times = good ? times_of(run, &result) : (BenchTimes){0};
    if (good && !json) bench_print_ranks(run, &times);
    if (result.optimizer.run) optimizer_bench_close(&result.optimizer);
    free(memory);
    return good;
}

static void use_defaults(Config *config, bool named) {
    named = named || config_given(config, "model.preset") || config_given(config, "model.width");
    if (!named) config->model.preset = "gpt2-124m";
    if (config->train.steps == OPTION_AUTO && config->train.tokens == OPTION_AUTO) config->train.steps = 1000;
}

bool bench_configure(Config *config, const BenchRequest *request, const char *recipe, Errors *errors) {
    TextList overrides = {0};
    Text name = {0};
    for (int i = 0; i < request->count; i++) text_list_add(&overrides, request->overrides[i]);
    if (recipe) text_printf(&name, "optim.name=%s", recipe);
    if (recipe) text_list_add(&overrides, text_string(&name));
    bool good = config_load(config, request->file, overrides.items, (int)overrides.count, errors);
    if (good) use_defaults(config, request->file != NULL);
    text_list_close(&overrides);
    text_close(&name);
    return good;
}

// The tokenizer beside the training shards, if there are some, so that the vocabulary is that of a training run.
static bool find_tokenizer(Run *run, Errors *errors) {
    const DataOptions *data = &run->config.data;
    TextList shards = {0};
    char directory[4096], path[4096] = "";
    if (!*data->tokenizer && data->train.count > 0) path_glob(&shards, data->train.items[0]);
    if (shards.count > 0) path_directory(directory, shards.items[0]);
    if (shards.count > 0) path_join(path, directory, "tokenizer.json");
    text_list_close(&shards);
    if (*path && path_exists(path)) run->tokenizer = tokenizer_open(path, errors);
    return errors->count == 0;
}

static bool bench_steps(const BenchRequest *request, Errors *errors) {
    Run run = RUN_CLOSED;
    bool good = bench_configure(&run.config, request, NULL, errors) && find_tokenizer(&run, errors) &&
                run_plan(&run, RUN_TRAINING, errors) &&
                run_open(&run, errors) && measure_and_print(&run, request->json, errors);
    run_close(&run);
    return good;
}

int command_bench(int argc, char **argv) {
    static const char usage[] =
        "bench [CONFIG.json] [key=value ...] [--optimizer] [--recipes all|NAME,...] [--generate] [--json]";
    BenchRequest request = {0};
    bool optimizer = false, generate = false;
    const Argument arguments[] = {{"--json", .flag = &request.json}, {"--optimizer", .flag = &optimizer},
                                  {"--recipes", .text = &request.recipes}, {"--generate", .flag = &generate}, {0}};
    argc = arguments_take(argc, argv, arguments, 0, usage);
    if (argc == 0) return EXIT_USAGE;
    int first = argc > 1 && !strchr(argv[1], '=') ? 2 : 1; // of the overrides
    request.file = first == 2 ? argv[1] : NULL;
    request.overrides = argv + first;
    request.count = argc - first;
    Errors errors = {0};
    if (generate && (optimizer || request.recipes))
        errors_add(&errors, EXIT_USAGE, "--generate: there is no optimizer in it; leave --optimizer and --recipes out");
    else if (generate) bench_generate(&request, &errors);
    else if (optimizer || request.recipes) bench_recipes(&request, &errors);
    else bench_steps(&request, &errors);
    errors_exit_if_any(&errors);
    return 0;
}
