// LAPACK counts by columns: what is a here is a' there. So the eigenvectors of a symmetric matrix come as rows, the
// orthogonal factor of a = q r is that of a' = r' q', and the two sides of a singular value decomposition change
// places.
#include "runtime/linear_algebra.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/error.h"
#include "runtime/memory.h"

// Of the LAPACK in OpenBLAS; behind the arguments come the lengths of those that are texts.
void dsyevd_(const char *job, const char *triangle, const int *n, double *a, const int *stride, double *values,
             double *work, const int *work_size, int *integers, const int *integer_size, int *info, size_t, size_t);
void dgelqf_(const int *rows, const int *columns, double *a, const int *stride, double *tau, double *work,
             const int *work_size, int *info);
void dorglq_(const int *rows, const int *columns, const int *reflectors, double *a, const int *stride,
             const double *tau, double *work, const int *work_size, int *info);
void dgesdd_(const char *job, const int *rows, const int *columns, double *a, const int *stride, double *values,
             double *u, const int *u_stride, double *v, const int *v_stride, double *work, const int *work_size,
             int *integers, int *info, size_t);

enum { QUERY = -1 }; // as a work size: only the best one is written, to work[0]

static const char work_space[] = "work space of LAPACK";

static bool is_countable(double size) { return size <= INT32_MAX; }

static bool is_finite(const double *a, int64_t count) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += a[i] * 0;
    return sum == 0;
}

static void reverse(double *a, double *values, int64_t n) {
    for (int64_t low = 0, high = n - 1; low < high; low++, high--) {
        double value = values[low];
        values[low] = values[high];
        values[high] = value;
        for (int64_t i = 0; i < n; i++) {
            double x = a[low * n + i];
            a[low * n + i] = a[high * n + i];
            a[high * n + i] = x;
        }
    }
}

bool eigenvectors(double *a, double *values, int64_t n) {
    double size = 1 + 6 * (double)n + 2 * (double)n * (double)n;
    if (!is_countable(size) || !is_finite(a, n * n)) return false;
    int order = (int)n, work_size = QUERY, integer_size = QUERY, info, integers_best;
    double best;
    dsyevd_("V", "L", &order, a, &order, values, &best, &work_size, &integers_best, &integer_size, &info, 1, 1);
    if (info != 0 || !is_countable(best)) return false;
    work_size = (int)best;
    integer_size = integers_best;
    double *work = memory_grow(NULL, work_size, sizeof *work, work_space);
    int *integers = memory_grow(NULL, integer_size, sizeof *integers, work_space);
    dsyevd_("V", "L", &order, a, &order, values, work, &work_size, integers, &integer_size, &info, 1, 1);
    free(work);
    free(integers);
    if (info == 0) reverse(a, values, n);
    return info == 0;
}

bool orthogonal_columns(double *a, int64_t rows, int64_t columns) {
    REQUIRE(rows >= columns && columns > 0, "%ld orthonormal columns of length %ld", (long)columns, (long)rows);
    if (!is_countable((double)rows * (double)columns) || !is_finite(a, rows * columns)) return false;
    int longer = (int)rows, shorter = (int)columns, work_size = QUERY, info;
    double factor_size, form_size, *tau = memory_grow(NULL, shorter, sizeof *tau, work_space);
    dgelqf_(&shorter, &longer, a, &shorter, tau, &factor_size, &work_size, &info);
    dorglq_(&shorter, &longer, &shorter, a, &shorter, tau, &form_size, &work_size, &info);
    work_size = (int)fmax(factor_size, form_size);
    double *work = memory_grow(NULL, work_size, sizeof *work, work_space);
    dgelqf_(&shorter, &longer, a, &shorter, tau, work, &work_size, &info);
    if (info == 0) dorglq_(&shorter, &longer, &shorter, a, &shorter, tau, work, &work_size, &info);
    free(work);
    free(tau);
    return info == 0;
}

bool singular_values(double *u, double *values, double *v, double *a, int64_t rows, int64_t columns) {
    REQUIRE(rows > 0 && columns > 0 && !u == !v, "(%ld, %ld), one side alone", (long)rows, (long)columns);
    double side = (double)(rows < columns ? rows : columns), area = (double)rows * (double)columns;
    if (!is_countable(area) || !is_countable(side * (4 * side + 7)) || !is_finite(a, rows * columns)) return false;
    int above = (int)columns, across = (int)rows, k = (int)side, work_size = QUERY, info;
    const char *job = u ? "S" : "N";
    double best, unused;
    int *integers = memory_grow(NULL, 8 * k, sizeof *integers, work_space);
    dgesdd_(job, &above, &across, a, &above, values, v ? v : &unused, &above, u ? u : &unused, &k, &best, &work_size,
            integers, &info, 1);
    bool good = info == 0 && is_countable(best);
    if (good) {
        work_size = (int)best;
        double *work = memory_grow(NULL, work_size, sizeof *work, work_space);
        dgesdd_(job, &above, &across, a, &above, values, v ? v : &unused, &above, u ? u : &unused, &k, work, &work_size,
                integers, &info, 1);
        free(work);
        good = info == 0;
    }
    free(integers);
    return good;
}
