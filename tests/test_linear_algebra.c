// Decompositions: orthogonality, reconstruction and order, for shapes of every kind.
#include <math.h>

#include "runtime/linear_algebra.h"
#include "runtime/philox.h"
#include "tests/test.h"

typedef struct {
    int64_t rows, columns, rank;
} Shape;

// Random, of the given rank: a product of two factors.
static double *random_matrix(Shape s) {
    double *a = test_take((size_t)(s.rows * s.columns) * sizeof *a);
    for (int64_t r = 0; r < s.rank; r++)
        for (int64_t i = 0; i < s.rows; i++)
            for (int64_t j = 0; j < s.columns; j++)
                a[i * s.columns + j] += (philox_uniform(1, STREAM_TEST, (uint32_t)r, (uint64_t)i) - 0.5) *
                                        (philox_uniform(2, STREAM_TEST, (uint32_t)r, (uint64_t)j) - 0.5);
    return a;
}

static double *copy_of(const double *a, int64_t count) {
    double *b = test_take((size_t)count * sizeof *b);
    memcpy(b, a, (size_t)count * sizeof *b);
    return b;
}

// Largest deviation of q' q (columns) or q q' (rows) from the identity.
static double column_error(const double *q, int64_t rows, int64_t columns) {
    double worst = 0;
    for (int64_t i = 0; i < columns; i++)
        for (int64_t j = 0; j < columns; j++) {
            double sum = i == j ? -1 : 0;
            for (int64_t r = 0; r < rows; r++) sum += q[r * columns + i] * q[r * columns + j];
            worst = fmax(worst, fabs(sum));
        }
    return worst;
}
static double row_error(const double *q, int64_t rows, int64_t columns) {
    double worst = 0;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < rows; j++) {
            double sum = i == j ? -1 : 0;
            for (int64_t c = 0; c < columns; c++) sum += q[i * columns + c] * q[j * columns + c];
            worst = fmax(worst, fabs(sum));
        }
    return worst;
}

static const double TOLERANCE = 1e-13;

TEST(eigenvectors_are_orthonormal_and_give_the_matrix_back) {
    const Shape shapes[] = {{1, 1, 1}, {2, 2, 2}, {7, 7, 7}, {12, 12, 5}, {33, 33, 33}, {6, 6, 0}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int64_t n = shapes[s].rows;
        double *a = random_matrix(shapes[s]), *values = test_take((size_t)n * sizeof *values);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < i; j++) a[i * n + j] = a[j * n + i]; // indefinite
        double *q = copy_of(a, n * n);
        assert_true(eigenvectors(q, values, n));
        CHECK_CLOSE(row_error(q, n, n), 0, TOLERANCE);
        for (int64_t i = 1; i < n; i++) assert_true(values[i - 1] >= values[i]);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                double sum = 0;
                for (int64_t k = 0; k < n; k++) sum += values[k] * q[k * n + i] * q[k * n + j];
                CHECK_CLOSE(sum, a[i * n + j], TOLERANCE);
            }
        free(a), free(q), free(values);
    }
}

TEST(orthogonal_columns_span_what_the_matrix_spans) {
    const Shape shapes[] = {{1, 1, 1}, {5, 1, 1}, {7, 7, 7}, {12, 5, 5}, {33, 17, 17}, {9, 6, 3}, {4, 4, 0}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int64_t rows = shapes[s].rows, columns = shapes[s].columns;
        double *a = random_matrix(shapes[s]), *q = copy_of(a, rows * columns);
        double *r = test_take((size_t)(columns * columns) * sizeof *r);
        assert_true(orthogonal_columns(q, rows, columns));
        CHECK_CLOSE(column_error(q, rows, columns), 0, TOLERANCE);
        for (int64_t i = 0; i < columns; i++)
            for (int64_t j = 0; j < columns; j++) {
                for (int64_t k = 0; k < rows; k++) r[i * columns + j] += q[k * columns + i] * a[k * columns + j];
                if (i > j) CHECK_CLOSE(r[i * columns + j], 0, TOLERANCE);
            }
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++) {
                double sum = 0;
                for (int64_t k = 0; k < columns; k++) sum += q[i * columns + k] * r[k * columns + j];
                CHECK_CLOSE(sum, a[i * columns + j], TOLERANCE);
            }
        free(a), free(q), free(r);
    }
}

TEST(singular_values_and_vectors_give_the_matrix_back) {
    const Shape shapes[] = {{1, 1, 1}, {1, 9, 1}, {9, 1, 1},   {7, 7, 7}, {12, 5, 5},
                            {5, 12, 5}, {33, 17, 17}, {10, 8, 3}, {3, 4, 0}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        int64_t rows = shapes[s].rows, columns = shapes[s].columns, k = rows < columns ? rows : columns;
        double *a = random_matrix(shapes[s]), *work = copy_of(a, rows * columns);
        double *u = test_take((size_t)(rows * k) * sizeof *u), *v = test_take((size_t)(k * columns) * sizeof *v);
        double *values = test_take((size_t)k * sizeof *values), *alone = test_take((size_t)k * sizeof *alone);
        assert_true(singular_values(u, values, v, work, rows, columns));
        CHECK_CLOSE(column_error(u, rows, k), 0, TOLERANCE);
        CHECK_CLOSE(row_error(v, k, columns), 0, TOLERANCE);
        for (int64_t i = 0; i < k; i++) assert_true(values[i] >= (i + 1 < k ? values[i + 1] : 0));
        for (int64_t i = shapes[s].rank; i < k; i++) CHECK_CLOSE(values[i], 0, TOLERANCE);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++) {
                double sum = 0;
                for (int64_t l = 0; l < k; l++) sum += u[i * k + l] * values[l] * v[l * columns + j];
                CHECK_CLOSE(sum, a[i * columns + j], TOLERANCE);
            }
        memcpy(work, a, (size_t)(rows * columns) * sizeof *work);
        assert_true(singular_values(NULL, alone, NULL, work, rows, columns));
        for (int64_t i = 0; i < k; i++) CHECK_CLOSE(alone[i], values[i], TOLERANCE);
        free(a), free(work), free(u), free(v), free(values), free(alone);
    }
}

TEST(numbers_that_are_not_finite_are_refused) {
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        double a[4] = {1, 0, bad[i], 1}, values[2], u[4], v[4];
        assert_false(eigenvectors((double[]){1, bad[i], bad[i], 1}, values, 2));
        assert_false(singular_values(u, values, v, (double[]){1, 0, bad[i], 1}, 2, 2));
        assert_false(orthogonal_columns(a, 2, 2));
    }
}
