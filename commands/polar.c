#include "commands/polar.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/error.h"
#include "runtime/linear_algebra.h"
#include "runtime/memory.h"
#include "runtime/philox.h"

const double polar_quantiles[POLAR_QUANTILES] = {0, 0.01, 0.1, 0.5, 0.9, 1};

static double *take(int64_t count) { return memory_take(count, sizeof(double), "a matrix"); }

static int64_t short_side(int64_t rows, int64_t columns) { return rows < columns ? rows : columns; }

// out (rows, columns) = a (rows, inner) b (inner, columns), all without gaps but a, which has a stride.
static void multiply(double *out, const double *a, int64_t stride, const double *b, int64_t rows, int64_t columns,
                     int64_t inner) {
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)rows, (blasint)columns, (blasint)inner, 1, a,
                (blasint)stride, b, (blasint)columns, 0, out, (blasint)columns);
}

static double inner_product(const double *a, const double *b, int64_t count) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

// ---- the exact factor ----

bool polar_open(Polar *p, const double *matrix, int64_t rows, int64_t columns) {
    int64_t area = rows * columns, k = short_side(rows, columns);
    double norm = sqrt(inner_product(matrix, matrix, area));
    *p = (Polar){.rows = rows, .columns = columns, .frobenius = norm};
    if (norm == 0 || !isfinite(norm)) return false;
    p->matrix = take(area);
    p->factor = take(area);
    double *u = take(rows * k), *v = take(k * columns), *sigma = take(k);
    for (int64_t i = 0; i < area; i++) p->matrix[i] = matrix[i] / norm;
    memcpy(p->factor, p->matrix, (size_t)area * sizeof *p->factor);
    bool good = singular_values(u, sigma, v, p->factor, rows, columns);
    if (good) {
        double rounding = (double)(rows > columns ? rows : columns) * 0x1p-52 * sigma[0];
        while (p->rank < k && sigma[p->rank] > rounding) p->nuclear += sigma[p->rank++];
        p->smallest = sigma[p->rank - 1];
        multiply(p->factor, u, k, v, rows, columns, p->rank);
    }
    free(u), free(v), free(sigma);
    if (!good) polar_close(p);
    return good;
}

void polar_close(Polar *p) {
    free(p->matrix);
    free(p->factor);
    p->matrix = p->factor = NULL;
}

// ---- an iterate ----

// Between the neighbours in `descending`.
static double quantile(const double *descending, int64_t count, double share) {
    double place = (1 - share) * (double)(count - 1);
    int64_t low = (int64_t)place, high = low + 1 < count ? low + 1 : low;
    return descending[low] + (place - (double)low) * (descending[high] - descending[low]);
}

// The eigenvalues of X X' are the squares of sigma; Pi has 1 for the first `rank`, 0 for the others.
static void measure_residual(PolarError *e, const double *sigma, int64_t k, int64_t rank) {
    double squares = 0;
    e->delta = 0;
    e->log_delta = -INFINITY;
    for (int64_t i = 0; i < k; i++) {
        double s = sigma[i] * sigma[i], from = i < rank ? fabs(1 - s) : s;
        squares += (1 - s) * (1 - s);
        if (from <= e->delta) continue;
        e->delta = from;
        e->log_delta = i < rank && s < 1 ? log1p(-s) : log(from);
    }
    e->orthogonality = sqrt(squares / (double)k);
}

bool polar_measure(const Polar *p, const double *x, PolarError *e) {
    int64_t area = p->rows * p->columns, k = short_side(p->rows, p->columns);
    double *work = take(area), *sigma = take(k);
    *e = (PolarError){.chi = p->nuclear / inner_product(p->matrix, x, area),
                      .rms = sqrt(inner_product(x, x, area) / (double)k)};
    memcpy(work, x, (size_t)area * sizeof *work);
    bool good = singular_values(NULL, sigma, NULL, work, p->rows, p->columns);
    if (good) {
        measure_residual(e, sigma, k, p->rank);
        for (int i = 0; i < POLAR_QUANTILES; i++) e->sigma[i] = quantile(sigma, k, polar_quantiles[i]);
        for (int64_t i = 0; i < area; i++) work[i] = x[i] - p->factor[i];
        e->relative = sqrt(inner_product(work, work, area) / (double)p->rank);
        good = singular_values(NULL, sigma, NULL, work, p->rows, p->columns);
        e->epsilon = sigma[0];
    }
    free(work), free(sigma);
    return good;
}

PolarBound polar_bound(const Polar *p, double safety, int kappa, int q) {
    double square = p->smallest / safety * (p->smallest / safety);
    PolarBound b = {.log_delta_0 = square < 1 ? log1p(-square) : -INFINITY, .exponent = pow(kappa + 1, q)};
    double log_delta = b.exponent * b.log_delta_0;
    b.delta = exp(log_delta);
    b.epsilon = b.delta / (1 + sqrt(-expm1(log_delta))); // 1 - sqrt(1 - delta), also where that is small
    return b;
}

// ---- matrices ----

static double *random_normal(int64_t rows, int64_t columns, uint64_t seed, uint32_t which) {
    enum { PIECE = 1 << 12 };
    float piece[PIECE];
    double *out = take(rows * columns);
    for (int64_t i = 0, count = rows * columns; i < count; i++) {
        if (i % PIECE == 0)
            philox_normal(piece, count - i < PIECE ? count - i : PIECE, 1, seed, STREAM_BENCH, which, (uint64_t)i);
        out[i] = piece[i % PIECE];
    }
    return out;
}

double *polar_gaussian(int64_t rows, int64_t columns, uint64_t seed) { return random_normal(rows, columns, seed, 1); }

double *polar_spectrum(const double *sigma, int64_t count, int64_t rows, int64_t columns, uint64_t seed) {
    REQUIRE(count <= short_side(rows, columns), "%ld singular values of (%ld, %ld)", (long)count, (long)rows,
            (long)columns);
    double *u = random_normal(rows, count, seed, 2), *v = random_normal(columns, count, seed, 3);
    double *turned = take(count * columns), *out = take(rows * columns);
    bool good = orthogonal_columns(u, rows, count) && orthogonal_columns(v, columns, count);
    REQUIRE(good, "LAPACK makes no random orthogonal matrix of %ld columns", (long)count);
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < columns; j++) turned[i * columns + j] = sigma[i] * v[j * count + i];
    multiply(out, u, count, turned, rows, columns, count);
    free(u), free(v), free(turned);
    return out;
}
