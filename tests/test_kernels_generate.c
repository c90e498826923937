// What generation token by token calls, against the reference: a cache of keys and values that is filled and read.
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
#ifndef THALWEG_CUDA
    compare_threads(store, &(Sizes){.b = 5, .t = 40, .keys = 50, .heads = 12, .width = 64});
#endif
}
