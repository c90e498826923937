// Matrix products. The first two forms give the same bits for any number of threads.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// A row-major matrix, or (transposed) the transpose of the one that lies in memory with this stride.
typedef struct {
    const float *data;
    int64_t stride;
    bool transposed;
} Operand;

static inline Operand operand(const float *data, int64_t stride) { return (Operand){data, stride, false}; }
static inline Operand transposed(const float *data, int64_t stride) { return (Operand){data, stride, true}; }

// out (rows, columns) = scale a b, or += when it accumulates; a is (rows, inner), b is (inner, columns).
typedef struct {
    int64_t rows, columns, inner;
    Operand a, b;
    float scale;
    bool accumulate;
    float *out;
    int64_t stride; // of out
} Gemm;

// On the calling thread.
void gemm_product(const Gemm *gemm);

typedef struct {
    int64_t row, rows, column, columns;
} Tile;

// The sides of even tiles of a matrix: at least so many of them, as far as they are worth it.
Tile gemm_tile(int64_t rows, int64_t columns, int64_t tiles);

// On all threads. The columns of out are `groups` parts of equal width, and a tile is the same place in each of them:
// once it is done in all, `finish` (or NULL) is called with the place in the first one, while the tile is hot.
void gemm_tiled(const Gemm *gemm, int64_t groups, void (*finish)(const void *context, Tile tile),
                const void *context);

// The same for few rows of a, with b transposed: bound by reading b once. A row of out depends on its row of a alone.
enum { GEMM_FEW_ROWS = 12 };
void gemm_few_rows(const Gemm *gemm, int64_t groups, void (*finish)(const void *context, Tile tile),
                   const void *context);

// On the calling thread and without scale: out = a b where b is transposed, out += a b where it is not. What lies
// `ahead` rows further in b's memory is asked for early.
void gemm_few_product(const Gemm *gemm, int64_t ahead);

// As OpenBLAS does it on its own threads: a measure of the tiled form, and not reproducible.
void gemm_library(const Gemm *gemm);
