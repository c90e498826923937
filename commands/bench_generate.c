// bench --generate: what a token takes at several places of the context, beside a plain read of as many bytes in the
// same run: each weight once, and the keys and values before it. One sequence, random numbers, warm-up, medians.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/bench.h"
#include "commands/console.h"
#include "model/generate.h"
#include "runtime/integers.h"
#include "runtime/memory.h"

enum { PLACES = 4, WARMUP = 3, LEAST = 5, PROMPT = 128, READERS = 8 };

typedef struct {
    int64_t position;
    double bytes;
    double token[BENCH_REPEATS], read[BENCH_REPEATS]; // seconds
} Place;

typedef struct {
    Run *run;
    Decoder decoder;
    TokenSampler sampler;
    int32_t *ids; // a sequence as long as the context
    char *memory; // to read from
    size_t bytes; // of it
    Place places[PLACES];
    double sampling[BENCH_REPEATS], prompt[BENCH_REPEATS];
    int64_t prompt_tokens;
    int repeats;
} GenerateBench;

// ---- what is read ----

// A table that is looked up gives one row.
static double weight_bytes(const Run *run) {
    int64_t elements = 0;
    for (int64_t i = 0; i < run->gpt.params.count; i++) {
        const Param *p = &run->gpt.params.items[i];
        bool head = strcmp(p->name, run->shape.tied ? "wte" : "head_w") == 0;
        elements += (p->kind == PARAM_TABLE && !head ? 1 : p->rows) * p->columns;
    }
    return (double)elements * (double)dtype_bytes(run->compute);
}

static double cache_bytes(const Run *run, int64_t positions) {
    const GptShape *s = &run->shape;
    return 2.0 * (double)(s->layers * positions * s->kv_heads * s->head_dim) * (double)dtype_bytes(run->compute);
}

static double read_seconds(const GenerateBench *b, double bytes) {
    const Kernels *k = b->run->kernels;
    int64_t readers = k->is_host() ? 1 : READERS, count = (int64_t)(bytes / sizeof(float)) / readers; // of each
    Tensor parts[READERS];
    for (int64_t i = 0; i < readers; i++)
        parts[i] = tensor_1d((float *)b->memory + i * (count / 64 * 64), DTYPE_F32, count);
    double begin = clock_seconds();
    k->stream(parts, readers, readers, readers);
    k->finish();
    return clock_seconds() - begin;
}

// ---- measuring ----

// As in generation: forward, download, draw.
static double token_seconds(GenerateBench *b, int64_t position, double *sampling) {
    double begin = clock_seconds();
    b->decoder.begin = 0;
    b->decoder.held = position;
    decoder_follow(&b->decoder, b->ids, position + 1);
    double middle = clock_seconds();
    int32_t id = token_sampler_draw(&b->sampler, b->decoder.logits, position);
    REQUIRE(id >= 0, "random weights gave logits that are not finite");
    double end = clock_seconds();
    if (sampling) *sampling = end - middle;
    return end - begin;
}

static double prompt_seconds(GenerateBench *b) {
    double begin = clock_seconds();
    decoder_restart(&b->decoder, false);
    decoder_follow(&b->decoder, b->ids, b->prompt_tokens);
    return clock_seconds() - begin;
}

static void fill_random(GenerateBench *b) {
    const Gpt *gpt = &b->run->gpt;
    run_fill_random(gpt->kernels, gpt->weights);
    for (int64_t l = 0; l < gpt->shape.layers; l++) {
        run_fill_random(gpt->kernels, gpt->caches[l].k);
        run_fill_random(gpt->kernels, gpt->caches[l].v);
    }
    run_fill_random(gpt->kernels, tensor_1d(b->memory, DTYPE_F32, (int64_t)(b->bytes / sizeof(float))));
}

// Tokens and reads alternate, so that a slow minute of the machine slows both.
static void measure(GenerateBench *b) {
    const double patience = 15; // seconds
    for (int i = 0; i < WARMUP; i++) // chooses products, records, warms up
        for (int p = 0; p < PLACES; p++) token_seconds(b, b->places[p].position, NULL);
    prompt_seconds(b);
    double begun = clock_seconds();
    for (b->repeats = 0; b->repeats < BENCH_REPEATS; b->repeats++) {
        console_progress("measuring", b->repeats, BENCH_REPEATS);
        if (b->repeats >= LEAST && clock_seconds() - begun > patience) break;
        for (int p = 0; p < PLACES; p++) {
            Place *place = &b->places[p];
            place->token[b->repeats] = token_seconds(b, place->position, &b->sampling[b->repeats]);
            place->read[b->repeats] = read_seconds(b, place->bytes);
        }
        b->prompt[b->repeats] = prompt_seconds(b);
    }
    console_wipe();
}

static bool open_bench(GenerateBench *b, Run *run, Errors *errors) {
    int64_t positions = run->gpt.setup.cache;
    Sampling sampling = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 1};
    *b = (GenerateBench){.run = run, .prompt_tokens = positions < PROMPT ? positions : PROMPT};
    for (int p = 0; p < PLACES; p++) { // the first, the last, and between
        Place *place = &b->places[p];
        place->position = p == PLACES - 1 ? positions - 1 : positions * p / 4;
        place->bytes = weight_bytes(run) + cache_bytes(run, place->position + 1);
    }
    b->bytes = (size_t)round_up((int64_t)b->places[PLACES - 1].bytes, 1 << 12);
    b->memory = run->kernels->take_memory(b->bytes);
    b->ids = memory_take(positions, sizeof *b->ids, "ids");
    decoder_open(&b->decoder, &run->gpt);
    token_sampler_open(&b->sampler, &sampling, run->shape.vocab);
    return b->memory || errors_add(errors, EXIT_USAGE, "not enough memory for a read of %zu bytes to compare with; "
                                   "choose a smaller model or a shorter model.context", b->bytes);
}

static void close_bench(GenerateBench *b) {
    decoder_close(&b->decoder);
    token_sampler_close(&b->sampler);
    free(b->ids);
    if (b->memory) b->run->kernels->return_memory(b->memory, b->bytes);
}

// ---- the result ----

static double token_median(const GenerateBench *b, int p) { return bench_median(b->places[p].token, b->repeats); }
static double read_median(const GenerateBench *b, int p) { return bench_median(b->places[p].read, b->repeats); }

static void print_lines(const GenerateBench *b) {
    char a[TEXT_NUMBER];
    const Run *run = b->run;
    Text model = {0};
    gpt_print(&run->shape, &model);
    printf("model     %s\n", text_string(&model));
    printf("a token   one sequence, context of %ld, random %s, on %s, median of %d\n\n", run->gpt.setup.cache,
           dtype_name(run->compute), run->kernels->name, b->repeats);
    text_close(&model);
    printf("%8s %10s %10s %10s %12s %10s %9s\n", "position", "ms", "tokens/s", "bytes", "their read", "GB/s",
           "reached");
    for (int p = 0; p < PLACES; p++) {
        double token = token_median(b, p), read = read_median(b, p);
        printf("%8ld %10.3f %10.1f %10s %9.3f ms %10.1f %7.0f %%\n", b->places[p].position, 1e3 * token, 1 / token,
               text_bytes(a, b->places[p].bytes), 1e3 * read, 1e-9 * b->places[p].bytes / token, 100 * read / token);
    }
    double prompt = bench_median(b->prompt, b->repeats);
    printf("\ndrawing one of %ld ids is %.3f ms of it; a prompt of %ld tokens takes %.2f ms, %.0f tokens/s\n",
           run->shape.vocab, 1e3 * bench_median(b->sampling, b->repeats), b->prompt_tokens, 1e3 * prompt,
           (double)b->prompt_tokens / prompt);
}

static void print_json(const GenerateBench *b) {
    const Run *run = b->run;
    Text text = {0};
    JsonWriter w = {.out = &text, .indent = 2};
    json_begin(&w, NULL, '{');
    json_string(&w, "device", run->kernels->name);
    json_string(&w, "dtype", dtype_name(run->compute));
    json_integer(&w, "parameters", gpt_parameter_count(&run->shape));
    json_integer(&w, "context", run->gpt.setup.cache);
    json_begin(&w, "places", '[');
    for (int p = 0; p < PLACES; p++) {
        double token = token_median(b, p), read = read_median(b, p);
        json_begin(&w, NULL, '{');
        json_integer(&w, "position", b->places[p].position);
        json_number(&w, "token_seconds", token);
        json_number(&w, "tokens_per_second", 1 / token);
        json_number(&w, "bytes", b->places[p].bytes);
        json_number(&w, "read_seconds", read);
        json_number(&w, "read_over_token", read / token);
        json_end(&w, '}');
    }
    json_end(&w, ']');
    json_number(&w, "sampling_seconds", bench_median(b->sampling, b->repeats));
    json_integer(&w, "prompt_tokens", b->prompt_tokens);
    json_number(&w, "prompt_seconds", bench_median(b->prompt, b->repeats));
    json_end(&w, '}');
    puts(text_string(&text));
    text_close(&text);
}

// One more token, the last, through the decorator that times every operation.
static void print_operations(GenerateBench *b) {
    static Tally tallies[CHECKED_TALLIES];
    Run *run = b->run;
    const Kernels *plain = run->kernels;
    BenchLimits limits = {.bytes = bench_copy_rate(plain)};
    run->gpt.kernels = checked_kernels(plain);
    checked_take_tallies(tallies);
    token_seconds(b, b->places[PLACES - 1].position, NULL);
    run->gpt.kernels = plain;
    bench_print_operations(tallies, checked_take_tallies(tallies), &limits);
}

static bool measure_and_print(Run *run, bool json, Errors *errors) {
    static GenerateBench bench;
    bool good = open_bench(&bench, run, errors);
    if (good) {
        fill_random(&bench);
        measure(&bench);
        if (json) print_json(&bench);
        else print_lines(&bench);
        if (!json) print_operations(&bench);
    }
    close_bench(&bench);
    return good;
}

bool bench_generate(const BenchRequest *request, Errors *errors) {
    Run run = RUN_CLOSED;
    bool good = bench_configure(&run.config, request, NULL, errors);
    if (good) {
        run.config.train.micro_batch = 1;
        run.cache = INT64_MAX; // the whole context
        good = run_plan(&run, 0, errors) && run_open(&run, errors) && measure_and_print(&run, request->json, errors);
    }
    run_close(&run);
    return good;
}
