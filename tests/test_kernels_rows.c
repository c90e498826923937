// Embeddings, norms, copies and fills against the reference.
#include <math.h>

#include "tests/support_kernels.h"
#include "tests/test.h"

enum { ROWS = 8192 }; // most rows of a case

// ---- embeddings ----

// `in` ids below `out`: variant 1 uses both tables.
static void embedding(const Sizes *s) {
    int64_t rows = s->b * s->t;
    int32_t ids[ROWS], positions[ROWS];
    for (int64_t i = 0; i < rows; i++) {
        ids[i] = (int32_t)(i * i * 7 % s->out); // squares: some often, some never
        positions[i] = (int32_t)(i % s->t);
    }
    Twin table = twin("table", NORMAL, COMPUTE, s->out, s->in, 0);
    Twin position_table = s->variant ? twin("position_table", NORMAL, COMPUTE, s->t + 3, s->in, 0) : TWIN_NONE;
    Twin id = twin_of_integers("ids", ids, rows, 0), order = twin_of_order("order", ids, rows);
    Twin position = s->variant ? twin_of_integers("positions", positions, rows, 0) : TWIN_NONE;
    Twin out = twin("out", POISON, COMPUTE, rows, s->in, 0), dout = twin("dout", NORMAL, COMPUTE, rows, s->in, 0);
    Twin dtable = twin("dtable", TEN, WIDE, s->out, s->in, 0);
    BOTH(k, i) {
        k->embedding_forward(out.on[i], table.on[i], id.on[i], position_table.on[i], position.on[i]);
        k->embedding_backward(dtable.on[i], dout.on[i], id.on[i], order.on[i]);
    }
}

TEST(embeddings_equal_the_reference) {
    static const Sizes list[] = {
        {.b = 1, .t = 1, .in = 1, .out = 1},
        {.b = 1, .t = 7, .in = 5, .out = 3, .variant = 1},
        {.b = 3, .t = 43, .in = 67, .out = 515},
        {.b = 5, .t = 103, .in = 130, .out = 11, .variant = 1},
        {.b = 2, .t = 41, .in = 96, .out = 7, .variant = 1}, // of whole packs
        {.b = 1, .t = 50, .in = 1096, .out = 4},
    };
    COMPARE_BACKENDS(embedding, list, 16);
    const Sizes one_id = {.b = 1, .t = 8100, .in = 8, .out = 1}; // a sum of as many terms
    compare_backends_by_dtype(embedding, &one_id, 256, 16);
}

// ---- norms ----

enum { RMS = 1, BIAS = 2, BRANCH = 4, IN_PLACE = 8, BY_SEQUENCE = 16 };

static Norm norm_on(const Sizes *s, Twin gain, Twin bias, int side) {
    return (Norm){.kind = s->variant & RMS ? NORM_RMS : NORM_LAYER, .epsilon = 1e-5, .gain = gain.on[side],
                  .bias = bias.on[side]};
}

static void norm(const Sizes *s) {
    int64_t rows = s->b * s->t;
    Twin residual = twin("residual", NORMAL, COMPUTE, rows, s->in, 0);
    Twin branch = s->variant & BRANCH ? twin("branch", NORMAL, COMPUTE, rows, s->in, 0) : TWIN_NONE;
    Twin sum = s->variant & BRANCH ? twin("sum", POISON, COMPUTE, rows, s->in, 0) : TWIN_NONE;
    if (s->variant & IN_PLACE) sum = residual;
    Twin out = twin("out", POISON, COMPUTE, rows, s->in, 0), stats = twin("stats", POISON, WIDE, rows, 2, 0);
    Twin gain = twin("gain", NORMAL, COMPUTE, s->in, 0, 0);
    Twin bias = s->variant & BIAS ? twin("bias", NORMAL, COMPUTE, s->in, 0, 0) : TWIN_NONE;
    Twin dsum = twin("dsum", TEN, COMPUTE, rows, s->in, 0), dout = twin("dout", NORMAL, COMPUTE, rows, s->in, 0);
    Twin dgain = twin("dgain", TEN, WIDE, s->in, 0, 0);
    Twin dbias = s->variant & BIAS ? twin("dbias", TEN, WIDE, s->in, 0, 0) : TWIN_NONE;
    Twin columns = s->variant & BIAS ? twin("columns", TEN, WIDE, s->in, 0, 0) : TWIN_NONE;
    Twin each = s->variant & BY_SEQUENCE ? twin("sequence_gain", POISON, WIDE, s->b, s->in, 0) : TWIN_NONE;
    BOTH(k, i) {
        Norm with = norm_on(s, gain, bias, i);
        NormGrads grads = {dgain.on[i], dbias.on[i], each.on[i], columns.on[i]};
        k->norm_forward(out.on[i], sum.on[i], stats.on[i], residual.on[i], branch.on[i], &with);
        Tensor in = tensor_present(branch.on[i]) ? sum.on[i] : residual.on[i];
        k->norm_backward_add(dsum.on[i], &grads, dout.on[i], in, stats.on[i], &with);
    }
}

TEST(norms_equal_the_reference) {
    static const int variants[] = {0, RMS, BIAS, BRANCH, RMS | BRANCH | IN_PLACE, BIAS | BRANCH | BY_SEQUENCE,
                                   RMS | BY_SEQUENCE};
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        const Sizes list[] = {{.b = 1, .t = 7, .in = 6, .variant = variants[i]},
                              {.b = 3, .t = 43, .in = 67, .variant = variants[i]},
                              {.b = 5, .t = 103, .in = 130, .variant = variants[i]},
                              {.b = 2, .t = 2, .in = 1031, .variant = variants[i]},
                              {.b = 3, .t = 5, .in = 264, .variant = variants[i]}, // of whole packs from here on
                              {.b = 1, .t = 3, .in = 640, .variant = variants[i]},
                              {.b = 1, .t = 5, .in = 776, .variant = variants[i]}};
        COMPARE_BACKENDS(norm, list, 24);
    }
    static const Sizes wide[] = {{.b = 1, .t = 3, .in = 4104, .variant = BRANCH},
                                 {.b = 1, .t = 2, .in = 8200, .variant = BIAS},
                                 {.b = 1, .t = 5280, .in = 264, .variant = BIAS}}; // chunks of several rows
    COMPARE_BACKENDS(norm, wide, 24);
}

// What is computed again without the branch, from the sum that was kept, is the same.
static void norm_again(const Sizes *s) {
    int64_t rows = s->t, count = rows * s->in;
    Twin residual = twin("residual", NORMAL, COMPUTE, rows, s->in, 0);
    Twin branch = twin("branch", NORMAL, COMPUTE, rows, s->in, 0), sum = twin("sum", POISON, COMPUTE, rows, s->in, 0);
    Twin out = twin("out", POISON, COMPUTE, rows, s->in, 0), again = twin("again", POISON, COMPUTE, rows, s->in, 0);
    Twin gain = twin("gain", NORMAL, COMPUTE, s->in, 0, 0), stats = twin("stats", POISON, WIDE, rows, 2, 0);
    double *values = test_take((size_t)(2 * count) * sizeof *values);
    BOTH(k, i) {
        Norm with = norm_on(s, gain, TWIN_NONE, i);
        k->norm_forward(out.on[i], sum.on[i], stats.on[i], residual.on[i], branch.on[i], &with);
        k->norm_forward(again.on[i], TENSOR_NONE, stats.on[i], sum.on[i], TENSOR_NONE, &with);
        twin_get_all(out, i, 0, values, count);
        twin_get_all(again, i, 0, values + count, count);
        assert_memory_equal(values, values + count, (size_t)count * sizeof *values);
    }
    free(values);
}

TEST(norms_come_out_the_same_again) {
    static const Sizes list[] = {{.t = 5, .in = 67}, {.t = 3, .in = 264, .variant = RMS}, {.t = 3, .in = 1096}};
    COMPARE_BACKENDS(norm_again, list, 24);
}

// A row far from zero beside its spread: a variance from raw squares would lose every digit.
static void norm_off_centre(const Sizes *s) {
    Twin residual = twin("residual", NORMAL, COMPUTE, 1, s->in, 0), out = twin("out", POISON, COMPUTE, 1, s->in, 0);
    Twin gain = twin("gain", TEN, COMPUTE, s->in, 0, 0), stats = twin("stats", POISON, WIDE, 1, 2, 0);
    for (int64_t i = 0; i < s->in; i++) {
        twin_set(residual, i, 4096 + 32 * twin_get(residual, 0, i));
        twin_set(residual, i, twin_get(residual, 0, i)); // what the first side can represent
    }
    BOTH(k, i) {
        Norm with = norm_on(s, gain, TWIN_NONE, i);
        k->norm_forward(out.on[i], TENSOR_NONE, stats.on[i], residual.on[i], TENSOR_NONE, &with);
    }
}

// Rounding the mean to fp32 alone costs 128 roundoffs of the spread.
TEST(norm_of_a_row_far_from_zero) { compare_backends_by_dtype(norm_off_centre, &(Sizes){.in = 1031}, 256, 4); }

// A row with one number that is NaN has no other ones; the rows beside it do not change.
static void norm_of_nan(const Sizes *s) {
    Twin residual = twin("residual", NORMAL, COMPUTE, 3, s->in, 0), out = twin("out", POISON, COMPUTE, 3, s->in, 0);
    Twin gain = twin("gain", TEN, COMPUTE, s->in, 0, 0), stats = twin("stats", POISON, WIDE, 3, 2, 0);
    twin_set(residual, s->in + 5, NAN);
    BOTH(k, i) {
        Norm with = norm_on(s, gain, TWIN_NONE, i);
        k->norm_forward(out.on[i], TENSOR_NONE, stats.on[i], residual.on[i], TENSOR_NONE, &with);
        for (int64_t j = 0; j < 3 * s->in; j++) assert_int_equal(isnan(twin_get(out, i, j)), j / s->in == 1);
    }
}

TEST(norms_hide_no_nan) {
    compare_backends(norm_of_nan, &(Sizes){.in = 130}, 24);
    compare_backends(norm_of_nan, &(Sizes){.in = 130, .variant = RMS}, 24);
}

// ---- copies ----

// Between compute and wide, both ways, contiguous and as heads inside a wider buffer. Variant 1: they begin where it
// begins.
static void copy(const Sizes *s) {
    int64_t columns = s->heads * s->width;
    Twin in = twin("in", NORMAL, COMPUTE, s->b, s->t, 3 * columns);
    Twin wide = twin("wide", POISON, WIDE, s->b, s->t, 3 * columns);
    Twin back = twin("back", POISON, COMPUTE, s->b, s->t, 3 * columns);
    Twin part = twin("part", POISON, WIDE, s->b, s->t, columns + 2);
    Twin zeroed = twin("zeroed", POISON, COMPUTE, s->b, s->t, 3 * columns),
         zeros = twin("zeros", TEN, WIDE, s->b, s->t, 3);
    Twin from = twin_heads(in, columns, s->heads, s->width), to = twin_heads(part, s->variant != 1, s->heads, s->width);
    Twin hole = twin_heads(zeroed, columns, s->heads, s->width), again = twin_heads(back, 0, s->heads, s->width);
    BOTH(k, i) {
        k->copy(wide.on[i], in.on[i]);
        k->copy(back.on[i], wide.on[i]);
        k->copy(to.on[i], from.on[i]);
        k->copy(again.on[i], to.on[i]);
        k->fill_zero(hole.on[i]);
        k->fill_zero(zeros.on[i]);
    }
}

TEST(copies_and_fills_equal_the_reference) {
    static const Sizes list[] = {{.b = 1, .t = 1, .heads = 1, .width = 1},
                                 {.b = 2, .t = 7, .heads = 3, .width = 5},
                                 {.b = 2, .t = 64, .heads = 4, .width = 32},
                                 {.b = 2, .t = 5, .heads = 2, .width = 32, .variant = 1}};
    COMPARE_BACKENDS(copy, list, 0);
}

// Doubles to and from the others, and integers, as heads inside wider buffers.
static void copy_of_doubles(const Sizes *s) {
    int64_t columns = s->heads * s->width, wider = columns + 2 * s->in;
    Twin in = twin("in", NORMAL, STATUS, s->b, s->t, wider);
    Twin floats = twin("floats", POISON, WEIGHTS, s->b, s->t, wider);
    Twin narrow = twin("narrow", POISON, COMPUTE, s->b, s->t, wider);
    Twin same = twin("same", POISON, STATUS, s->b, s->t, wider), back = twin("back", POISON, STATUS, s->b, s->t, wider);
    Twin part = twin("part", NORMAL, COMPUTE, s->b, s->t, wider), wide = twin("wide", POISON, WIDE, s->b, s->t, wider);
    Twin moved = twin("moved", POISON, COMPUTE, s->b, s->t, wider);
    Twin zeros = twin("zeros", TEN, STATUS, s->b, s->t, wider), ones = twin("ones", TEN, COMPUTE, s->b, s->t, wider);
    Twin all[] = {in, floats, narrow, same, back, part, wide, moved, zeros, ones};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) all[i] = twin_heads(all[i], s->in, s->heads, s->width);
    BOTH(k, i) {
        k->copy(all[1].on[i], all[0].on[i]);
        k->copy(all[2].on[i], all[0].on[i]);
        k->copy(all[3].on[i], all[0].on[i]);
        k->copy(all[4].on[i], all[2].on[i]);
        k->copy(all[6].on[i], all[5].on[i]);
        k->copy(all[7].on[i], all[6].on[i]);
        k->copy(all[5].on[i], all[2].on[i]);
        k->copy(all[0].on[i], all[1].on[i]);
        k->fill_zero(all[8].on[i]);
        k->fill_zero(all[9].on[i]);
    }
}

static void copy_of_integers(const Sizes *s) {
    int32_t values[ROWS];
    for (int32_t i = 0; i < ROWS; i++) values[i] = i * i;
    Twin in = twin_of_integers("in", values, s->b, s->t), out = twin_of_integers("out", values + 1, s->b, s->t);
    Twin words = twin_of_bytes("words", values, sizeof values);
    Twin same = twin_of_bytes("same", values + 4, sizeof values / 2);
    BOTH(k, i) {
        k->copy(tensor_slice(out.on[i], 1, s->in, s->out), tensor_slice(in.on[i], 1, s->in, s->out));
        k->copy(same.on[i], tensor_slice(words.on[i], 0, 5, tensor_count(same.on[i])));
    }
}

TEST(copies_of_other_dtypes_equal_the_reference) {
    static const Sizes list[] = {{.b = 2, .t = 7, .heads = 3, .width = 5, .in = 1},
                                 {.b = 2, .t = 5, .heads = 3, .width = 16, .in = 8},
                                 {.b = 1, .t = 2, .heads = 2, .width = 4112, .in = 8}};
    COMPARE_BACKENDS(copy_of_doubles, list, 2);
    static const Sizes integers[] = {{.b = 9, .t = 8, .in = 4, .out = 4}, {.b = 5, .t = 7, .in = 1, .out = 3}};
    COMPARE_BACKENDS(copy_of_integers, integers, 0);
}

// Every bf16 and half-way case of some binades: conversion from fp32 rounds to nearest even.
static void copy_rounded(const Sizes *s) {
    int64_t count = s->in;
    uint16_t *nearest = calloc((size_t)count, sizeof *nearest);
    float *values = calloc((size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = 1 + (float)i * 0x1p-10f; // eighths of a bf16 unit
    for (int64_t i = 0; i < count; i++) nearest[i] = bf16_from_float(values[i]);
    Twin in = twin_of_bytes("in", values, (size_t)count * sizeof *values);
    Twin out = twin_of_bytes("out", nearest, (size_t)count * sizeof *nearest);
    for (int64_t i = 0; i < count; i++) nearest[i] = 0;
    BOTH(k, i) {
        Tensor f32 = tensor_1d(in.on[i].data, DTYPE_F32, count), bf16 = tensor_1d(out.on[i].data, DTYPE_BF16, count);
        k->copy(bf16, f32);
        k->download(nearest, bf16);
        for (int64_t j = 0; j < count; j++) assert_int_equal(nearest[j], bf16_from_float(values[j]));
    }
    free(nearest);
    free(values);
}

TEST(copy_rounds_to_nearest_even) { compare_backends(copy_rounded, &(Sizes){.in = 2048}, 0); }

// ---- threads ----

TEST(rows_are_equal_on_one_and_two_threads) {
    static const Sizes list[] = {
        {.b = 3, .t = 171, .in = 257, .out = 515, .heads = 3, .width = 66, .variant = BRANCH | BIAS | BY_SEQUENCE},
        {.b = 2, .t = 1024, .in = 130, .out = 1000, .heads = 2, .width = 64, .variant = RMS | BRANCH | IN_PLACE},
        {.b = 1, .t = 33, .in = 1500, .out = 9, .heads = 12, .width = 128, .variant = RMS},
    };
    COMPARE_THREADS(embedding, list);
    COMPARE_THREADS(norm, list);
    COMPARE_THREADS(copy, list);
}
