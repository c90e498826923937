// Dense decompositions by LAPACK, in double, of row-major matrices without gaps in host memory. On as many threads as
// OpenBLAS was given. All return false where LAPACK fails: an iteration that does not converge, numbers that are not
// finite, or a matrix whose work space has more elements than its integers count.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// a (n, n), symmetric, becomes its eigenvectors, one a row; values (n) descending. Only the upper triangle is read.
bool eigenvectors(double *a, double *values, int64_t n);

// a (rows, columns) with rows >= columns becomes the factor with orthonormal columns of a = q r.
bool orthogonal_columns(double *a, int64_t rows, int64_t columns);

// a = u diag(values) v with u (rows, k), values (k) descending, v (k, columns), k the short side. a is lost. u and v
// may both be NULL: values alone.
bool singular_values(double *u, double *values, double *v, double *a, int64_t rows, int64_t columns);
