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
