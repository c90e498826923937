// SOAP by what must hold of any implementation: where the bases are the axes it is Adam, bases stay orthogonal, turned
// gradients turn the step, single precision comes close to double.
#include <math.h>

#include "optim/soap.h"
#include "runtime/linear_algebra.h"
#include "runtime/philox.h"
#include "tests/reference/reference.h"
#include "tests/test.h"

enum { OFFSET = 3, SLOTS = 6, M = 0, V, L0, Q0, L1, Q1 };
static const double BETA1 = 0.9, BETA2 = 0.95, SHAMPOO_BETA = 0.8;

// One matrix, its state and a step's scalars.
typedef struct {
    const Kernels *kernels;
    DType wide;
    int64_t rows, columns, slots;
    HyperOptions hyper;
    Arena arena;
    SoapRoom room;
    void *memory;
    Segment segment;
    StepScalars scalars;
    double status[STATUS_COUNT];
    Tensor grads, state;
} Problem;

static Problem problem_open(const Kernels *kernels, int64_t threads, DType wide, int64_t rows, int64_t columns,
                            HyperOptions hyper) {
    Errors errors = {0};
    Problem p = {.kernels = kernels, .wide = wide, .rows = rows, .columns = columns, .hyper = hyper};
    if (!kernels->open(threads, 0, &errors)) fail_msg("%s", text_string(&errors.text));
    soap_place(&p.room, &p.arena, wide, rows, columns, &hyper);
    p.memory = kernels->take_memory(p.arena.used);
    assert_non_null(p.memory);
    arena_begin_placing(&p.arena, p.memory);
    soap_place(&p.room, &p.arena, wide, rows, columns, &hyper);
    int64_t area = rows * columns, left = rows * rows, right = columns * columns;
    int64_t sizes[SLOTS] = {[M] = area, [V] = area, [L0] = left, [Q0] = left, [L1] = right, [Q1] = right};
    p.segment = (Segment){.offset = OFFSET, .count = rows * columns, .gap = -1, .route = RECIPE_MATRIX};
    for (int slot = 0; slot < SLOTS; slot++) {
        bool none = slot >= L0 && (slot < L1 ? rows : columns) > hyper.precondition_max;
        p.segment.slot[slot] = none ? -1 : p.slots;
        p.slots += sizes[slot];
    }
    p.state = tensor_1d(test_take((size_t)p.slots * dtype_bytes(wide)), wide, p.slots);
    int64_t elements = OFFSET + rows * columns;
    p.grads = tensor_1d(test_take((size_t)elements * dtype_bytes(wide)), wide, elements);
    p.status[STATUS_CLIP_FACTOR] = 1;
    return p;
}

static void problem_close(Problem *p) {
    p->kernels->return_memory(p->memory, p->arena.capacity);
    arena_close(&p->arena);
    free(p->state.data);
    free(p->grads.data);
    p->kernels->close();
}

static double get(Tensor t, int64_t i) {
    return t.dtype == DTYPE_F64 ? ((const double *)t.data)[i] : (double)((const float *)t.data)[i];
}
static double slot_get(const Problem *p, int slot, int64_t i) { return get(p->state, p->segment.slot[slot] + i); }

// Step t with the gradient g (rows, columns); d, where it is not NULL, gets the direction.
static bool problem_step(Problem *p, int64_t t, const double *g, double *d) {
    double updates = t > 1 ? (double)(t - 1) : 1;
    int64_t count = p->rows * p->columns;
    RecipeScalars recipe = {.beta1 = BETA1, .beta2 = BETA2, .beta3 = SHAMPOO_BETA, .epsilon = p->hyper.epsilon,
                            .correction1 = 1 - pow(BETA1, updates), .correction2 = 1 - pow(BETA2, updates)};
    p->scalars = (StepScalars){.t = t, .recipe = {[RECIPE_MATRIX] = recipe}};
    dtype_convert((char *)p->grads.data + OFFSET * dtype_bytes(p->wide), p->wide, g, DTYPE_F64, count);
    Update update = {.state = p->state, .grads = p->grads, .directions = p->room.direction,
                     .segments = {&p->segment, 1}, .scalars = &p->scalars,
                     .status = tensor_1d(p->status, DTYPE_F64, STATUS_COUNT)};
    bool moves = soap_direction(p->kernels, &update, &p->hyper, &p->room);
    for (int64_t i = 0; i < count && d && moves; i++) d[i] = get(p->room.direction, i);
    return moves;
}

static void random_numbers(double *out, int64_t count, uint32_t step) {
    for (int64_t i = 0; i < count; i++) {
        float x;
        philox_normal(&x, 1, 1, 11, STREAM_TEST, step, (uint64_t)(2 * i));
        out[i] = x;
    }
}

static double *new_numbers(int64_t count) { return test_take((size_t)count * sizeof(double)); }

static HyperOptions every(int64_t steps) {
    return (HyperOptions){.precondition_every = steps, .precondition_max = 1000, .epsilon = 1e-8};
}

static double basis_error(const Problem *p, int slot, int64_t n) {
    double worst = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = i == j ? -1 : 0;
            for (int64_t k = 0; k < n; k++) sum += slot_get(p, slot, k * n + i) * slot_get(p, slot, k * n + j);
            worst = fmax(worst, fabs(sum));
        }
    return worst;
}

TEST(the_first_step_builds_bases_and_moves_nothing) {
    Problem p = problem_open(&reference_kernels, 1, DTYPE_F64, 3, 5, every(1));
    double g[15], norm = 0, trace[2] = {0};
    random_numbers(g, 15, 1);
    p.status[STATUS_CLIP_FACTOR] = 0.5;
    assert_false(problem_step(&p, 1, g, NULL));
    for (int i = 0; i < 15; i++) {
        CHECK_CLOSE(slot_get(&p, M, i), 0, 0);
        CHECK_CLOSE(slot_get(&p, V, i), 0, 0);
        norm += 0.25 * g[i] * g[i];
    }
    for (int i = 0; i < 3; i++) trace[0] += slot_get(&p, L0, 4 * i);
    for (int i = 0; i < 5; i++) trace[1] += slot_get(&p, L1, 6 * i);
    CHECK_CLOSE(trace[0], (1 - SHAMPOO_BETA) * norm, 1e-14);
    CHECK_CLOSE(trace[1], (1 - SHAMPOO_BETA) * norm, 1e-14);
    CHECK_CLOSE(basis_error(&p, Q0, 3), 0, 1e-13);
    CHECK_CLOSE(basis_error(&p, Q1, 5), 0, 1e-13);
    assert_true(problem_step(&p, 2, g, NULL));
    problem_close(&p);
}

// Also before there are bases: then a later step builds them.
TEST(a_skipped_step_leaves_every_bit) {
    Problem p = problem_open(&cpu_kernels, 1, DTYPE_F32, 4, 6, every(2));
    double g[24];
    size_t bytes = tensor_size_bytes(p.state);
    char *before = test_take(bytes);
    for (int64_t t = 1; t < 9; t++) {
        random_numbers(g, 24, (uint32_t)t);
        p.status[STATUS_SKIP] = t == 1 || t == 5 || t == 6;
        memcpy(before, p.state.data, bytes);
        bool moves = problem_step(&p, t, g, NULL), skipped = p.status[STATUS_SKIP] != 0;
        assert_true(moves == (!skipped && t != 2));
        assert_true(skipped == (memcmp(before, p.state.data, bytes) == 0));
    }
    CHECK_CLOSE(basis_error(&p, Q0, 4), 0, 1e-5);
    free(before);
    problem_close(&p);
}

TEST(bases_stay_orthogonal) {
    const int64_t shapes[][2] = {{1, 1}, {7, 3}, {3, 7}, {8, 8}, {1, 5}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int64_t rows = shapes[s][0], columns = shapes[s][1];
        Problem p = problem_open(&cpu_kernels, 1, DTYPE_F64, rows, columns, every(3));
        double *g = new_numbers(rows * columns), *d = new_numbers(rows * columns);
        for (int64_t t = 1; t <= 40; t++) {
            random_numbers(g, rows * columns, (uint32_t)t);
            problem_step(&p, t, g, d);
            CHECK_CLOSE(basis_error(&p, Q0, rows), 0, 1e-12);
            CHECK_CLOSE(basis_error(&p, Q1, columns), 0, 1e-12);
            for (int64_t i = 0; i < rows * columns; i++) assert_true(isfinite(d[i]));
        }
        free(g), free(d);
        problem_close(&p);
    }
}

// Adam with epsilon beside the root that is not corrected, of gradients of which the first only counts as a start.
typedef struct {
    double m, v;
} Moments;

static double adam_step(Moments *s, double g, int64_t updates, double epsilon) {
    s->m = BETA1 * s->m + (1 - BETA1) * g;
    s->v = BETA2 * s->v + (1 - BETA2) * g * g;
    double below = sqrt(s->v) + epsilon;
    double correction = sqrt(1 - pow(BETA2, (double)updates)) / (1 - pow(BETA1, (double)updates));
    return below == 0 ? 0 : correction * s->m / below;
}

// Diagonal gradients have the axes as eigenvectors, in an order that changes. One of them is always zero where epsilon
// is more than rounding.
TEST(along_the_axes_it_is_adam) {
    enum { N = 5 };
    const double epsilons[] = {0, 1e-8, 1e-2};
    for (size_t e = 0; e < sizeof epsilons / sizeof epsilons[0]; e++) {
        HyperOptions hyper = every(2);
        hyper.epsilon = epsilons[e];
        Problem p = problem_open(&reference_kernels, 1, DTYPE_F64, N, N, hyper);
        Moments moments[N] = {0};
        for (int64_t t = 1; t <= 30; t++) {
            double g[N * N] = {0}, d[N * N] = {0}, diagonal[N];
            random_numbers(diagonal, N, (uint32_t)t);
            if (epsilons[e] == 1e-2) diagonal[2] = 0;
            for (int i = 0; i < N; i++) g[i * (N + 1)] = diagonal[i];
            problem_step(&p, t, g, d);
            for (int i = 0; i < N && t > 1; i++)
                CHECK_CLOSE(d[i * (N + 1)], adam_step(&moments[i], diagonal[i], t - 1, epsilons[e]), 1e-12);
        }
        problem_close(&p);
    }
}

TEST(a_matrix_with_long_sides_is_not_turned) {
    HyperOptions hyper = every(2);
    hyper.precondition_max = 3;
    Problem p = problem_open(&reference_kernels, 1, DTYPE_F64, 4, 6, hyper);
    Moments moments[24] = {0};
    double g[24], d[24];
    for (int64_t t = 1; t <= 8; t++) {
        random_numbers(g, 24, (uint32_t)t);
        assert_true(problem_step(&p, t, g, d) == (t > 1));
        for (int i = 0; i < 24 && t > 1; i++) CHECK_CLOSE(d[i], adam_step(&moments[i], g[i], t - 1, 1e-8), 1e-13);
    }
    problem_close(&p);
}

// out (n, n) = a b.
static void multiply(double *out, const double *a, const double *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            out[i * n + j] = 0;
            for (int64_t k = 0; k < n; k++) out[i * n + j] += a[i * n + k] * b[k * n + j];
        }
}

TEST(turned_gradients_turn_the_step) {
    enum { N = 6, AREA = N * N };
    Problem one = problem_open(&reference_kernels, 1, DTYPE_F64, N, N, every(2));
    Problem two = problem_open(&reference_kernels, 1, DTYPE_F64, N, N, every(2));
    double left[AREA], right[AREA], g[AREA], half[AREA], turned[AREA], d[AREA], d_turned[AREA];
    random_numbers(left, AREA, 101), random_numbers(right, AREA, 102);
    assert_true(orthogonal_columns(left, N, N) && orthogonal_columns(right, N, N));
    for (int64_t t = 1; t <= 12; t++) {
        random_numbers(g, AREA, (uint32_t)t);
        multiply(half, left, g, N), multiply(turned, half, right, N);
        assert_true(problem_step(&one, t, g, d) == (t > 1));
        problem_step(&two, t, turned, d_turned);
        multiply(half, left, d, N), multiply(turned, half, right, N);
        for (int i = 0; i < AREA && t > 1; i++) CHECK_CLOSE(d_turned[i], turned[i], 1e-9);
    }
    problem_close(&one);
    problem_close(&two);
}

// Runs both through `steps` steps; the largest difference of their directions.
static double difference(Problem *one, Problem *two, int64_t steps) {
    int64_t count = one->rows * one->columns;
    double *g = new_numbers(count), *d[2] = {new_numbers(count), new_numbers(count)}, worst = 0;
    for (int64_t t = 1; t <= steps; t++) {
        random_numbers(g, count, (uint32_t)t);
        problem_step(one, t, g, d[0]);
        problem_step(two, t, g, d[1]);
        for (int64_t i = 0; i < count; i++) worst = fmax(worst, fabs(d[0][i] - d[1][i]));
    }
    free(g), free(d[0]), free(d[1]);
    return worst;
}

TEST(single_precision_comes_close_to_double) {
    const int64_t shapes[][2] = {{12, 8}, {5, 12}, {6, 6}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int shift = 0; shift < 2; shift++) {
            HyperOptions hyper = every(10);
            hyper.precondition_shift = shift ? 1e-3 : 0;
            Problem f32 = problem_open(&cpu_kernels, 2, DTYPE_F32, shapes[s][0], shapes[s][1], hyper);
            Problem f64 = problem_open(&reference_kernels, 1, DTYPE_F64, shapes[s][0], shapes[s][1], hyper);
            CHECK_CLOSE(difference(&f32, &f64, 30), 0, 1e-4);
            problem_close(&f32);
            problem_close(&f64);
        }
}

TEST(the_number_of_threads_changes_nothing) {
    enum { STEPS = 5, ROWS = 40, COLUMNS = 56 };
    double g[ROWS * COLUMNS], *state[2] = {0};
    size_t bytes = 0;
    for (int threads = 1; threads <= 2; threads++) {
        Problem p = problem_open(&cpu_kernels, threads, DTYPE_F32, ROWS, COLUMNS, every(2));
        for (int64_t t = 1; t <= STEPS; t++) {
            random_numbers(g, ROWS * COLUMNS, (uint32_t)t);
            problem_step(&p, t, g, NULL);
        }
        bytes = tensor_size_bytes(p.state);
        state[threads - 1] = test_take(bytes);
        memcpy(state[threads - 1], p.state.data, bytes);
        problem_close(&p);
    }
    assert_memory_equal(state[0], state[1], bytes);
    free(state[0]), free(state[1]);
}
