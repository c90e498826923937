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

// Two segments of two elements in buffers of eight, with slots of Adam; the case spoils one thing.
static Segment segments[2];
static StepScalars scalars = {.recipe = {{.correction1 = 1, .correction2 = 1}}};
static Update adam(void) {
    Tensor flat = tensor_1d(room, DTYPE_F32, 8), z = tensor_1d(room + 48, DTYPE_F32, 4);
    for (int i = 0; i < 2; i++)
        segments[i] = (Segment){.offset = 4 * i, .count = 2, .z = 2 * i, .gap = -1, .slot = {2 * i, 4 + 2 * i},
                                .direction = DIRECTION_ADAM};
    return (Update){.weights = tensor_1d(room + 8, DTYPE_F32, 8), .z = z, .state = flat, .grads = flat,
                    .segments = {segments, 2}, .scalars = &scalars,
                    .status = tensor_1d(room + 16, DTYPE_F64, STATUS_COUNT)};
}

static void right_update(const Kernels *k) {
    Update u = adam();
    k->update(&u);
}
static void no_scalars(const Kernels *k) {
    Update u = adam();
    u.scalars = NULL;
    k->update(&u);
}
static void overlapping_segments(const Kernels *k) {
    Update u = adam();
    segments[1].offset = 1;
    k->update(&u);
}
static void long_segment(const Kernels *k) {
    Update u = adam();
    segments[1].count = 5;
    k->update(&u);
}
static void z_outside(const Kernels *k) {
    Update u = adam();
    segments[1].z = 3;
    k->update(&u);
}
static void empty_segment(const Kernels *k) { // nothing of it is looked at
    Update u = adam();
    segments[0] = (Segment){.offset = 2, .z = 9, .gap = 9, .slot = {-1, -1}, .direction = DIRECTION_ADAM};
    k->update(&u);
}
static void no_slot(const Kernels *k) {
    Update u = adam();
    segments[1].slot[1] = -1;
    k->update(&u);
}
static void gap_outside(const Kernels *k) {
    Update u = adam();
    segments[0].gap = 7;
    k->readout_add(tensor_1d(room + 56, DTYPE_F32, 4), &u);
}
static void gap_in_weights(const Kernels *k) {
    Update u = adam();
    u.z = u.weights;
    segments[0].gap = 0;
    k->update(&u);
}
static void no_directions(const Kernels *k) {
    Update u = adam();
    segments[0].direction = DIRECTION_GIVEN;
    k->update(&u);
}
static void large_directions(const Kernels *k) {
    Update u = adam();
    segments[0].direction = DIRECTION_GIVEN;
    u.directions = tensor_3d(room, DTYPE_F32, 2, 1, 3);
    k->update(&u);
}
static void no_squares(const Kernels *k) {
    Update u = adam();
    segments[1].direction = DIRECTION_MARS;
    segments[1].slot[2] = 0;
    k->update(&u);
}
static void few_squares(const Kernels *k) {
    Update u = adam();
    k->corrected_squares(tensor_1d(room + 32, DTYPE_F64, 1), &u);
}
static void few_matrices(const Kernels *k) {
    Update u = adam();
    k->momentum_mix(tensor_3d(room + 32, DTYPE_F32, 1, 1, 2), &u);
}
static void right_neurons(const Kernels *k) { // one of two elements
    Update u = adam();
    segments[1].slot[1] = 7;
    k->neuron_normalise(tensor_3d(room + 32, DTYPE_F32, 2, 1, 2), false, &u);
}
static void no_neurons(const Kernels *k) {
    Update u = adam();
    segments[1].slot[1] = 7;
    k->neuron_normalise(tensor_3d(room + 32, DTYPE_F32, 2, 2, 1), false, &u);
}

static void product(const Kernels *k, Tensor out, Tensor c, double beta) {
    k->matrix_product(&(MatrixProduct){.out = out, .a = tensor_3d(room, DTYPE_F32, 1, 3, 2),
                                       .b = tensor_3d(room, DTYPE_F32, 1, 3, 4), .c = c, .a_transposed = true,
                                       .alpha = 1, .beta = beta});
}
static void right_product(const Kernels *k) { product(k, tensor_3d(room + 32, DTYPE_F32, 1, 2, 4), TENSOR_NONE, 0); }
static void product_in_place(const Kernels *k) { product(k, tensor_3d(room, DTYPE_F32, 1, 2, 4), TENSOR_NONE, 0); }
static void nothing_added(const Kernels *k) { product(k, tensor_3d(room + 32, DTYPE_F32, 1, 2, 4), TENSOR_NONE, 1); }
static void wide_product(const Kernels *k) { product(k, tensor_3d(room + 32, DTYPE_F64, 1, 2, 4), TENSOR_NONE, 0); }
static void turned_product(const Kernels *k) { product(k, tensor_3d(room + 32, DTYPE_F32, 1, 4, 2), TENSOR_NONE, 0); }

static void short_stream(const Kernels *k) {
    k->stream((const Tensor[]){tensor_1d(room, DTYPE_F32, 8), tensor_1d(room + 8, DTYPE_F32, 7)}, 2, 1, 1);
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
        {right_update, NULL, true},
        {no_scalars, "update: scalars are missing", false},
        {overlapping_segments, "update: segment 1 is 1 + 2, behind 2 of 8 elements", false},
        {long_segment, "update: segment 1 is 4 + 5, behind 2 of 8 elements", false},
        {z_outside, "update: segment 1 is 3 + 2 of 4 elements of z", false},
        {empty_segment, NULL, true},
        {no_slot, "update: segment 1 has a slot or a gap outside 8 numbers of state", false},
        {gap_outside, "readout_add: segment 0 has a slot or a gap outside 8 numbers of state", false},
        {gap_in_weights, "update: weights are z, beside a gap", false},
        {no_directions, "update: directions are missing", false},
        {large_directions, "update: segment 0 has 2 elements, its matrix 3", false},
        {no_squares, "update: squares are missing", false},
        {few_squares, "corrected_squares: 1 squares of 2 segments", false},
        {few_matrices, "momentum_mix: 1 matrices of 2 segments", false},
        {right_neurons, NULL, true},
        {no_neurons, "neuron_normalise: slot 1 of segment 1 is outside 8 numbers of state", false},
        {right_product, NULL, true},
        {product_in_place, "matrix_product: out is one of the others", false},
        {nothing_added, "matrix_product: c and beta 1", false},
        {wide_product, "matrix_product: f64 from f32", false},
        {turned_product, "p->a has the wrong shape: it is f32 (1, 3, 2), expected float (K = 1, I = 3, M = 4)", false},
        {short_stream, "stream: tensor 1 is not of the first one's size", false},
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
    Tally tallies[CHECKED_TALLIES];
    const Kernels *k = checked_kernels(&reference_kernels);
    checked_take_tallies(tallies);
    assert_string_equal(k->name, reference_kernels.name);
    for (int i = 0; i < 3; i++) k->fill_zero(matrix(DTYPE_F32, 2, 3));
    right(k); // (2, 3) from (2, 4) and (4, 3)
    assert_int_equal(checked_take_tallies(tallies), 2);
    const Tally *product = strcmp(tallies[0].operation, "fill_zero") == 0 ? &tallies[1] : &tallies[0];
    const Tally *fill = product == tallies ? &tallies[1] : tallies;
    assert_string_equal(product->operation, "linear_backward_input");
    assert_true(fill->calls == 3 && fill->flops == 0 && product->calls == 1);
    assert_true(product->flops == 2 * 2 * 4 * 3 && product->bytes == sizeof(float) * (2 * 3 + 2 * 4 + 4 * 3));
    assert_int_equal(checked_take_tallies(tallies), 0);
}
