// Dense products by single-threaded sgemm over tiles that depend on the shape alone.
#include "kernels/cpu/gemm.h"

#include <cblas.h>
#include <omp.h>

#include "kernels/cpu/cpu.h"
#include "runtime/integers.h"

enum {
    TILE_SIDE = 1024, // a tile packs (rows + columns) inner numbers for rows columns inner products
    TILE_LEAST = 128,
    TILE_GRAIN = 16, // sides are multiples of the micro-kernels' widths
    TILES_LEAST = 8, // skinny products are cut further until there are so many
    INNER_BLOCK = 1536, // long sums are taken in parts, whose operands stay in the last-level cache for all tiles
};

void gemm_product(const Gemm *g) {
    cblas_sgemm(CblasRowMajor, g->a.transposed ? CblasTrans : CblasNoTrans, g->b.transposed ? CblasTrans : CblasNoTrans,
                (blasint)g->rows, (blasint)g->columns, (blasint)g->inner, g->scale, g->a.data, (blasint)g->a.stride,
                g->b.data, (blasint)g->b.stride, g->accumulate ? 1.0f : 0.0f, g->out, (blasint)g->stride);
}

void gemm_library(const Gemm *gemm) {
    omp_set_num_threads(cpu_team(INT64_MAX));
    gemm_product(gemm);
    omp_set_num_threads(1);
}

// The side of `parts` even tiles along `size`.
static int64_t even_side(int64_t size, int64_t parts) {
    return divide_up(divide_up(size, parts), TILE_GRAIN) * TILE_GRAIN;
}

Tile gemm_tile(int64_t rows, int64_t columns, int64_t tiles) {
    int64_t down = divide_up(rows, TILE_SIDE), across = divide_up(columns, TILE_SIDE);
    while (down * across < tiles) {
        int64_t height = rows / down, width = columns / across;
        if (height < 2 * TILE_LEAST && width < 2 * TILE_LEAST) break;
        if (height > width) down *= 2;
        else across *= 2;
    }
    return (Tile){.rows = even_side(rows, down), .columns = even_side(columns, across)};
}

// The first element that belongs to row `row` or column `column` of the operand.
static Operand from_row(Operand o, int64_t row) {
    o.data += o.transposed ? row : row * o.stride;
    return o;
}
static Operand from_column(Operand o, int64_t column) {
    o.data += o.transposed ? column * o.stride : column;
    return o;
}

static void tile_product(const Gemm *whole, int64_t group_column, Tile tile) {
    Gemm part = *whole;
    part.rows = tile.rows;
    part.columns = tile.columns;
    part.a = from_row(whole->a, tile.row);
    part.b = from_column(whole->b, group_column + tile.column);
    part.out += tile.row * whole->stride + group_column + tile.column;
    gemm_product(&part);
}

typedef struct {
    void (*call)(const void *context, Tile tile);
    const void *context;
} Finish;

// Neighbours in time share the operand that is cut into more tiles, while it is in cache.
static void product_in_tiles(const Gemm *gemm, int64_t groups, Tile side, Finish finish) {
    int64_t rows = gemm->rows, columns = gemm->columns / groups;
    int64_t down = divide_up(rows, side.rows), across = divide_up(columns, side.columns);
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(rows * columns * gemm->inner / MULTIPLY_ADDS))
    for (int64_t i = 0; i < down * across; i++) {
        int64_t r = down < across ? i % down : i / across, c = down < across ? i / down : i % across;
        Tile tile = {.row = r * side.rows, .column = c * side.columns};
        tile.rows = least(side.rows, rows - tile.row);
        tile.columns = least(side.columns, columns - tile.column);
        for (int64_t group = 0; group < groups; group++) tile_product(gemm, group * columns, tile);
        if (finish.call) finish.call(finish.context, tile);
    }
}

void gemm_tiled(const Gemm *gemm, int64_t groups, void (*finish)(const void *context, Tile tile),
                const void *context) {
    Tile side = gemm_tile(gemm->rows, gemm->columns / groups, TILES_LEAST);
    Gemm part = *gemm;
    for (int64_t inner = 0; inner < gemm->inner; inner += part.inner) {
        bool last = gemm->inner - inner < 2 * INNER_BLOCK;
        part.a = from_column(gemm->a, inner);
        part.b = from_row(gemm->b, inner);
        part.inner = last ? gemm->inner - inner : INNER_BLOCK;
        part.accumulate = gemm->accumulate || inner > 0;
        product_in_tiles(&part, groups, side, (Finish){last ? finish : NULL, context});
    }
}
