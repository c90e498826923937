// Newton-Schulz: what its polynomials do to singular values, and that the iteration does just that to matrices.
#include <math.h>

#include "optim/newton_schulz.h"
#include "optim/recipes.h"
#include "runtime/linear_algebra.h"
#include "runtime/philox.h"
#include "tests/reference/reference.h"
#include "tests/support_model.h"
#include "tests/test.h"

// ---- polynomials ----

static Polynomial polynomial(const char *name, int64_t steps, double safety) {
    Polynomial p;
    Errors errors = {0};
    if (!polynomial_make(&p, "ns", &(PolynomialSpec){name, steps, "auto", safety}, &errors))
        fail_msg("%s", text_string(&errors.text));
    return p;
}

static Polynomial list(const char *name) { return polynomial(name, OPTION_AUTO, NAN); }

// Extremes of the map on [from, to].
static void check_band(const char *name, double from, double to, double low, double high) {
    enum { POINTS = 100000 };
    Polynomial p = polynomial(name, OPTION_AUTO, 1);
    double least = INFINITY, most = -INFINITY;
    for (int i = 0; i <= POINTS; i++) {
        double image = polynomial_map(&p, from * pow(to / from, (double)i / POINTS));
        least = fmin(least, image);
        most = fmax(most, image);
    }
    CHECK_CLOSE(least, low, 6e-5);
    CHECK_CLOSE(most, high, 6e-5);
}

TEST(lists_map_singular_values_into_their_bands) {
    check_band("keller5", 1e-2, 1, 0.6818, 1.1344);
    check_band("keller5", 3e-3, 1, 0.6818, 1.2024);
    check_band("you5", 1e-2, 1, 0.9778, 1.0318);
    check_band("polar5", 1e-3, 1, 0.8589, 1.1411);
    Polynomial keller = list("keller5");
    CHECK_CLOSE(polynomial_map(&keller, 1), 0.696, 5e-4);
    CHECK_CLOSE(polynomial_map(&keller, 1e-3), 0.4705, 5e-5);
    CHECK_CLOSE(polynomial_map(&keller, 1e-4), 0.0485, 5e-5);
    CHECK_CLOSE(polynomial_map(&keller, 0), 0, 0);
}

TEST(more_steps_repeat_the_last_polynomial_and_safety_divides) {
    Polynomial five = list("you5"), seven = polynomial("you5", 7, NAN), two = polynomial("you5", 2, NAN);
    assert_int_equal(five.steps, 5);
    assert_int_equal(seven.steps, 7);
    assert_int_equal(two.steps, 2);
    for (int i = 0; i < 7; i++) assert_memory_equal(seven.e[i], five.e[i < 5 ? i : 4], 3 * sizeof five.e[0][0]);
    Polynomial careful = polynomial("you5", OPTION_AUTO, 1.5);
    CHECK_CLOSE(polynomial_map(&careful, 0.6), polynomial_map(&five, 0.4), 1e-15);
}

// ---- Taylor series (Kim and Oh, 2601.19156) ----

TEST(taylor_polynomials_are_the_series_of_an_inverse_root) {
    static const double expected[5][6] = {
        {1.5, -0.5},
        {1.875, -1.25, 0.375},
        {2.1875, -2.1875, 1.3125, -0.3125},
        {2.4609375, -3.28125, 2.953125, -1.40625, 0.2734375},
        {2.70703125, -4.51171875, 5.4140625, -3.8671875, 1.50390625, -0.24609375}};
    for (int degree = 1; degree <= 5; degree++) {
        char name[] = "taylor:0";
        name[7] = (char)('0' + degree);
        Polynomial p = list(name);
        assert_int_equal(p.terms, degree + 1);
        for (int step = 0; step < p.steps; step++)
            for (int j = 0; j <= degree; j++) CHECK_CLOSE(p.e[step][j], expected[degree - 1][j], 1e-14);
    }
}

// What one step makes of the residual u = 1 - sigma^2.
TEST(taylor_steps_shrink_the_residual_as_their_closed_form_says) {
    Polynomial one = polynomial("taylor:1", 1, NAN), two = polynomial("taylor:2", 1, NAN);
    for (int i = 0; i <= 100; i++) {
        double u = i / 100.0, sigma = sqrt(1 - u);
        CHECK_CLOSE(1 - pow(polynomial_map(&one, sigma), 2), u * u * (3 + u) / 4, 2e-15);
        CHECK_CLOSE(1 - pow(polynomial_map(&two, sigma), 2), u * u * u * (40 + 15 * u + 9 * u * u) / 64, 2e-15);
    }
}

// The distance from 1 after q = 1, 2, ... steps, and the paper's bound on it.
TEST(taylor_steps_converge_as_fast_as_the_theorem_says) {
    static const struct {
        int degree;
        double sigma, errors[8];
    } rows[] = {{1, 0.5, {0.312, 0.131, 0.0247, 9.08e-4, 1.24e-6, 2.3e-12}},
                {2, 0.5, {0.207, 0.0189, 1.66e-5}},
                {3, 0.5, {0.141, 1.46e-3, 2.0e-11}},
                {1, 0.1, {0.851, 0.777, 0.672, 0.525, 0.341, 0.155, 0.0341, 1.72e-3}},
                {2, 0.1, {0.814, 0.659, 0.408, 0.122, 4.15e-3, 1.8e-7}}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int q = 1; q <= 8 && rows[i].errors[q - 1] > 0; q++) {
            char name[] = "taylor:0";
            name[7] = (char)('0' + rows[i].degree);
            Polynomial p = polynomial(name, q, NAN);
            double error = 1 - polynomial_map(&p, rows[i].sigma), expected = rows[i].errors[q - 1];
            double bound = 1 - sqrt(1 - pow(1 - rows[i].sigma * rows[i].sigma, pow(rows[i].degree + 1, q)));
            CHECK_CLOSE(error, expected, 0.03 * expected);
            assert_true(error <= bound + 1e-15);
        }
    }
}

// ---- matrices ----

// `count` matrices on a backend in its own precision.
typedef struct {
    const Kernels *kernels;
    Polynomial polynomial;
    int64_t count, rows, columns;
    NewtonSchulzWay way;
    bool half;
} Job;

static void place(const Job *job, NewtonSchulz *room, Arena *arena, DType dtype) {
    newton_schulz_place(room, arena, dtype, &job->polynomial, (int64_t[]){job->count, job->rows, job->columns});
    if (job->half)
        room->half = arena_tensor(arena, "half", tensor_3d(NULL, DTYPE_BF16, job->count, job->rows, job->columns));
}

static double *orthogonalised(const Job *job, const double *matrices) { // for free()
    DType dtype = job->kernels == &reference_kernels ? DTYPE_F64 : DTYPE_F32;
    NewtonSchulz room = {0};
    Arena arena = {.name = "test"};
    Errors errors = {0};
    if (!job->kernels->open(2, 0, &errors)) fail_msg("%s", text_string(&errors.text));
    place(job, &room, &arena, dtype);
    size_t bytes = arena.used;
    void *memory = job->kernels->take_memory(bytes);
    arena_begin_placing(&arena, memory);
    place(job, &room, &arena, dtype);
    tensor_upload(job->kernels, room.x[0], matrices);
    Tensor out = newton_schulz(job->kernels, &job->polynomial, &room, job->count, job->way);
    double *values = tensor_download(job->kernels, out);
    job->kernels->return_memory(memory, bytes);
    arena_close(&arena);
    return values;
}

static double *gaussian(int64_t count, uint64_t seed) {
    float *normal = test_take((size_t)count * sizeof *normal);
    double *values = test_take((size_t)count * sizeof *values);
    philox_normal(normal, count, 1, seed, STREAM_TEST, 0, 0);
    for (int64_t i = 0; i < count; i++) values[i] = (double)normal[i];
    free(normal);
    return values;
}

static double *transposed(const double *m, int64_t rows, int64_t columns) {
    double *out = test_take((size_t)(rows * columns) * sizeof *out);
    for (int64_t i = 0; i < rows * columns; i++) out[i % columns * rows + i / columns] = m[i];
    return out;
}

static double *product(const double *a, const double *b, int64_t rows, int64_t inner, int64_t columns) {
    double *out = test_take((size_t)(rows * columns) * sizeof *out);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < inner; k++)
            for (int64_t j = 0; j < columns; j++) out[i * columns + j] += a[i * inner + k] * b[k * columns + j];
    return out;
}

static double inner(const double *a, const double *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

static double distance(const double *a, const double *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(sum);
}

static const char *const every_list[] = {"keller5",  "you5",     "polar5",   "cubic5",   "taylor:1", "taylor:2",
                                         "taylor:3", "taylor:4", "taylor:5", "taylor:6", "taylor:7", "exact"};
enum { LISTS = sizeof every_list / sizeof every_list[0] };
static const int64_t shapes[][2] = {{6, 6}, {12, 5}, {5, 12}, {1, 7}, {7, 1}, {1, 1}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

// u map(values / norm) v, by LAPACK.
static double *by_singular_values(const Polynomial *p, const double *m, int64_t rows, int64_t columns) {
    int64_t side = rows < columns ? rows : columns;
    double *copy = test_take((size_t)(rows * columns) * sizeof *copy);
    double *u = test_take((size_t)(rows * side) * sizeof *u);
    double *values = test_take((size_t)side * sizeof *values);
    double *v = test_take((size_t)(side * columns) * sizeof *v);
    memcpy(copy, m, (size_t)(rows * columns) * sizeof *copy);
    assert_true(singular_values(u, values, v, copy, rows, columns));
    double norm = sqrt(inner(values, values, side));
    for (int64_t i = 0; i < rows * side; i++) u[i] *= polynomial_map(p, values[i % side] / norm);
    double *out = product(u, v, rows, side, columns);
    free(copy);
    free(u);
    free(values);
    free(v);
    return out;
}

TEST(matrices_become_what_the_map_makes_of_their_singular_values) {
    static const struct {
        const Kernels *kernels;
        double tolerance;
    } backends[] = {{&reference_kernels, 1e-13}, {&cpu_kernels, 2e-5}};
    for (int n = 0; n < LISTS * SHAPES * 2; n++) {
        int64_t rows = shapes[n / 2 % SHAPES][0], columns = shapes[n / 2 % SHAPES][1], size = rows * columns;
        Job job = {backends[n % 2].kernels, list(every_list[n / 2 / SHAPES]), 3, rows, columns, {0}, false};
        double *m = gaussian(3 * size, (uint64_t)n / 2), *o = orthogonalised(&job, m);
        for (int k = 0; k < 3; k++) {
            double *expected = by_singular_values(&job.polynomial, m + k * size, rows, columns);
            double error = distance(o + k * size, expected, size), most = backends[n % 2].tolerance;
            if (!(error <= most * sqrt(inner(expected, expected, size))))
                fail_msg("%s of (%ld, %ld) is %.3g off", every_list[n / 2 / SHAPES], (long)rows, (long)columns, error);
            free(expected);
        }
        free(m);
        free(o);
    }
}

TEST(exact_is_the_polar_factor_down_to_small_singular_values) {
    enum { N = 8 };
    double *a = gaussian(N * N, 1), *b = gaussian(N * N, 2), scaled[N * N];
    assert_true(orthogonal_columns(a, N, N) && orthogonal_columns(b, N, N));
    for (int i = 0; i < N * N; i++) scaled[i] = a[i] * pow(10, -8.0 * (i % N) / (N - 1)); // 1 .. 1e-8
    Job job = {&reference_kernels, list("exact"), 1, N, N, {0}, false};
    double *m = product(scaled, b, N, N, N), *polar = product(a, b, N, N, N), *o = orthogonalised(&job, m);
    CHECK_CLOSE(distance(o, polar, N * N), 0, 1e-7); // the matrix itself is known to 1e-16 / 1e-8
    double *t = transposed(o, N, N), *gram = product(o, t, N, N, N);
    for (int i = 0; i < N * N; i++) gram[i] -= i % (N + 1) == 0;
    CHECK_CLOSE(sqrt(inner(gram, gram, N * N)), 0, 1e-12);
    double *free_them[] = {a, b, m, polar, o, t, gram};
    for (size_t i = 0; i < sizeof free_them / sizeof free_them[0]; i++) free(free_them[i]);
}

// ---- symmetries ----

TEST(a_transposed_or_negated_matrix_has_a_transposed_or_negated_result) {
    for (int n = 0; n < LISTS * SHAPES; n++) {
        int64_t rows = shapes[n % SHAPES][0], columns = shapes[n % SHAPES][1], size = rows * columns;
        Job job = {&reference_kernels, list(every_list[n / SHAPES]), 1, rows, columns, {0}, false}, turned = job;
        turned.rows = columns, turned.columns = rows;
        double *m = gaussian(size, 3), *t = transposed(m, rows, columns), *o = orthogonalised(&job, m);
        double *ot = orthogonalised(&turned, t), *back = transposed(ot, columns, rows);
        CHECK_CLOSE(distance(o, back, size), 0, 1e-13);
        for (int64_t i = 0; i < size; i++) m[i] = -m[i];
        double *minus = orthogonalised(&job, m);
        for (int64_t i = 0; i < size; i++) CHECK_CLOSE(minus[i], -o[i], 0);
        double *free_them[] = {m, t, o, ot, back, minus};
        for (size_t i = 0; i < sizeof free_them / sizeof free_them[0]; i++) free(free_them[i]);
    }
}

TEST(turning_a_matrix_turns_the_result) {
    enum { R = 5, C = 8 };
    double *q = gaussian(R * R, 4), *r = gaussian(C * C, 5), *m = gaussian(R * C, 6);
    assert_true(orthogonal_columns(q, R, R) && orthogonal_columns(r, C, C));
    double *qm = product(q, m, R, R, C), *qmr = product(qm, r, R, C, C);
    for (int i = 0; i < LISTS; i++) {
        Job job = {&reference_kernels, list(every_list[i]), 1, R, C, {0}, false};
        double *o = orthogonalised(&job, m), *turned = orthogonalised(&job, qmr);
        double *qo = product(q, o, R, R, C), *qor = product(qo, r, R, C, C);
        CHECK_CLOSE(distance(turned, qor, R * C), 0, 1e-13);
        free(o);
        free(turned);
        free(qo);
        free(qor);
    }
    double *free_them[] = {q, r, m, qm, qmr};
    for (size_t i = 0; i < sizeof free_them / sizeof free_them[0]; i++) free(free_them[i]);
}

// The clamp is far below what gradients are; the released code's 1e-7 is not.
TEST(the_size_of_a_matrix_does_not_matter_unless_it_is_official) {
    enum { R = 6, C = 9 };
    const Kernels *const backends[] = {&reference_kernels, &cpu_kernels};
    for (int n = 0; n < 2; n++) {
        Job job = {backends[n], list("keller5"), 1, R, C, {0}, false}, official = job;
        official.way.official = true;
        double *m = gaussian(R * C, 7), *o = orthogonalised(&job, m), size = sqrt(inner(o, o, R * C));
        for (int e = -40; e <= 40; e += 4) { // powers of 2: the same bits
            for (int i = 0; i < R * C; i++) m[i] = ldexp(m[i], e);
            double *scaled = orthogonalised(&job, m);
            assert_memory_equal(scaled, o, R * C * sizeof *o);
            free(scaled);
            for (int i = 0; i < R * C; i++) m[i] = ldexp(m[i], -e);
        }
        double norm = sqrt(inner(m, m, R * C));
        for (int i = 0; i < R * C; i++) m[i] *= 1e-11 / norm;
        double *small = orthogonalised(&job, m), *less = orthogonalised(&official, m);
        CHECK_CLOSE(sqrt(inner(small, small, R * C)), size, 1e-5 * size);
        assert_true(sqrt(inner(less, less, R * C)) < 0.9 * size);
        free(m);
        free(o);
        free(small);
        free(less);
    }
}

TEST(nothing_comes_of_nothing) {
    enum { R = 4, C = 7 };
    const Kernels *const backends[] = {&reference_kernels, &cpu_kernels};
    for (int n = 0; n < LISTS * 2; n++) {
        Job job = {backends[n % 2], list(every_list[n / 2]), 2, R, C, {.match = n % 3 == 0}, false};
        double *m = gaussian(2 * R * C, 8);
        for (int i = 0; i < R * C; i++) m[i] = 0;                          // a whole matrix
        for (int i = 0; i < C; i++) m[R * C + i] = 0;                      // a row of another
        for (int i = 0; i < R; i++) m[R * C + i * C + 3] = 0;              // a column
        double *o = orthogonalised(&job, m);
        for (int i = 0; i < 2 * R * C; i++)
            if (m[i] == 0) CHECK_CLOSE(o[i], 0, 0);
        assert_true(inner(o, o, 2 * R * C) > 1);
        free(m);
        free(o);
    }
}

TEST(matched_results_have_the_norm_of_an_orthogonal_matrix) {
    for (int n = 0; n < LISTS * SHAPES; n++) {
        int64_t rows = shapes[n % SHAPES][0], columns = shapes[n % SHAPES][1], side = rows < columns ? rows : columns;
        Job job = {&reference_kernels, list(every_list[n / SHAPES]), 1, rows, columns, {.match = true}, false};
        double *m = gaussian(rows * columns, 9), *o = orthogonalised(&job, m);
        CHECK_CLOSE(inner(o, o, rows * columns), (double)side, 1e-12);
        free(m);
        free(o);
    }
}

// ---- scales ----

TEST(scales_are_functions_of_the_shape) {
    static const struct {
        ScaleKind kind;
        double tall, wide; // (3072, 768), (768, 3072)
    } rows[] = {{SCALE_KELLER, 2, 1}, {SCALE_SPECTRAL, 2, 0.5}, {SCALE_RMS, 0.2, 0.2},
                {SCALE_MOONLIGHT, 11.085125168440814, 11.085125168440814}};
    Errors errors = {0};
    Route route = {.recipe = recipe_find("optim.name", "muon", &errors)};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        route.hyper.scale = rows[i].kind;
        CHECK_CLOSE(route_move_scale(&route, 3072, 768), rows[i].tall, 1e-14);
        CHECK_CLOSE(route_move_scale(&route, 768, 3072), rows[i].wide, 1e-14);
    }
    route.recipe = recipe_find("optim.name", "soap", &errors);
    CHECK_CLOSE(route_move_scale(&route, 3072, 768), 1, 0);
}

// Of full rank, moonlight's is an update of root mean square 0.2 whatever the shape.
TEST(an_exact_factor_has_the_same_root_mean_square_in_every_shape) {
    for (int i = 0; i < SHAPES; i++) {
        int64_t rows = shapes[i][0], columns = shapes[i][1], longer = rows > columns ? rows : columns;
        Job job = {&reference_kernels, list("exact"), 1, rows, columns, {0}, false};
        double *m = gaussian(rows * columns, 10), *o = orthogonalised(&job, m);
        CHECK_CLOSE(sqrt(inner(o, o, rows * columns) / (double)(rows * columns)), 1 / sqrt((double)longer), 1e-12);
        free(m);
        free(o);
    }
}

// ---- a matrix of a real size, in fp32 ----

TEST(a_large_random_matrix_comes_as_near_as_measured) {
    enum { R = 768, C = 3072 };
    const double norm = sqrt(R); // of the polar factor
    static const struct {
        const char *name;
        int64_t steps;
        double away, slower; // relative distance from the polar factor; <m, polar> / <m, result>; 0: not asked
        double tolerance;
    } rows[] = {{"keller5", OPTION_AUTO, 0.162, 0, 0.01}, {"you5", OPTION_AUTO, 0.016, 0, 0.002},
                {"taylor:2", 5, 0, 1.42, 0.02}, {"taylor:2", 7, 0, 1.004, 0.002}, {"taylor:3", 5, 0, 1.044, 0.004}};
    double *m = gaussian(R * C, 11), half[2];
    Job job = {&cpu_kernels, list("exact"), 1, R, C, {0}, false};
    double *polar = orthogonalised(&job, m);
    CHECK_CLOSE(sqrt(inner(polar, polar, R * C)), norm, 1e-5 * norm);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        job.polynomial = polynomial(rows[i].name, rows[i].steps, NAN);
        double *o = orthogonalised(&job, m);
        if (rows[i].away > 0) CHECK_CLOSE(distance(o, polar, R * C) / norm, rows[i].away, rows[i].tolerance);
        if (rows[i].slower > 0)
            CHECK_CLOSE(inner(m, polar, R * C) / inner(m, o, R * C), rows[i].slower, rows[i].tolerance);
        free(o);
    }
    job.polynomial = list("keller5");
    for (int i = 0; i < 2; i++) { // and in bf16 about as near
        job.half = i == 1;
        double *o = orthogonalised(&job, m);
        half[i] = distance(o, polar, R * C) / norm;
        free(o);
    }
    assert_true(half[0] != half[1]);
    CHECK_CLOSE(half[0], half[1], 0.01);
    free(m);
    free(polar);
}
