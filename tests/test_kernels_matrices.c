// Batches of matrices against the reference: momentum, norms, products.
#include <math.h>

#include "tests/reference/reference.h"
#include "tests/support_kernels.h"
#include "tests/test.h"

// `b` matrices of `in` rows and `out` columns each, `t` is the inner side of a product.

// ---- products ----

enum { A_TRANSPOSED = 1, B_TRANSPOSED = 2, ADDED = 4, SCALED = 8, PRODUCTS = 16 };

static void product(const Sizes *s) {
    bool turn_a = s->variant & A_TRANSPOSED, turn_b = s->variant & B_TRANSPOSED, added = s->variant & ADDED;
    Twin out = twin("out", POISON, COMPUTE, s->b, s->in, s->out);
    Twin a = twin("a", NORMAL, COMPUTE, s->b, turn_a ? s->t : s->in, turn_a ? s->in : s->t);
    Twin b = twin("b", NORMAL, COMPUTE, s->b, turn_b ? s->out : s->t, turn_b ? s->t : s->out);
    Twin c = added ? twin("c", NORMAL, COMPUTE, s->b, s->in, s->out) : TWIN_NONE;
    BOTH(k, i)
        k->matrix_product(&(MatrixProduct){.out = out.on[i], .a = a.on[i], .b = b.on[i], .c = c.on[i],
                                           .a_transposed = turn_a, .b_transposed = turn_b,
                                           .alpha = s->variant & SCALED ? -0.75 : 1,
                                           .beta = !added ? 0 : s->variant & SCALED ? 2.5 : 1});
}

TEST(products_equal_the_reference) {
    for (int variant = 0; variant < PRODUCTS; variant++) {
        const Sizes list[] = {{.b = 1, .in = 1, .out = 1, .t = 1, .variant = variant},
                              {.b = 3, .in = 1, .out = 7, .t = 5, .variant = variant},
                              {.b = 5, .in = 16, .out = 16, .t = 16, .variant = variant},
                              {.b = 2, .in = 67, .out = 33, .t = 129, .variant = variant},
                              {.b = 1, .in = 270, .out = 17, .t = 9, .variant = variant},
                              {.b = 2, .in = 17, .out = 270, .t = 9, .variant = variant}};
        COMPARE_BACKENDS(product, list, 16);
    }
    compare_backends(product, &(Sizes){.b = 1, .in = 300, .out = 290, .t = 40, .variant = ADDED}, 16);
}

TEST(products_are_equal_on_one_and_two_threads) {
    for (int variant = 0; variant < PRODUCTS; variant++) {
        compare_threads(product, &(Sizes){.b = 7, .in = 200, .out = 130, .t = 300, .variant = variant});
        compare_threads(product, &(Sizes){.b = 1, .in = 1100, .out = 520, .t = 33, .variant = variant});
    }
}

// A matrix times its own transpose, of which one half is enough; `c` has two.
static void gram(const Sizes *s) {
    bool turn = s->variant & A_TRANSPOSED, added = s->variant & ADDED;
    Twin out = twin("out", POISON, COMPUTE, s->b, s->in, s->in);
    Twin x = twin("x", NORMAL, COMPUTE, s->b, turn ? s->t : s->in, turn ? s->in : s->t);
    Twin c = added ? twin("c", NORMAL, COMPUTE, s->b, s->in, s->in) : TWIN_NONE;
    BOTH(k, i)
        k->matrix_product(&(MatrixProduct){.out = out.on[i], .a = x.on[i], .b = x.on[i], .c = c.on[i],
                                           .a_transposed = turn, .b_transposed = !turn,
                                           .alpha = s->variant & SCALED ? -0.75 : 1,
                                           .beta = !added ? 0 : s->variant & SCALED ? 2.5 : 1});
}

TEST(gram_products_equal_the_reference) {
    for (int variant = 0; variant < PRODUCTS; variant++) {
        if (variant & B_TRANSPOSED) continue;
        const Sizes list[] = {{.b = 1, .in = 1, .t = 1, .variant = variant},
                              {.b = 3, .in = 16, .t = 9, .variant = variant},
                              {.b = 2, .in = 67, .t = 129, .variant = variant},
                              {.b = 33, .in = 37, .t = 5, .variant = variant},
                              {.b = 1, .in = 300, .t = 40, .variant = variant}};
        COMPARE_BACKENDS(gram, list, 16);
        compare_threads(gram, &(Sizes){.b = 3, .in = 400, .t = 70, .variant = variant});
    }
}

// In a wider buffer, as a part of a fused matrix lies there.
static void strided_product(const Sizes *s) {
    Twin out = twin("out", POISON, COMPUTE, s->b, s->in, s->out + 3);
    Twin a = twin("a", NORMAL, COMPUTE, s->b, s->in, s->t + 5), b = twin("b", NORMAL, COMPUTE, s->b, s->t, s->out + 2);
    Twin c = twin("c", NORMAL, COMPUTE, s->b, s->in, s->out + 1);
    out = twin_slice(out, 2, 2, s->out), a = twin_slice(a, 2, 1, s->t);
    b = twin_slice(b, 2, 0, s->out), c = twin_slice(c, 2, 1, s->out);
    BOTH(k, i)
        k->matrix_product(&(MatrixProduct){.out = out.on[i], .a = a.on[i], .b = b.on[i], .c = c.on[i],
                                           .alpha = 2, .beta = 0.5});
}

TEST(products_of_strided_matrices_equal_the_reference) {
    compare_backends(strided_product, &(Sizes){.b = 3, .in = 150, .out = 70, .t = 20}, 16);
}

// ---- norms ----

enum { SMALL = 5000, SCALES = 4 };
enum { ADD_EPSILON = 1, LARGE_EPSILON = 2, NORMS = 4 };

// The first matrix as it is, the second zero, the third tiny, the fourth huge; more of them as they are.
static void normalise(const Sizes *s) {
    Twin matrices = twin("matrices", NORMAL, COMPUTE, s->b, s->in, s->out);
    int64_t each = s->in * s->out, scaled = each < SMALL && s->b >= SCALES ? SCALES : 0;
    MatrixNorm norm = {.target = 3, .factor = 1.02, .epsilon = s->variant & LARGE_EPSILON ? 0.5 : 1e-42,
                       .add_epsilon = s->variant & ADD_EPSILON};
    static const double scale[SCALES] = {1, 0, 1e-38, 1e30};
    double values[SMALL];
    for (int64_t k = 1; k < scaled; k++) {
        twin_get_all(matrices, 0, 0, values, each);
        for (int64_t i = 0; i < each; i++) values[i] *= scale[k];
        twin_set_all(matrices, k * each, values, each);
    }
    BOTH(k, i) k->matrix_normalise(matrices.on[i], &norm);
    for (int64_t k = 0; k < scaled; k++) { // with little epsilon, every norm is the same
        double squares = 0;
        twin_get_all(matrices, 0, k * each, values, each);
        for (int64_t i = 0; i < each; i++) squares += values[i] * values[i];
        if (k == 1) assert_true(squares == 0);
        else if (!(s->variant & LARGE_EPSILON)) CHECK_CLOSE(sqrt(squares), 3 / 1.02, 0.02);
    }
}

TEST(norms_equal_the_reference) {
    for (int variant = 0; variant < NORMS; variant++) {
        const Sizes list[] = {{.b = 4, .in = 1, .out = 1, .variant = variant},
                              {.b = 4, .in = 7, .out = 13, .variant = variant},
                              {.b = 5, .in = 67, .out = 33, .variant = variant},
                              {.b = 6, .in = 31, .out = 40, .variant = variant},
                              {.b = 1, .in = 200, .out = 190, .variant = variant},
                              {.b = 2, .in = 150, .out = 208, .variant = variant}};
        COMPARE_BACKENDS(normalise, list, 8);
        compare_threads(normalise, &(Sizes){.b = 2, .in = 300, .out = 301, .variant = variant});
    }
}

TEST(norms_of_large_matrices_equal_the_reference) {
    compare_backends(normalise, &(Sizes){.b = 1, .in = 1025, .out = 2056}, 8);
}

// Columns of wider matrices; what lies beside them stays.
static void strided_norms(const Sizes *s) {
    Twin matrices = twin("matrices", NORMAL, COMPUTE, s->b, s->in, s->out + 8);
    matrices = twin_slice(matrices, 2, s->variant, s->out);
    BOTH(k, i) k->matrix_normalise(matrices.on[i], &(MatrixNorm){.target = 3, .factor = 1.02, .epsilon = 1e-20});
}

TEST(norms_of_strided_matrices_equal_the_reference) {
    static const Sizes list[] = {{.b = 3, .in = 21, .out = 33, .variant = 3}, {.b = 2, .in = 67, .out = 136}};
    COMPARE_BACKENDS(strided_norms, list, 8);
}

static void normalise_without_epsilon(const Sizes *s) {
    Twin matrices = twin("matrices", NORMAL, COMPUTE, 2, s->in, s->in);
    for (int64_t i = 0; i < s->in * s->in; i++) twin_set(matrices, i, 0);
    BOTH(k, i) {
        k->matrix_normalise(matrices.on[i], &(MatrixNorm){.target = 1, .factor = 1, .add_epsilon = s->variant});
        assert_true(twin_get(matrices, i, 0) == 0);
    }
}

TEST(a_zero_matrix_stays_zero) {
    for (int variant = 0; variant < 2; variant++)
        compare_backends(normalise_without_epsilon, &(Sizes){.in = 9, .variant = variant}, 8);
}

// ---- momentum, and neurons ----

enum { SKIP = 1, UNIT = 2, NO_EPSILON = 4, NEURONS = 8, BATCH = 3 };

typedef struct {
    Twin matrices, state, grads, segment, scalars, status;
} Batch;

// Matrices with holes between them; slots 0 of all, then slots 1 (one number a row), with holes as well. Those with
// fours of elements begin at fours.
static void make_batch(Batch *batch, const Sizes *s) {
    int64_t each = s->in * s->out, lead = each % 4 == 0 ? 4 : 2, hole = each % 4 == 0 ? 8 : 5, room = each + hole;
    Segment segments[BATCH];
    for (int i = 0; i < BATCH; i++)
        segments[i] = (Segment){.offset = lead + i * room, .count = each, .gap = -1, .route = i % 2,
                                .slot = {i * room, BATCH * room + i * (s->in + hole), -1, -1, -1, -1},
                                .lr_scale = 1, .decay_scale = 1, .move_scale = 1};
    double epsilon = s->variant & NO_EPSILON ? 0 : 1e-3;
    StepScalars step = {.recipe = {{.momentum = 0.95, .feed = 0.05, .mix_momentum = 0.95, .mix_gradient = 0.05,
                                    .beta2 = 0.95, .epsilon = epsilon},
                                   {.momentum = 0.9, .feed = 1, .mix_momentum = 1, .mix_gradient = 0,
                                    .beta2 = 0.8, .epsilon = epsilon}}};
    *batch = (Batch){.matrices = twin("matrices", NORMAL, COMPUTE, BATCH, s->in, s->out),
                     .state = twin("state", POSITIVE, WIDE, BATCH * (room + s->in + hole), 0, 0),
                     .grads = twin("grads", NORMAL, WIDE, lead + BATCH * room, 0, 0),
                     .segment = twin_of_bytes("segments", segments, sizeof segments),
                     .scalars = twin_of_bytes("scalars", &step, sizeof step),
                     .status = twin("status", TEN, STATUS, STATUS_COUNT, 0, 0)};
    twin_set(batch->status, STATUS_CLIP_FACTOR, 0.75);
    twin_set(batch->status, STATUS_SKIP, s->variant & SKIP ? 1 : 0);
    if (s->variant & SKIP) twin_set(batch->grads, lead, NAN);
    static const double zeros[SMALL];
    if (s->in < 2 || each > SMALL) return;
    twin_set_all(batch->matrices, each, zeros, each); // a matrix of zeros, whose neurons never spoke
    twin_set_all(batch->state, BATCH * room + s->in + hole, zeros, s->in);
    twin_set_all(batch->matrices, s->out, zeros, s->out); // and a row of them
    twin_set(batch->state, BATCH * room + 1, 0);
}

static Update update_on(const Batch *batch, int side) {
    return (Update){.state = batch->state.on[side], .grads = batch->grads.on[side],
                    .segments = {batch->segment.on[side].data, BATCH}, .scalars = batch->scalars.on[side].data,
                    .status = batch->status.on[side]};
}

static const Sizes shapes[] = {{.in = 1, .out = 1}, {.in = 7, .out = 13}, {.in = 67, .out = 33}, {.in = 9, .out = 200}};
static const Sizes large = {.in = 301, .out = 200}, tall = {.in = 2100, .out = 8};

static void momentum_mix(const Sizes *s) {
    Batch batch;
    make_batch(&batch, s);
    Twin out = twin("out", POISON, COMPUTE, BATCH, s->in, s->out);
    BOTH(k, i) {
        Update update = update_on(&batch, i);
        k->momentum_mix(out.on[i], &update);
        for (int64_t e = 0; e < s->in && s->variant & SKIP; e++) assert_true(twin_get(out, i, e) == 0);
    }
}

static void neuron_normalise(const Sizes *s) {
    Batch batch;
    make_batch(&batch, s);
    BOTH(k, i) {
        Update update = update_on(&batch, i);
        k->neuron_normalise(batch.matrices.on[i], s->variant & UNIT, &update);
    }
    int64_t each = s->in * s->out;
    if (s->variant & SKIP || !(s->variant & UNIT) || each > SMALL) return;
    double values[SMALL], squares = 0; // of the third matrix: 1 in the mean
    twin_get_all(batch.matrices, 0, 2 * each, values, each);
    for (int64_t i = 0; i < each; i++) squares += values[i] * values[i] / (double)each;
    CHECK_CLOSE(squares, 1, 0.02);
}

TEST(neurons_and_momentum_equal_the_reference) {
    for (int variant = 0; variant < NEURONS; variant++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            Sizes sizes = shapes[i];
            sizes.variant = variant;
            compare_backends(momentum_mix, &sizes, 4);
            compare_backends(neuron_normalise, &sizes, 8);
        }
    compare_backends(momentum_mix, &large, 4);
    compare_backends(neuron_normalise, &large, 8);
    compare_backends(neuron_normalise, &tall, 8);
}

TEST(neurons_and_momentum_are_equal_on_one_and_two_threads) {
    for (int variant = 0; variant <= UNIT; variant++) {
        Sizes sizes = large;
        sizes.variant = variant;
        compare_threads(momentum_mix, &sizes);
        compare_threads(neuron_normalise, &sizes);
    }
}

// o = ((3, 0), (0, 4)), v = 0, beta2 0.5, epsilon 0: v = (2.25, 4), n = (2, 2) on the diagonal.
TEST(neurons_by_hand) {
    for (int unit = 0; unit < 2; unit++) {
        Errors errors = {0};
        assert_true(cpu_kernels.open(1, 0, &errors));
        float o[4] = {3, 0, 0, 4}, state[6] = {0};
        double status[STATUS_COUNT] = {0}, factor = unit ? 2 / sqrt(8) : 5 / sqrt(8);
        Segment segment = {.count = 4, .gap = -1, .slot = {0, 4, -1, -1, -1, -1}};
        StepScalars scalars = {.recipe = {{.beta2 = 0.5}}};
        Update update = {.state = tensor_1d(state, DTYPE_F32, 6), .segments = {&segment, 1}, .scalars = &scalars,
                         .status = tensor_1d(status, DTYPE_F64, STATUS_COUNT)};
        cpu_kernels.neuron_normalise(tensor_3d(o, DTYPE_F32, 1, 2, 2), unit, &update);
        const double expected[] = {3 / 1.5 * factor, 0, 0, 4 / 2.0 * factor};
        for (int i = 0; i < 4; i++) CHECK_CLOSE(o[i], expected[i], 1e-6);
        assert_true(state[4] == 2.25f && state[5] == 4);
    }
}

// ---- fp64 ----

static void fill_doubles(double *x, int64_t n, double seed) {
    for (int64_t i = 0; i < n; i++) x[i] = sin(seed + (double)i * 1.7);
}

// The CPU backend takes fp64 matrices in products and norms, and loses none of their digits.
TEST(the_cpu_computes_matrices_in_fp64) {
    enum { BATCHES = 2, ROWS = 67, COLUMNS = 45, INNER = 130 };
    static double a[BATCHES * ROWS * INNER], b[BATCHES * COLUMNS * INNER], c[BATCHES * ROWS * ROWS];
    static double out[2][BATCHES * ROWS * ROWS];
    const Kernels *const backends[] = {&cpu_kernels, &reference_kernels};
    Errors errors = {0};
    assert_true(cpu_kernels.open(2, 0, &errors));
    fill_doubles(a, BATCHES * ROWS * INNER, 1), fill_doubles(b, BATCHES * COLUMNS * INNER, 2);
    fill_doubles(c, BATCHES * ROWS * ROWS, 3);
    for (int turned = 0; turned < 6; turned++) {
        bool gram = turned >= 4, turn_a = turned & 1, turn_b = gram ? !turn_a : turned & 2;
        int64_t columns = gram ? ROWS : COLUMNS;
        for (int i = 0; i < 2; i++) {
            MatrixProduct p = {.out = tensor_3d(out[i], DTYPE_F64, BATCHES, ROWS, columns),
                               .a = tensor_3d(a, DTYPE_F64, BATCHES, turn_a ? INNER : ROWS, turn_a ? ROWS : INNER),
                               .b = tensor_3d(gram ? a : b, DTYPE_F64, BATCHES, turn_b ? columns : INNER,
                                              turn_b ? INNER : columns),
                               .c = tensor_3d(c, DTYPE_F64, BATCHES, ROWS, columns),
                               .a_transposed = turn_a, .b_transposed = turn_b, .alpha = 0.3, .beta = -1.7};
            backends[i]->matrix_product(&p);
            backends[i]->matrix_normalise(p.out, &(MatrixNorm){.target = 1, .factor = 1.02, .epsilon = 1e-20});
        }
        for (int64_t j = 0; j < BATCHES * ROWS * columns; j++) CHECK_CLOSE(out[0][j], out[1][j], 1e-14);
    }
}
