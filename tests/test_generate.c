// Generation: what the network says over the keys and values that are kept is what it says of the whole sequence.
#include <math.h>

#include "kernels/checked.h"
#include "model/generate.h"
#include "runtime/philox.h"
#include "tests/reference/reference.h"
#include "tests/support_model.h"
#include "tests/test.h"

enum { LENGTH = 24, VOCAB = 21 };

// Every kind of norm, position, activation and head sharing that the network knows, tied and untied.
static const GptShape shapes[] = {
    {.layers = 2, .width = 16, .heads = 2, .kv_heads = 2, .head_dim = 8, .ffn_width = 20, .vocab = VOCAB, .rows = 24,
     .context = LENGTH, .norm = NORM_LAYER, .position = POSITION_LEARNED, .activation = ACTIVATION_GELU, .bias = true,
     .tied = true, .norm_epsilon = 1e-5},
    {.layers = 2, .width = 24, .heads = 4, .kv_heads = 2, .head_dim = 6, .ffn_width = 20, .vocab = VOCAB, .rows = 24,
     .context = LENGTH, .norm = NORM_RMS, .position = POSITION_ROPE, .activation = ACTIVATION_SWIGLU,
     .norm_epsilon = 1e-6, .rope_theta = 100},
    {.layers = 2, .width = 16, .heads = 4, .kv_heads = 1, .head_dim = 10, .ffn_width = 12, .vocab = VOCAB, .rows = 21,
     .context = LENGTH, .norm = NORM_RMS, .position = POSITION_ROPE, .activation = ACTIVATION_SWIGLU, .qk_norm = true,
     .tied = true, .norm_epsilon = 1e-6, .rope_theta = 10000},
    {.layers = 1, .width = 16, .heads = 2, .kv_heads = 2, .head_dim = 8, .ffn_width = 24, .vocab = VOCAB, .rows = 24,
     .context = LENGTH, .norm = NORM_RMS, .position = POSITION_ROPE, .activation = ACTIVATION_RELU2, .bias = true,
     .norm_epsilon = 1e-5, .rope_theta = 10000},
    {.layers = 1, .width = 16, .heads = 2, .kv_heads = 1, .head_dim = 8, .ffn_width = 8, .vocab = VOCAB, .rows = 24,
     .context = LENGTH, .norm = NORM_LAYER, .position = POSITION_LEARNED, .activation = ACTIVATION_GELU,
     .qk_norm = true, .norm_epsilon = 1e-5},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

// `tolerance`: of a logit, beside the largest; the network runs on other kernels for one token than for many.
typedef struct {
    const Kernels *kernels;
    DType compute;
    double tolerance;
} Backend;
static const Backend backends[] = {
#ifdef THALWEG_CUDA
    {&cuda_kernels, DTYPE_F32, 1e-5}, {&cuda_kernels, DTYPE_BF16, 3e-2},
#else
    {&reference_kernels, DTYPE_F64, 1e-12}, {&cpu_kernels, DTYPE_F32, 1e-5},
#endif
};
enum { BACKENDS = sizeof backends / sizeof backends[0] };

// Of a device's own kernels the calls are recorded, on the host they are checked.
static void open_network(Gpt *gpt, const Backend *backend, const GptShape *shape, int64_t cache) {
    const Kernels *k = backend->kernels == &cpu_kernels || backend->kernels == &reference_kernels
                           ? checked_kernels(backend->kernels) : backend->kernels;
    GptSetup setup = {.compute = backend->compute, .wide = backend->compute == DTYPE_F64 ? DTYPE_F64 : DTYPE_F32,
                      .batch = 1, .length = LENGTH, .cache = cache};
    Errors errors = {0};
    checked_want_finite(false);
    if (!k->open(2, 0, &errors)) fail_msg("%s", text_string(&errors.text));
    gpt_plan(gpt, k, shape, &setup);
    if (!gpt_open(gpt, &errors)) fail_msg("%s", text_string(&errors.text));
    network_fill(gpt, 5);
}

static void close_network(Gpt *gpt) {
    const Kernels *k = gpt->kernels;
    gpt_close(gpt);
    k->close();
}

static void fill_ids(int32_t *ids, int64_t count, uint64_t seed) {
    for (int64_t i = 0; i < count; i++) ids[i] = (int32_t)(philox_u64(seed, STREAM_TEST, 9, (uint64_t)i) % VOCAB);
}

// What the whole forward says behind ids[0 .. length), without the cache.
static double *whole_logits(Gpt *gpt, const int32_t *ids, int64_t length) {
    int32_t positions[LENGTH];
    for (int32_t i = 0; i < LENGTH; i++) positions[i] = i;
    gpt_load_batch(gpt, &(Batch){.tokens = tensor_2d((void *)ids, DTYPE_I32, 1, length),
                                 .positions = tensor_2d(positions, DTYPE_I32, 1, length)});
    gpt_forward_last(gpt);
    return tensor_download(gpt->kernels, gpt_last_logits(gpt));
}

// Holds what the decoder has found against the whole forward of the tokens that it is to see.
static void check_logits(const Decoder *d, const Backend *backend, const int32_t *ids, int64_t length,
                         const char *what) {
    double *got = tensor_download(d->gpt->kernels, gpt_last_logits(d->gpt)), largest = 0;
    double *expected = whole_logits(d->gpt, ids, length);
    for (int i = 0; i < VOCAB; i++) largest = fmax(largest, fabs(expected[i]));
    for (int i = 0; i < VOCAB; i++) {
        if ((float)got[i] != d->logits[i]) fail_msg("%s: logit %d on the host is %g, not %g", what, i,
                                                    (double)d->logits[i], got[i]);
        if (!(fabs(got[i] - expected[i]) <= backend->tolerance * largest))
            fail_msg("%s: %s %s, %ld tokens: logit %d is %.17g, not %.17g", what, backend->kernels->name,
                     dtype_name(backend->compute), (long)length, i, got[i], expected[i]);
    }
    free(got);
    free(expected);
}

TEST(logits_are_those_of_the_whole_forward) {
    static const int64_t passes[] = {1, 3, 7, LENGTH}, prompts[] = {1, 2, 9, 22};
    for (int b = 0; b < BACKENDS; b++)
        for (int s = 0; s < SHAPES; s++) {
            Gpt gpt;
            Decoder decoder;
            int32_t ids[LENGTH];
            fill_ids(ids, LENGTH, (uint64_t)s);
            open_network(&gpt, &backends[b], &shapes[s], LENGTH);
            decoder_open(&decoder, &gpt);
            for (int i = 0; i < 4; i++) { // prompts cut at several sizes, then single tokens
                decoder_restart(&decoder, false);
                for (int64_t length = prompts[i]; length <= LENGTH && length <= prompts[i] + 5; length++) {
                    gpt.setup.length = passes[(i + s) % 4]; // as if it were smaller
                    decoder_follow(&decoder, ids, length);
                    gpt.setup.length = LENGTH;
                    check_logits(&decoder, &backends[b], ids, length, "a cache");
                }
            }
            decoder_close(&decoder);
            close_network(&gpt);
        }
}

// The first token that is seen of a sequence that grows from `prompt` to `length` tokens with room for S.
static int64_t first_seen(int64_t prompt, int64_t length, int64_t positions) {
    int64_t begin = prompt > positions ? prompt - positions : 0;
    for (int64_t now = prompt + 1; now <= length; now++)
        if (now - begin > positions) begin = now - (positions / 2 + 1);
    return begin;
}

TEST(a_full_cache_forgets_the_older_half) {
    enum { TOKENS = 60 };
    static const int64_t caches[] = {1, 2, 5, 16}, prompts[] = {1, 5, 6, 40};
    for (int b = 0; b < BACKENDS; b++)
        for (int i = 0; i < 4; i++) {
            int s = (i + b) % SHAPES;
            Gpt gpt;
            Decoder decoder;
            int32_t ids[TOKENS];
            fill_ids(ids, TOKENS, 8);
            open_network(&gpt, &backends[b], &shapes[s], caches[i]);
            decoder_open(&decoder, &gpt);
            for (int64_t length = prompts[i]; length <= prompts[i] + 19; length++) {
                int64_t begin = first_seen(prompts[i], length, caches[i]);
                decoder_follow(&decoder, ids, length);
                assert_int_equal(decoder.begin, begin);
                assert_true(length - begin <= caches[i] && (begin == 0 || length - begin > caches[i] / 2));
                check_logits(&decoder, &backends[b], ids + begin, length - begin, "a full cache");
            }
            decoder_close(&decoder);
            close_network(&gpt);
        }
}

TEST(the_cache_is_in_the_plan) {
    Gpt with, without;
    GptSetup setup = {.compute = DTYPE_F32, .wide = DTYPE_F32, .batch = 1, .length = LENGTH};
    gpt_plan(&without, &cpu_kernels, &shapes[1], &setup);
    setup.cache = 32; // 2 blocks, keys and values, 32 positions, 2 heads of 6 numbers: 3072 bytes each
    gpt_plan(&with, &cpu_kernels, &shapes[1], &setup);
    assert_int_equal(with.act_arena.used - without.act_arena.used, 2 * 2 * 32 * 2 * 6 * 4 + ARENA_ALIGNMENT);
    const Arena *arena = &with.act_arena;
    Text report = {0};
    arena_report(&report, &arena, 1);
    assert_non_null(strstr(text_string(&report), "key-value cache"));
    text_close(&report);
    gpt_close(&with);
    gpt_close(&without);
}

// ---- generation ----

typedef struct {
    int32_t ids[64];
    int seen, most;
} Seen;

static bool see(int32_t id, void *context) {
    Seen *seen = context;
    seen->ids[seen->seen++] = id;
    return seen->seen < seen->most;
}

static const Sampling plain = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 5};

TEST(generation_is_drawn_from_the_logits_of_each_prefix) {
    enum { PROMPT = 4, COUNT = 15 };
    const Backend *backend = &backends[BACKENDS - 1];
    Gpt gpt;
    Decoder decoder, other;
    TokenSampler sampler;
    int32_t ids[LENGTH];
    int64_t length;
    Seen seen = {.most = 64};
    Sampling sampling = {.temperature = 0.9, .top_k = 12, .top_p = 0.95, .repetition_penalty = 1.2, .seed = 4,
                         .prompt = 3};
    open_network(&gpt, backend, &shapes[2], LENGTH);
    decoder_open(&decoder, &gpt);
    decoder_open(&other, &gpt);
    fill_ids(ids, PROMPT, 2);
    Generation g = {.ids = ids, .length = PROMPT, .count = COUNT, .end = -1, .sampling = sampling, .emit = see,
                    .context = &seen};
    assert_int_equal(gpt_generate(&decoder, &g, &length), FINISH_LENGTH);
    assert_int_equal(length, PROMPT + COUNT);
    assert_int_equal(seen.seen, COUNT);
    assert_memory_equal(seen.ids, ids + PROMPT, COUNT * sizeof *ids);
    token_sampler_open(&sampler, &sampling, VOCAB);
    token_sampler_see(&sampler, ids, PROMPT);
    for (int64_t i = 0; i < COUNT; i++) {
        decoder_follow(&other, ids, PROMPT + i);
        assert_int_equal(token_sampler_draw(&sampler, other.logits, i), ids[PROMPT + i]);
        token_sampler_see(&sampler, &ids[PROMPT + i], 1);
    }
    token_sampler_close(&sampler);
    decoder_close(&decoder);
    decoder_close(&other);
    close_network(&gpt);
}

TEST(generation_ends_where_it_is_to) {
    enum { COUNT = 30 };
    Gpt gpt;
    Decoder decoder;
    int32_t all[LENGTH + COUNT], ids[LENGTH + COUNT];
    int64_t length, place = 1;
    Seen seen = {.most = 3};
    open_network(&gpt, &backends[BACKENDS - 1], &shapes[0], LENGTH);
    decoder_open(&decoder, &gpt);
    fill_ids(all, LENGTH, 2);
    Generation g = {.ids = all, .length = 2, .count = COUNT, .end = -1, .sampling = plain}; // longer than the cache
    assert_int_equal(gpt_generate(&decoder, &g, &length), FINISH_LENGTH);
    assert_int_equal(length, 2 + COUNT);
    for (int i = 0; i < 2 + COUNT; i++) assert_in_range(all[i], 0, VOCAB - 1);
    g.ids = memcpy(ids, all, sizeof ids);
    g.emit = see, g.context = &seen;
    assert_int_equal(gpt_generate(&decoder, &g, &length), FINISH_EMIT);
    assert_int_equal(length, 5);
    assert_memory_equal(ids, all, sizeof ids);
    g.end = all[6]; // the fifth, or where it comes first
    while (all[1 + place] != g.end) place++;
    seen = (Seen){.most = 64};
    assert_int_equal(gpt_generate(&decoder, &g, &length), FINISH_END);
    assert_int_equal(length, 2 + place);
    assert_int_equal(seen.seen, place - 1); // not seen
    g.count = 0;
    assert_int_equal(gpt_generate(&decoder, &g, &length), FINISH_LENGTH);
    assert_int_equal(length, 2);
    decoder_close(&decoder);
    close_network(&gpt);
}

static void set_weight(Gpt *gpt, Tensor weight, int64_t index, double value) {
    double *values = tensor_download(gpt->kernels, weight);
    values[index] = value;
    tensor_upload(gpt->kernels, weight, values);
    free(values);
}

static void check_finite(const Gpt *gpt, Tensor tensor) {
    double *values = tensor_download(gpt->kernels, tensor);
    for (int64_t i = 0; i < tensor_count(tensor); i++) assert_true(isfinite(values[i]));
    free(values);
}

// And nothing of it stays for later texts.
TEST(generation_ends_at_logits_that_are_not_finite) {
    static const double bad[] = {NAN, INFINITY};
    Gpt gpt;
    Decoder decoder;
    int32_t ids[LENGTH], good[LENGTH];
    int64_t length;
    open_network(&gpt, &backends[BACKENDS - 1], &shapes[3], LENGTH);
    decoder_open(&decoder, &gpt);
    fill_ids(good, LENGTH, 3);
    Generation g = {.ids = good, .length = 12, .count = 4, .end = -1, .sampling = plain};
    gpt_generate(&decoder, &g, &length);
    for (int i = 0; i < 2; i++) {
        Tensor gain = gpt_tensors(&gpt, gpt.weights, 0).norm1_w;
        Seen seen = {.most = 64};
        fill_ids(ids, LENGTH, 3);
        g.ids = ids, g.length = 20, g.emit = see, g.context = &seen;
        set_weight(&gpt, gain, 3, bad[i]);
        assert_int_equal(gpt_generate(&decoder, &g, &length), FINISH_NOT_FINITE);
        assert_int_equal(length, 20);
        assert_int_equal(seen.seen, 0);
        check_finite(&gpt, gpt.caches[0].k);
        check_finite(&gpt, gpt.caches[0].v);
        network_fill(&gpt, 5);
        g.length = 12;
        assert_int_equal(gpt_generate(&decoder, &g, &length), FINISH_LENGTH);
        assert_memory_equal(ids, good, 16 * sizeof *ids);
    }
    decoder_close(&decoder);
    close_network(&gpt);
}
