// Rotation and attention against the reference, on heads as the network sees them: q, k and v inside one buffer.
#include <math.h>

#include "tests/reference/reference.h"
#include "tests/support_kernels.h"
#include "tests/test.h"

enum { TOKENS = 4096 }; // most tokens of a case

// Ends of documents: first positions of each, in a sequence of `length`. The last ones are one token long.
static int32_t document_begin(int64_t position, int64_t length) {
    const int64_t begins[] = {length - 1, length - 2, length / 2 + 1, length / 3, 0};
    for (size_t i = 0; i < sizeof begins / sizeof begins[0]; i++)
        if (begins[i] >= 0 && position >= begins[i]) return (int32_t)begins[i];
    return 0;
}

// ---- rotation ----

// APART: outputs are not inputs. ALIGNED: heads begin at multiples of 16 bytes.
enum { GAIN = 1, THETA = 2, APART = 4, ALIGNED = 8 };

static void rotary(const Sizes *s) {
    int64_t columns = s->heads * s->width, gained = s->variant & GAIN;
    int32_t position[TOKENS];
    for (int64_t i = 0; i < s->b * s->t; i++)
        position[i] = (int32_t)(i % s->t - document_begin(i % s->t, s->t)) + (i % 3 == 0) * 1000;
    Twin positions = twin_of_integers("positions", position, s->b, s->t);
    int64_t unit = s->variant & ALIGNED ? 8 : 1;
    Twin qkv = twin("qkv", NORMAL, COMPUTE, s->b, s->t, columns + 6 * unit);
    Twin qk = twin("qk", POISON, COMPUTE, s->b, s->t, columns + 2 * unit);
    Twin dqk = twin("dqk", NORMAL, COMPUTE, s->b, s->t, columns + 4 * unit);
    Twin dqkv = twin("dqkv", POISON, COMPUTE, s->b, s->t, columns + 3 * unit);
    Twin rstd = gained ? twin("rstd", POISON, WIDE, s->b, s->t, s->heads) : TWIN_NONE;
    Twin gain = gained ? twin("gain", NORMAL, COMPUTE, s->width, 0, 0) : TWIN_NONE;
    Twin dgain = gained ? twin("dgain", TEN, WIDE, s->width, 0, 0) : TWIN_NONE;
    Twin in = twin_heads(qkv, 4 * unit, s->heads, s->width), dout = twin_heads(dqk, 2 * unit, s->heads, s->width);
    Twin out = gained || s->variant & APART ? twin_heads(qk, unit, s->heads, s->width) : in;
    Twin din = s->variant & APART ? twin_heads(dqkv, 3 * unit, s->heads, s->width) : dout;
    BOTH(k, i) {
        Rotary turn = {.gain = gain.on[i], .epsilon = 1e-6, .theta = s->variant & THETA ? 10000 : 0,
                       .positions = positions.on[i]};
        k->rotary_forward(out.on[i], rstd.on[i], in.on[i], &turn);
        k->rotary_backward(din.on[i], dgain.on[i], dout.on[i], gained ? in.on[i] : TENSOR_NONE, rstd.on[i], &turn);
    }
}

TEST(rotation_equals_the_reference) {
    for (int variant = 0; variant < 8; variant++) {
        const Sizes list[] = {{.b = 1, .t = 1, .heads = 1, .width = 2, .variant = variant},
                              {.b = 2, .t = 7, .heads = 3, .width = 6, .variant = variant},
                              {.b = 3, .t = 43, .heads = 5, .width = 64, .variant = variant},
                              {.b = 1, .t = 129, .heads = 2, .width = 128, .variant = variant},
                              {.b = 2, .t = 9, .heads = 2, .width = 250, .variant = variant},
                              {.b = 3, .t = 43, .heads = 5, .width = 64, .variant = variant | ALIGNED},
                              {.b = 1, .t = 37, .heads = 6, .width = 96, .variant = variant | ALIGNED},
                              {.b = 1, .t = 9, .heads = 3, .width = 256, .variant = variant | ALIGNED}};
        COMPARE_BACKENDS(rotary, list, 16);
        const Sizes odd = {.b = 2, .t = 9, .heads = 3, .width = 7, .variant = variant};
        if (!(variant & THETA)) compare_backends(rotary, &odd, 16);
    }
}

// ---- attention ----

// SHARP: scores so far apart that most weights vanish. BLIND: some queries, and all of the second 64, see no key.
// BEYOND: the last queries stand after the last key. PACKED: all rows begin at multiples of 16 bytes.
enum { DOCUMENTS = 1, OFFSET = 2, SHARP = 4, BLIND = 8, BEYOND = 16, PACKED = 32 };

typedef struct {
    Twin q, k, v;
} HeadTwins;

// Of one buffer where queries and keys are the same tokens, else of two.
static HeadTwins head_twins(const char *name, Fill fill, const Sizes *s) {
    int64_t q = s->heads * s->width, k = s->kv_heads * s->width;
    if (s->keys == s->t) {
        Twin qkv = twin(name, fill, COMPUTE, s->b, s->t, q + 2 * k);
        return (HeadTwins){twin_heads(qkv, 0, s->heads, s->width), twin_heads(qkv, q, s->kv_heads, s->width),
                           twin_heads(qkv, q + k, s->kv_heads, s->width)};
    }
    Twin queries = twin(name, fill, COMPUTE, s->b, s->t, q + (s->variant & PACKED ? 8 : 1));
    Twin kv = twin(name, fill, COMPUTE, s->b, s->keys, 2 * k);
    return (HeadTwins){twin_heads(queries, 0, s->heads, s->width), twin_heads(kv, 0, s->kv_heads, s->width),
                       twin_heads(kv, k, s->kv_heads, s->width)};
}

static AttentionHeads heads_on(HeadTwins t, int side) {
    return (AttentionHeads){t.q.on[side], t.k.on[side], t.v.on[side]};
}

typedef struct {
    Twin first_visible, offset;
} MaskTwins;

// Sequences begin their queries at different keys.
static MaskTwins mask_twins(const Sizes *s) {
    int32_t first[TOKENS], offset[TOKENS];
    for (int64_t b = 0; b < s->b; b++) {
        int64_t room = s->keys - s->t;
        offset[b] = s->variant & OFFSET && room > 0 ? (int32_t)(room - b % (room + 1)) : 0;
        if (s->variant & BEYOND) offset[b] += 3;
        for (int64_t i = 0; i < s->t; i++) {
            bool blind = s->variant & BLIND && (i % 5 == 2 || i / 64 == 1);
            first[b * s->t + i] = blind ? (int32_t)(s->keys + i % 2) : document_begin(offset[b] + i, s->keys - b % 2);
        }
    }
    return (MaskTwins){
        s->variant & (DOCUMENTS | BLIND) ? twin_of_integers("first_visible", first, s->b, s->t) : TWIN_NONE,
        s->variant & OFFSET ? twin_of_integers("offset", offset, s->b, 0) : TWIN_NONE,
    };
}

static void attention(const Sizes *s) {
    HeadTwins heads = head_twins("qkv", NORMAL, s), dheads = head_twins("dqkv", POISON, s);
    MaskTwins mask = mask_twins(s);
    int64_t before = s->variant & PACKED ? 8 : 1;
    Twin out = twin("out", POISON, COMPUTE, s->b, s->t, s->heads * s->width + 2 * before);
    Twin dout = twin("dout", NORMAL, COMPUTE, s->b, s->t, s->heads * s->width);
    Twin lse = twin("lse", POISON, WIDE, s->b, s->heads, s->t);
    out = twin_heads(out, before, s->heads, s->width);
    dout = twin_heads(dout, 0, s->heads, s->width);
    BOTH(k, i) {
        AttentionHeads in = heads_on(heads, i), din = heads_on(dheads, i);
        AttentionMask with = {.scale = (s->variant & SHARP ? 40 : 1) / sqrt((double)s->width),
                              .first_visible = mask.first_visible.on[i], .offset = mask.offset.on[i]};
        k->attention_forward(out.on[i], lse.on[i], &in, &with);
        k->attention_backward(&din, dout.on[i], out.on[i], lse.on[i], &in, &with);
    }
}

TEST(attention_equals_the_reference) {
    static const Sizes list[] = {
        {.b = 1, .t = 1, .keys = 1, .heads = 1, .kv_heads = 1, .width = 2},
        {.b = 2, .t = 7, .keys = 7, .heads = 2, .kv_heads = 2, .width = 6},
        {.b = 2, .t = 7, .keys = 7, .heads = 3, .kv_heads = 1, .width = 6, .variant = DOCUMENTS},
        {.b = 1, .t = 129, .keys = 129, .heads = 2, .kv_heads = 1, .width = 64},
        {.b = 2, .t = 65, .keys = 65, .heads = 2, .kv_heads = 2, .width = 128, .variant = DOCUMENTS},
        {.b = 1, .t = 293, .keys = 293, .heads = 3, .kv_heads = 1, .width = 32, .variant = DOCUMENTS},
        {.b = 1, .t = 331, .keys = 331, .heads = 2, .kv_heads = 2, .width = 18},
    };
    COMPARE_BACKENDS(attention, list, 32);
}

TEST(attention_of_wide_heads) {
    static const Sizes list[] = {
        {.b = 1, .t = 37, .keys = 37, .heads = 1, .kv_heads = 1, .width = 100},
        {.b = 1, .t = 70, .keys = 70, .heads = 2, .kv_heads = 1, .width = 128, .variant = DOCUMENTS},
        {.b = 1, .t = 35, .keys = 35, .heads = 2, .kv_heads = 1, .width = 200, .variant = DOCUMENTS},
        {.b = 1, .t = 18, .keys = 40, .heads = 1, .kv_heads = 1, .width = 256, .variant = OFFSET | PACKED},
    };
    COMPARE_BACKENDS(attention, list, 32);
}

// Rows that tensor cores can take. Weights and gradients of scores are operands there, in bf16: their roundings, which
// the judge does not make, may add 2^-10 of the largest number.
static void compare_packed(const Sizes *sizes) { compare_backends_by_dtype(attention, sizes, 64, 0x1p14); }

TEST(attention_of_packed_rows) {
    static const Sizes list[] = {
        {.b = 1, .t = 1, .keys = 1, .heads = 1, .kv_heads = 1, .width = 64, .variant = PACKED},
        {.b = 1, .t = 63, .keys = 63, .heads = 2, .kv_heads = 1, .width = 64, .variant = PACKED},
        {.b = 1, .t = 64, .keys = 64, .heads = 1, .kv_heads = 1, .width = 128, .variant = PACKED},
        {.b = 1, .t = 65, .keys = 65, .heads = 4, .kv_heads = 2, .width = 128, .variant = PACKED | DOCUMENTS},
        {.b = 1, .t = 127, .keys = 127, .heads = 1, .kv_heads = 1, .width = 128, .variant = PACKED},
        {.b = 2, .t = 128, .keys = 128, .heads = 3, .kv_heads = 1, .width = 64, .variant = PACKED | DOCUMENTS},
        {.b = 1, .t = 129, .keys = 129, .heads = 2, .kv_heads = 2, .width = 64, .variant = PACKED},
        {.b = 1, .t = 200, .keys = 200, .heads = 2, .kv_heads = 1, .width = 128, .variant = PACKED},
        {.b = 1, .t = 330, .keys = 330, .heads = 1, .kv_heads = 1, .width = 64, .variant = PACKED},
        {.b = 1, .t = 70, .keys = 70, .heads = 4, .kv_heads = 2, .width = 16, .variant = PACKED | DOCUMENTS},
        {.b = 1, .t = 70, .keys = 70, .heads = 1, .kv_heads = 1, .width = 80, .variant = PACKED},
        {.b = 1, .t = 33, .keys = 33, .heads = 2, .kv_heads = 2, .width = 112, .variant = PACKED},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) compare_packed(&list[i]);
}

TEST(attention_of_packed_rows_with_masks) {
    static const Sizes list[] = {
        {.b = 3, .t = 1, .keys = 150, .heads = 2, .kv_heads = 1, .width = 64, .variant = PACKED | OFFSET},
        {.b = 2, .t = 5, .keys = 300, .heads = 2, .kv_heads = 1, .width = 128,
         .variant = PACKED | OFFSET | DOCUMENTS},
        {.b = 2, .t = 140, .keys = 331, .heads = 2, .kv_heads = 1, .width = 64,
         .variant = PACKED | OFFSET | DOCUMENTS},
        {.b = 1, .t = 90, .keys = 20, .heads = 1, .kv_heads = 1, .width = 64, .variant = PACKED},
        {.b = 1, .t = 20, .keys = 150, .heads = 1, .kv_heads = 1, .width = 128, .variant = PACKED},
        {.b = 2, .t = 140, .keys = 140, .heads = 2, .kv_heads = 1, .width = 64, .variant = PACKED | BLIND},
        {.b = 1, .t = 130, .keys = 300, .heads = 2, .kv_heads = 2, .width = 128, .variant = PACKED | BLIND | OFFSET},
        {.b = 2, .t = 70, .keys = 270, .heads = 1, .kv_heads = 1, .width = 64, .variant = PACKED | OFFSET | BEYOND},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) compare_packed(&list[i]);
}

TEST(attention_of_later_queries) {
    static const Sizes list[] = {
        {.b = 3, .t = 1, .keys = 9, .heads = 2, .kv_heads = 1, .width = 8, .variant = OFFSET},
        {.b = 2, .t = 5, .keys = 70, .heads = 2, .kv_heads = 2, .width = 64, .variant = OFFSET},
        {.b = 3, .t = 5, .keys = 300, .heads = 6, .kv_heads = 2, .width = 16, .variant = OFFSET | DOCUMENTS},
        {.b = 1, .t = 66, .keys = 323, .heads = 1, .kv_heads = 1, .width = 32, .variant = OFFSET | DOCUMENTS},
        {.b = 1, .t = 5, .keys = 9, .heads = 1, .kv_heads = 1, .width = 4}, // some keys are seen by nobody
    };
    COMPARE_BACKENDS(attention, list, 32);
}

TEST(attention_of_queries_that_see_nothing) {
    static const Sizes list[] = {
        {.b = 1, .t = 3, .keys = 3, .heads = 1, .kv_heads = 1, .width = 4, .variant = BLIND},
        {.b = 2, .t = 140, .keys = 140, .heads = 2, .kv_heads = 1, .width = 16, .variant = BLIND},
        {.b = 2, .t = 130, .keys = 300, .heads = 2, .kv_heads = 2, .width = 16, .variant = BLIND | OFFSET},
        {.b = 2, .t = 70, .keys = 270, .heads = 2, .kv_heads = 2, .width = 16, .variant = OFFSET | BEYOND},
        {.b = 1, .t = 9, .keys = 5, .heads = 2, .kv_heads = 2, .width = 8}, // more queries than keys
    };
    COMPARE_BACKENDS(attention, list, 32);
}

static void see_before_the_first_key(const void *kernels) {
    float numbers[4] = {0};
    Tensor head = tensor_4d(numbers, DTYPE_F32, 1, 1, 1, 4);
    AttentionHeads heads = {head, head, head};
    AttentionMask mask = {.scale = 1, .first_visible = tensor_2d((int32_t[]){-1}, DTYPE_I32, 1, 1)};
    ((const Kernels *)kernels)->attention_forward(head, tensor_3d(numbers, DTYPE_F32, 1, 1, 1), &heads, &mask);
}

TEST(attention_refuses_keys_before_the_first) {
    const Kernels *const list[] = {&cpu_kernels, &reference_kernels};
    char printed[1024];
    Errors errors = {0};
    for (int i = 0; i < 2; i++) {
        assert_true(list[i]->open(1, 0, &errors));
        assert_int_equal(test_status_of(see_before_the_first_key, list[i], printed, sizeof printed), EXIT_INTERNAL);
        assert_non_null(strstr(printed, "key -1"));
    }
}

// One number of q, k or v that is not finite. Every query of the tile that begins at key `in` sees that key, and no
// query before it does.
enum { IN_Q, IN_K, IN_V };
static const double not_finite[] = {NAN, INFINITY, -INFINITY};

static void attention_of_not_finite(const Sizes *s) {
    HeadTwins heads = head_twins("qkv", NORMAL, s);
    Twin out = twin("out", POISON, COMPUTE, s->b, s->t, s->heads * s->width);
    Twin lse = twin("lse", POISON, WIDE, s->b, s->heads, s->t);
    int64_t columns = (s->heads + 2 * s->kv_heads) * s->width;
    const int64_t column[] = {[IN_Q] = 0, [IN_K] = s->heads * s->width, [IN_V] = (s->heads + s->kv_heads) * s->width};
    twin_set(heads.q, s->in * columns + column[s->out], not_finite[s->variant]);
    Twin parts = twin_heads(out, 0, s->heads, s->width);
    BOTH(k, i) {
        AttentionHeads in = heads_on(heads, i);
        k->attention_forward(parts.on[i], lse.on[i], &in, &(AttentionMask){.scale = 1 / sqrt((double)s->width)});
        for (int64_t row = 0; row < s->t && s->variant == 0; row++) {
            bool sees = s->out == IN_Q ? row == s->in : row >= s->in;
            assert_int_equal(isnan(twin_get(out, i, row * s->heads * s->width)), sees);
        }
    }
}

TEST(attention_hides_nothing_that_is_not_finite) {
    static const int64_t places[][2] = {{7, 0}, {331, 128}, {450, 320}}; // queries, and the one
    for (int variant = 0; variant < (int)(sizeof not_finite / sizeof not_finite[0]); variant++)
        for (int where = IN_Q; where <= IN_V; where++) {
            for (int i = 0; i < 3; i++) {
                Sizes s = {.b = 1, .t = places[i][0], .keys = places[i][0], .in = places[i][1], .out = where,
                           .heads = 2, .kv_heads = 1, .width = 8, .variant = variant};
                compare_backends(attention_of_not_finite, &s, 32);
            }
        }
}

// Roundings of scores near 100 are roundings of weights 100 times as large; scores themselves are never in bf16.
TEST(attention_with_scores_far_apart) {
    static const Sizes list[] = {
        {.b = 1, .t = 70, .keys = 70, .heads = 2, .kv_heads = 1, .width = 16, .variant = SHARP},
        {.b = 1, .t = 300, .keys = 300, .heads = 1, .kv_heads = 1, .width = 16, .variant = SHARP | DOCUMENTS},
    };
    for (size_t i = 0; i < 2; i++) compare_backends_by_dtype(attention, &list[i], 200, 4);
    static const Sizes packed = {.b = 1, .t = 150, .keys = 150, .heads = 2, .kv_heads = 1, .width = 64,
                                 .variant = SHARP | PACKED | DOCUMENTS};
    compare_backends_by_dtype(attention, &packed, 200, 0x1p14);
}

TEST(heads_are_equal_on_one_and_two_threads) {
    static const Sizes list[] = {
        {.b = 3, .t = 171, .keys = 171, .heads = 4, .kv_heads = 2, .width = 64, .variant = DOCUMENTS},
        {.b = 1, .t = 515, .keys = 515, .heads = 3, .kv_heads = 1, .width = 32},
        {.b = 2, .t = 64, .keys = 400, .heads = 3, .kv_heads = 3, .width = 32, .variant = OFFSET | DOCUMENTS},
    };
    COMPARE_THREADS(attention, list);
    for (int variant = 0; variant < 8; variant++)
        compare_threads(rotary, &(Sizes){.b = 3, .t = 171, .heads = 5, .width = 64, .variant = variant});
}
