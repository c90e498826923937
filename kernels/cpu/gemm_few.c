// Products of few rows, which are bound by reading the weights once: a thread takes some rows of weights past all rows
// of `a`. A thread has few cache lines under way where it computes at the same time, so lines are asked for ahead.
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "runtime/integers.h"

enum {
    CHUNK = 16, // columns of out, of each group, that a thread takes at a time
    TILE_ROWS = 4,
    TILE_COLUMNS = 4,
    LANES = 8,
    STEP = 2 * LANES, // one cache line of weights
    AHEAD = 8192,     // elements: two pages of each of the rows that are read side by side
    ELEMENTS_PER_WORK = 8,
};

// Of any alignment.
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

static inline float lane_sum(const Lanes *lanes) {
    const Lanes x = *lanes;
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

// One tile of out; its sides are constants wherever this is called. All its dot products are summed alike, whatever the
// tile. Of an operand with several uses the load is volatile: gcc would load it again for each of them.
static inline __attribute__((always_inline)) void tile_dots(const Gemm *g, Tile tile) {
    const float *a[TILE_ROWS], *b[TILE_COLUMNS];
    Lanes sum[TILE_COLUMNS][TILE_ROWS] = {0};
    int64_t inner = g->inner, whole = inner / STEP * STEP;
    bool once = tile.rows == 1;
    for (int i = 0; i < tile.rows; i++) a[i] = g->a.data + (tile.row + i) * g->a.stride;
    for (int j = 0; j < tile.columns; j++) b[j] = g->b.data + (tile.column + j) * g->b.stride;
    for (int64_t k = 0; k < whole; k += STEP) {
#pragma GCC unroll 4
        for (int j = 0; j < tile.columns; j++)
            if (!once) __builtin_prefetch(b[j] + k + AHEAD, 0, 2);
#pragma GCC unroll 2
        for (int64_t at = k; at < k + STEP; at += LANES) {
            Lanes x[TILE_ROWS];
#pragma GCC unroll 4
            for (int i = 0; i < tile.rows; i++) x[i] = *(const volatile Lanes *)(a[i] + at);
#pragma GCC unroll 4
            for (int j = 0; j < tile.columns; j++) {
                Lanes w = once ? *(const Lanes *)(b[j] + at) : *(const volatile Lanes *)(b[j] + at);
#pragma GCC unroll 4
                for (int i = 0; i < tile.rows; i++) sum[j][i] += w * x[i];
            }
        }
    }
#pragma GCC unroll 4
    for (int j = 0; j < tile.columns; j++)
#pragma GCC unroll 4
        for (int i = 0; i < tile.rows; i++) {
            float total = lane_sum(&sum[j][i]);
            for (int64_t k = whole; k < inner; k++) total = fmaf(b[j][k], a[i][k], total);
            g->out[(tile.row + i) * g->stride + tile.column + j] = total;
        }
}

// The same of a tile as it comes. One column at a time where there are not enough.
static void tile_product(const Gemm *g, Tile tile) {
#define SIDES(down, across)                                              \
    if (tile.rows == down && tile.columns == across) {                   \
        tile_dots(g, (Tile){tile.row, down, tile.column, across});       \
        return;                                                          \
    }
#define ROWS(down) SIDES(down, 4) SIDES(down, 2) SIDES(down, 1)
    ROWS(1) ROWS(2) ROWS(3) ROWS(4)
#undef ROWS
#undef SIDES
}

static void chunk_product(const Gemm *g, int64_t column, int64_t columns) {
    int64_t strips = divide_up(g->rows, TILE_ROWS), rows = divide_up(g->rows, strips);
    int64_t width = strips > 1 ? TILE_COLUMNS / 2 : TILE_COLUMNS; // what is in cache for the second strip
    for (int64_t end = column + columns, n; column < end; column += n) {
        n = end - column < width ? 1 : width;
        for (int64_t row = 0; row < g->rows; row += rows)
            tile_product(g, (Tile){row, least(rows, g->rows - row), column, n});
    }
}

void gemm_few_rows(const Gemm *g, int64_t groups, void (*finish)(const void *context, Tile tile),
                   const void *context) {
    int64_t columns = g->columns / groups;
#pragma omp parallel for num_threads(cpu_team(g->columns * g->inner / ELEMENTS_PER_WORK))
    for (int64_t column = 0; column < columns; column += CHUNK) {
        int64_t n = least(CHUNK, columns - column);
        for (int64_t group = 0; group < groups; group++) chunk_product(g, group * columns + column, n);
        if (finish) finish(context, (Tile){.rows = g->rows, .column = column, .columns = n});
    }
}
