// What generation token by token calls, against the reference: a cache of keys and values that is filled and read.
#include <math.h>
#include <stdlib.h>

#include "tests/support.h"
#include "tests/support_kernels.h"
#include "tests/test.h"

enum { TOKENS = 4096 }; // most tokens of a case

// ---- the cache ----

// ALIGNED: all heads begin at multiples of 16 bytes.
enum { ALIGNED = 1 };

// Sequence b begins at position 3 b - 1, in an order that is not that of the tokens; so some are outside.
static void store(const Sizes *s) {
    int32_t position[TOKENS];
    for (int64_t i = 0; i < s->b * s->t; i++) position[i] = (int32_t)(i / s->t * 3 - 1 + (i % s->t ^ 1));
    int64_t columns = s->heads * s->width, unit = s->variant & ALIGNED ? 8 : 1;
    Twin positions = twin_of_integers("positions", position, s->b, s->t);
    Twin out = twin("out", NORMAL, COMPUTE, s->b, s->keys, columns + 2 * unit);
    Twin in = twin("in", NORMAL, COMPUTE, s->b, s->t, 2 * columns + unit);
    out = twin_heads(out, unit, s->heads, s->width), in = twin_heads(in, columns, s->heads, s->width);
    BOTH(k, i) k->cache_store(out.on[i], in.on[i], positions.on[i]);
}

TEST(cache_store_equals_the_reference) {
    static const Sizes list[] = {
        {.b = 1, .t = 1, .keys = 1, .heads = 1, .width = 1},
        {.b = 3, .t = 1, .keys = 9, .heads = 2, .width = 7},
        {.b = 2, .t = 9, .keys = 8, .heads = 3, .width = 64},
        {.b = 4, .t = 1, .keys = 20, .heads = 12, .width = 64, .variant = ALIGNED},
        {.b = 2, .t = 33, .keys = 40, .heads = 2, .width = 128, .variant = ALIGNED},
        {.b = 2, .t = 6, .keys = 3, .heads = 2, .width = 24, .variant = ALIGNED},
    };
    COMPARE_BACKENDS(store, list, 1);
    compare_threads(store, &(Sizes){.b = 5, .t = 40, .keys = 50, .heads = 12, .width = 64});
}

// ---- attention of few queries to a cache ----

// Where the queries of the first sequence stand: at the first keys, at the last ones or beyond them, else amid them.
// DOCUMENTS: some of the first keys are not seen. BLIND: nor any at all by some queries. SHARP: scores far apart.
enum { FIRST = 2, LAST = 4, BEYOND = 8, DOCUMENTS = 16, BLIND = 32, SHARP = 64 };

static int64_t offset_of(const Sizes *s, int64_t b) {
    int64_t last = s->keys - s->t;
    int64_t offset = s->variant & FIRST ? 0 : s->variant & BEYOND ? last + 2 : s->variant & LAST ? last : last / 2;
    return b == 0 ? offset : (offset + 37 * b) % (last + 1);
}

// Keys that no query sees hold NaN.
static Twin cache_twin(const char *name, const Sizes *s) {
    int64_t unit = s->variant & ALIGNED ? 8 : 1, columns = s->kv_heads * s->width + unit;
    double *poison = test_take((size_t)(s->keys * columns) * sizeof *poison);
    Twin cache = twin(name, NORMAL, COMPUTE, s->b, s->keys, columns);
    for (int64_t i = 0; i < s->keys * columns; i++) poison[i] = NAN;
    for (int64_t b = 0; b < s->b; b++) {
        int64_t end = offset_of(s, b) + s->t;
        if (end < s->keys) twin_set_all(cache, (b * s->keys + end) * columns, poison, (s->keys - end) * columns);
    }
    free(poison);
    return twin_heads(cache, unit, s->kv_heads, s->width);
}

static void read_cache(const Sizes *s) {
    int32_t offset[TOKENS], first[TOKENS];
    for (int64_t i = 0; i < s->b * s->t; i++) {
        offset[i / s->t] = (int32_t)offset_of(s, i / s->t);
        bool blind = s->variant & BLIND && i % 3 == 1;
        first[i] = blind ? (int32_t)s->keys + 1 : (offset[i / s->t] + (int32_t)(i % s->t)) / 3;
    }
    int64_t unit = s->variant & ALIGNED ? 8 : 1, columns = s->heads * s->width;
    Twin q = twin_heads(twin("q", NORMAL, COMPUTE, s->b, s->t, columns + unit), unit, s->heads, s->width);
    Twin k = cache_twin("k", s), v = cache_twin("v", s), lse = twin("lse", POISON, WIDE, s->b, s->heads, s->t);
    Twin out = twin_heads(twin("out", POISON, COMPUTE, s->b, s->t, columns + unit), unit, s->heads, s->width);
    Twin offsets = twin_of_integers("offset", offset, s->b, 0);
    Twin firsts = s->variant & (DOCUMENTS | BLIND) ? twin_of_integers("first", first, s->b, s->t) : TWIN_NONE;
    BOTH(kernels, i) {
        AttentionHeads heads = {q.on[i], k.on[i], v.on[i]};
        AttentionMask mask = {(s->variant & SHARP ? 30 : 1) / sqrt((double)s->width), firsts.on[i], offsets.on[i]};
        kernels->attention_forward(out.on[i], lse.on[i], &heads, &mask);
    }
}

static const Sizes caches[] = {
    {.b = 1, .t = 1, .keys = 1, .heads = 1, .kv_heads = 1, .width = 1},
    {.b = 1, .t = 1, .keys = 300, .heads = 2, .kv_heads = 2, .width = 64, .variant = ALIGNED},
    {.b = 1, .t = 1, .keys = 300, .heads = 2, .kv_heads = 1, .width = 64, .variant = ALIGNED | FIRST},
    {.b = 1, .t = 1, .keys = 1300, .heads = 4, .kv_heads = 2, .width = 64, .variant = ALIGNED | LAST},
    {.b = 3, .t = 1, .keys = 517, .heads = 6, .kv_heads = 2, .width = 128, .variant = ALIGNED | DOCUMENTS},
    {.b = 1, .t = 1, .keys = 700, .heads = 4, .kv_heads = 1, .width = 128, .variant = ALIGNED | BEYOND},
    {.b = 2, .t = 1, .keys = 530, .heads = 3, .kv_heads = 3, .width = 37},
    {.b = 5, .t = 1, .keys = 90, .heads = 2, .kv_heads = 1, .width = 7, .variant = DOCUMENTS | LAST},
    {.b = 1, .t = 2, .keys = 270, .heads = 2, .kv_heads = 2, .width = 64, .variant = ALIGNED | SHARP},
    {.b = 2, .t = 3, .keys = 400, .heads = 5, .kv_heads = 1, .width = 80, .variant = ALIGNED | DOCUMENTS},
    {.b = 1, .t = 4, .keys = 600, .heads = 2, .kv_heads = 1, .width = 128, .variant = ALIGNED | LAST | BLIND},
    {.b = 2, .t = 5, .keys = 280, .heads = 2, .kv_heads = 2, .width = 200, .variant = ALIGNED | LAST},
    {.b = 1, .t = 7, .keys = 300, .heads = 4, .kv_heads = 2, .width = 33, .variant = BLIND},
    {.b = 2, .t = 8, .keys = 390, .heads = 4, .kv_heads = 2, .width = 256, .variant = ALIGNED | DOCUMENTS},
    {.b = 1, .t = 8, .keys = 260, .heads = 24, .kv_heads = 1, .width = 64, .variant = ALIGNED | BEYOND},
    {.b = 1, .t = 8, .keys = 3, .heads = 2, .kv_heads = 2, .width = 16, .variant = FIRST}, // more queries than keys
    {.b = 2, .t = 9, .keys = 300, .heads = 2, .kv_heads = 1, .width = 64, .variant = ALIGNED},
    {.b = 1, .t = 40, .keys = 330, .heads = 2, .kv_heads = 1, .width = 128, .variant = ALIGNED},
    {.b = 1, .t = 70, .keys = 330, .heads = 1, .kv_heads = 1, .width = 48, .variant = FIRST},
};

TEST(attention_to_a_cache_equals_the_reference) { COMPARE_BACKENDS(read_cache, caches, 64); }

TEST(attention_to_a_cache_is_equal_on_one_and_two_threads) { COMPARE_THREADS(read_cache, caches); }

#ifdef THALWEG_CUDA

// ---- a token as a program: recorded once, replayed wherever the sequences stand ----

enum { SEQUENCES = 2, CACHE = 200, HEADS = 4, KV_HEADS = 2, WIDTH = 64, CHANNELS = HEADS * WIDTH, BYTES = 1 << 20 };
typedef struct {
    char *memory;
    size_t used;
    Tensor in, positions, offset;         // inputs
    Tensor weight, bias, head, k, v;      // kept: parameters and the cache
    Tensor qkv, out, lse, pre, activated; // outputs
} Token;

static Tensor place(Token *token, Tensor shape) {
    shape.data = token->memory + token->used;
    token->used += (tensor_size_bytes(shape) + 255) / 256 * 256;
    assert_true(token->used <= BYTES);
    return shape;
}

static void fill(Tensor t, uint32_t seed) {
    uint16_t *host = test_take(tensor_size_bytes(t));
    for (int64_t i = 0; i < tensor_count(t); i++) {
        seed = seed * 1664525u + 1013904223u;
        host[i] = bf16_from_float((float)(seed >> 16) / 65536.0f - 0.5f);
    }
    cuda_kernels.upload(t, host);
    free(host);
}

static Token open_token(void) {
    const int64_t columns = CHANNELS + 2 * KV_HEADS * WIDTH;
    Token t = {.memory = cuda_kernels.take_memory(BYTES)};
    assert_non_null(t.memory);
    t.in = place(&t, tensor_2d(NULL, DTYPE_BF16, SEQUENCES, CHANNELS));
    t.positions = place(&t, tensor_2d(NULL, DTYPE_I32, SEQUENCES, 1));
    t.offset = place(&t, tensor_1d(NULL, DTYPE_I32, SEQUENCES));
    t.weight = place(&t, tensor_2d(NULL, DTYPE_BF16, columns, CHANNELS));
    t.bias = place(&t, tensor_1d(NULL, DTYPE_BF16, columns));
    t.head = place(&t, tensor_2d(NULL, DTYPE_BF16, 90, CHANNELS));
    t.k = place(&t, tensor_4d(NULL, DTYPE_BF16, SEQUENCES, CACHE, KV_HEADS, WIDTH));
    t.v = place(&t, t.k);
    t.qkv = place(&t, tensor_3d(NULL, DTYPE_BF16, SEQUENCES, 1, columns));
    t.out = place(&t, tensor_4d(NULL, DTYPE_BF16, SEQUENCES, 1, HEADS, WIDTH));
    t.lse = place(&t, tensor_3d(NULL, DTYPE_F32, SEQUENCES, HEADS, 1));
    t.pre = place(&t, tensor_2d(NULL, DTYPE_BF16, SEQUENCES, 90));
    t.activated = place(&t, t.pre);
    fill(t.weight, 1), fill(t.bias, 2), fill(t.head, 3);
    return t;
}

static Tensor heads_at(const Token *t, int64_t begin, int64_t heads) {
    return tensor_split_last(tensor_slice(t->qkv, 2, begin, heads * WIDTH), heads, WIDTH);
}

static void queue_token(void *context) {
    const Token *t = context;
    const Kernels *k = &cuda_kernels;
    const Linear qkv = {.weight = t->weight, .bias = t->bias};
    const Linear head = {.weight = t->head, .activation = ACTIVATION_GELU};
    const AttentionHeads heads = {heads_at(t, 0, HEADS), t->k, t->v};
    k->linear_forward(t->qkv, TENSOR_NONE, t->in, &qkv);
    k->cache_store(t->k, heads_at(t, CHANNELS, KV_HEADS), t->positions);
    k->cache_store(t->v, heads_at(t, CHANNELS + KV_HEADS * WIDTH, KV_HEADS), t->positions);
    k->attention_forward(t->out, t->lse, &heads, &(AttentionMask){.scale = 0.125, .offset = t->offset});
    k->linear_forward(t->activated, t->pre, tensor_reshape(t->out, SEQUENCES, CHANNELS, 0, 0), &head);
}

TEST(a_token_as_a_program_is_the_token_as_calls) {
    static const int32_t places[] = {0, 1, 2, 63, 64, 130, 199, 5};
    Errors errors = {0};
    assert_true(cuda_kernels.open(0, 0, &errors));
    Token tokens[2] = {open_token(), open_token()}; // as calls, and as a program
    for (uint32_t step = 0; step < sizeof places / sizeof places[0]; step++) {
        uint16_t results[2][SEQUENCES * 90];
        const int32_t at[SEQUENCES] = {places[step], (places[step] + 7) % CACHE};
        for (int i = 0; i < 2; i++) {
            fill(tokens[i].in, 100 + step);
            cuda_kernels.upload(tokens[i].positions, at);
            cuda_kernels.upload(tokens[i].offset, at);
        }
        queue_token(&tokens[0]);
        kernels_run(&cuda_kernels, 1, queue_token, &tokens[1]);
        for (int i = 0; i < 2; i++) cuda_kernels.download(results[i], tokens[i].activated);
        assert_memory_equal(results[0], results[1], sizeof results[0]);
    }
    assert_true(cuda_kernels.replay(1));
    for (int i = 0; i < 2; i++) cuda_kernels.return_memory(tokens[i].memory, BYTES);
}

#endif
