// The wrapper that holds calls against the contract of kernels.h: what it lets pass, and how it refuses the rest.
#include <math.h>

#include "kernels/checked.h"
#include "tests/reference/reference.h"
#include "tests/test.h"

static double room[64]; // elements of every tensor here

static Tensor matrix(DType dtype, int64_t rows, int64_t columns) { return tensor_2d(room, dtype, rows, columns); }

static Tensor strided(Tensor t, int64_t row, int64_t column) {
    t.stride[0] = row, t.stride[1] = column;
    return t;
}

// din (2, 3) = dout (2, 4) weight (4, 3), with a weight of the case's own.
static void with_weight(const Kernels *k, Tensor weight) {
    k->linear_backward_input(matrix(DTYPE_F32, 2, 3), matrix(DTYPE_F32, 2, 4), weight);
}

static void right(const Kernels *k) { with_weight(k, matrix(DTYPE_F32, 4, 3)); }
static void wrong_size(const Kernels *k) { with_weight(k, matrix(DTYPE_F32, 5, 3)); }
static void wrong_rank(const Kernels *k) { with_weight(k, tensor_1d(room, DTYPE_F32, 12)); }
static void integers(const Kernels *k) { with_weight(k, matrix(DTYPE_I32, 4, 3)); }
static void other_dtype(const Kernels *k) { with_weight(k, matrix(DTYPE_F64, 4, 3)); }
static void missing(const Kernels *k) { with_weight(k, TENSOR_NONE); }
static void no_memory(const Kernels *k) { with_weight(k, tensor_2d(NULL, DTYPE_F32, 4, 3)); }
static void turned(const Kernels *k) { with_weight(k, strided(matrix(DTYPE_F32, 4, 3), 1, 4)); }
static void overlapping(const Kernels *k) { with_weight(k, strided(matrix(DTYPE_F32, 4, 3), 2, 1)); }
static void spread(const Kernels *k) { with_weight(k, strided(matrix(DTYPE_F32, 4, 3), 8, 1)); }

static void narrow_gradient(const Kernels *k) { // of bf16 activations it is fp32
    Tensor dout = matrix(DTYPE_BF16, 2, 4), in = matrix(DTYPE_BF16, 2, 3);
    k->linear_backward_weight(matrix(DTYPE_F64, 4, 3), TENSOR_NONE, dout, in);
}

static void no_bias(const Kernels *k) {
    k->linear_backward_weight(matrix(DTYPE_F32, 4, 3), TENSOR_NONE, matrix(DTYPE_F32, 2, 4), matrix(DTYPE_F32, 2, 3));
}

static void ungated(const Kernels *k) {
    k->activation_forward(matrix(DTYPE_F32, 2, 4), matrix(DTYPE_F32, 2, 4), ACTIVATION_SWIGLU);
}

static void strided_download(const Kernels *k) {
    float host[12];
    k->download(host, strided(matrix(DTYPE_F32, 4, 3), 8, 1));
}

static void no_segments(const Kernels *k) {
    k->sum_squares(tensor_1d(room, DTYPE_F64, 1), tensor_1d(room, DTYPE_F32, 8), (Segments){NULL, 1});
}

// Writes NaN to the last of three strided rows.
static void nan_written(const Kernels *k) {
    float in[6] = {[5] = NAN};
    k->activation_forward(strided(matrix(DTYPE_F32, 3, 2), 4, 1), tensor_2d(in, DTYPE_F32, 3, 2), ACTIVATION_NONE);
}

static void finite_written(const Kernels *k) {
    float in[6] = {0};
    room[1] = NAN; // between rows: nobody's
    k->activation_forward(strided(matrix(DTYPE_F32, 3, 2), 4, 1), tensor_2d(in, DTYPE_F32, 3, 2), ACTIVATION_NONE);
}

static void nan_in_bf16(const Kernels *k) {
    uint16_t in[6] = {[5] = bf16_from_float(NAN)};
    k->activation_forward(matrix(DTYPE_BF16, 3, 2), tensor_2d(in, DTYPE_BF16, 3, 2), ACTIVATION_NONE);
}

typedef struct {
    void (*call)(const Kernels *);
    const char *refusal; // NULL: none
    bool want_finite;
} Row;

static void make_call(const void *context) {
    const Row *row = context;
    checked_want_finite(row->want_finite);
    row->call(checked_kernels(&reference_kernels));
}

TEST(calls_are_held_against_the_contract) {
    static const Row rows[] = {
        {right, NULL, true},
        {spread, NULL, true},
        {no_bias, NULL, true},
        {wrong_size, "weight has the wrong shape: it is f32 (5, 3), expected compute (O = 4, I = 3)", false},
        {wrong_rank, "weight has the wrong shape: it is f32 (12)", false},
        {integers, "linear_backward_input: weight has the wrong dtype: it is i32 (4, 3)", false},
        {other_dtype, "weight differs in dtype from another: it is f64 (4, 3)", false},
        {narrow_gradient, "dweight has a dtype that does not go with the activations': it is f64 (4, 3)", false},
        {missing, "linear_backward_input: weight is missing: it is none ()", false},
        {no_memory, "weight has no memory", false},
        {turned, "weight does not have contiguous rows", false},
        {overlapping, "weight does not have contiguous rows", false},
        {ungated, "activation_forward: 4 columns to 4 by activation 2", false},
        {strided_download, "download: in is not contiguous", false},
        {no_segments, "sum_squares: segments are missing", false},
        {nan_written, "activation_forward wrote nan to out", true},
        {nan_in_bf16, "activation_forward wrote nan to out", true},
        {nan_written, NULL, false},
        {finite_written, NULL, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char printed[4096];
        int status = test_status_of(make_call, &rows[i], printed, sizeof printed);
        const char *expected = rows[i].refusal ? rows[i].refusal : "";
        if (status != (rows[i].refusal ? EXIT_INTERNAL : 0) || !strstr(printed, expected))
            fail_msg("row %zu: exit %d, \"%s\"; expected \"%s\"", i, status, printed, expected);
    }
}

TEST(calls_are_counted) {
    Text text = {0};
    const Kernels *k = checked_kernels(&reference_kernels);
    assert_string_equal(k->name, reference_kernels.name);
    for (int i = 0; i < 3; i++) k->fill_zero(matrix(DTYPE_F32, 2, 3));
    checked_report(&text);
    const char *row = strstr(text_string(&text), "fill_zero");
    assert_non_null(row);
    assert_int_equal(strtol(row + strlen("fill_zero"), NULL, 10), 3);
    assert_null(strstr(text_string(&text), "adamw_update")); // not called
    text_close(&text);
}
