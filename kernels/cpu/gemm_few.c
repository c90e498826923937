// Products of few rows, which are bound by reading b once: a thread takes some columns of out past all rows of `a`. A
// thread that also computes has too few cache lines under way, so lines are asked for ahead.
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/gemm.h"
#include "runtime/integers.h"

enum {
    CHUNK = 16, // columns of out, of each group, that a thread takes at a time
    TILE_ROWS = 4,
    TILE_COLUMNS = 4,
    TILE_LANES = 8, // of one row
    LANES = 8,
    STEP = 2 * LANES, // one cache line
    AHEAD = 8192,     // elements: two pages of each of the rows of weights that are read side by side
    ELEMENTS_PER_WORK = 8,
};

// Of any alignment.
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

static inline float lane_sum(const Lanes *lanes) {
    const Lanes x = *lanes;
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

// Of an operand with several uses: gcc would load it again for each of them.
static inline Lanes load_once(const float *from) { return *(const volatile Lanes *)from; }

// ---- b transposed ----

// One tile of out; its sides are constants wherever this is called. All its dot products are summed alike, whatever the
// tile.
static inline __attribute__((always_inline)) void tile_dots(const Gemm *g, Tile tile, int64_t ahead) {
    const float *a[TILE_ROWS], *b[TILE_COLUMNS];
    Lanes sum[TILE_COLUMNS][TILE_ROWS] = {0};
    int64_t inner = g->inner, whole = inner / STEP * STEP;
    for (int i = 0; i < tile.rows; i++) a[i] = g->a.data + (tile.row + i) * g->a.stride;
    for (int j = 0; j < tile.columns; j++) b[j] = g->b.data + (tile.column + j) * g->b.stride;
    for (int64_t k = 0; k < whole; k += STEP) {
#pragma GCC unroll 4
        for (int j = 0; j < tile.columns; j++)
            if (ahead > 0) __builtin_prefetch(b[j] + k + ahead, 0, 2);
#pragma GCC unroll 2
        for (int64_t at = k; at < k + STEP; at += LANES) {
            Lanes x[TILE_ROWS];
#pragma GCC unroll 4
            for (int i = 0; i < tile.rows; i++) x[i] = load_once(a[i] + at);
#pragma GCC unroll 4
            for (int j = 0; j < tile.columns; j++) {
                Lanes w = tile.rows == 1 ? *(const Lanes *)(b[j] + at) : load_once(b[j] + at);
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

// The same of a tile as it comes.
static void tile_dots_of(const Gemm *g, Tile tile, int64_t ahead) {
#define SIDES(down, across)                                                 \
    if (tile.rows == down && tile.columns == across) {                      \
        tile_dots(g, (Tile){tile.row, down, tile.column, across}, ahead);   \
        return;                                                             \
    }
#define ROWS(down) SIDES(down, 4) SIDES(down, 2) SIDES(down, 1)
    ROWS(1) ROWS(2) ROWS(3) ROWS(4)
#undef ROWS
#undef SIDES
}

// Columns of out; one at a time where there are not enough for a tile.
static void dots(const Gemm *g, int64_t column, int64_t columns, int64_t ahead) {
    int64_t strips = divide_up(g->rows, TILE_ROWS), rows = divide_up(g->rows, strips);
    int64_t width = strips > 1 ? TILE_COLUMNS / 2 : TILE_COLUMNS; // what is in cache for the second strip
    for (int64_t end = column + columns, n; column < end; column += n) {
        n = end - column < width ? 1 : width;
        for (int64_t row = 0; row < g->rows; row += rows)
            tile_dots_of(g, (Tile){row, least(rows, g->rows - row), column, n}, ahead);
    }
}

void gemm_few_rows(const Gemm *g, int64_t groups, void (*finish)(const void *context, Tile tile),
                   const void *context) {
    int64_t columns = g->columns / groups, ahead = g->rows > 1 ? AHEAD : 0;
#pragma omp parallel for num_threads(cpu_team(g->columns * g->inner / ELEMENTS_PER_WORK))
    for (int64_t column = 0; column < columns; column += CHUNK) {
        int64_t n = least(CHUNK, columns - column);
        for (int64_t group = 0; group < groups; group++) dots(g, group * columns + column, n, ahead);
        if (finish) finish(context, (Tile){.rows = g->rows, .column = column, .columns = n});
    }
}

// ---- b as it is ----

// Adds to a tile of out, `lanes` LANES columns wide; rows and lanes are constants wherever this is called.
static inline __attribute__((always_inline)) void tile_sums(const Gemm *g, Tile tile, int lanes, int64_t ahead) {
    const float *a[TILE_ROWS], *b = g->b.data + tile.column;
    float *out[TILE_ROWS];
    Lanes sum[TILE_ROWS][TILE_LANES];
#pragma GCC unroll 4
    for (int i = 0; i < tile.rows; i++) {
        a[i] = g->a.data + (tile.row + i) * g->a.stride;
        out[i] = g->out + (tile.row + i) * g->stride + tile.column;
#pragma GCC unroll 8
        for (int l = 0; l < lanes; l++) sum[i][l] = *(const Lanes *)(out[i] + l * LANES);
    }
    for (int64_t k = 0; k < g->inner; k++, b += g->b.stride) {
#pragma GCC unroll 8
        for (int l = 0; l < lanes; l++) {
            if (l % 2 == 0 && ahead > 0) __builtin_prefetch(b + l * LANES + ahead, 0, 2);
            Lanes x = load_once(b + l * LANES);
#pragma GCC unroll 4
            for (int i = 0; i < tile.rows; i++) sum[i][l] += a[i][k] * x;
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < tile.rows; i++)
#pragma GCC unroll 8
        for (int l = 0; l < lanes; l++) *(Lanes *)(out[i] + l * LANES) = sum[i][l];
}

static void column_sums(const Gemm *g, int64_t column) {
    for (int64_t i = 0; i < g->rows; i++) {
        const float *a = g->a.data + i * g->a.stride;
        float *out = g->out + i * g->stride + column;
        for (int64_t k = 0; k < g->inner; k++) *out = fmaf(a[k], g->b.data[k * g->b.stride + column], *out);
    }
}

// All of out: as many columns at once as there are registers for.
static void sums(const Gemm *g, int64_t ahead) {
    int64_t columns = g->columns;
    for (int64_t row = 0, rows; row < g->rows; row += rows) {
        int64_t column = 0;
        rows = least(TILE_ROWS, g->rows - row);
#define WIDE(down, lanes)                                                                      \
    for (; rows == down && column + lanes * LANES <= columns; column += lanes * LANES)         \
        tile_sums(g, (Tile){.row = row, .rows = down, .column = column}, lanes, ahead);
        WIDE(1, 8) WIDE(2, 4) WIDE(3, 2) WIDE(4, 2) WIDE(1, 1) WIDE(2, 1) WIDE(3, 1) WIDE(4, 1)
#undef WIDE
    }
    for (int64_t column = columns / LANES * LANES; column < columns; column++) column_sums(g, column);
}

void gemm_few_product(const Gemm *g, int64_t ahead) {
    if (g->b.transposed) dots(g, 0, g->columns, ahead * g->b.stride);
    else sums(g, ahead * g->b.stride);
}
