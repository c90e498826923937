// Batches of equal matrices: the momentum that enters them, their norms and their products.
//
// matrix_normalise and matrix_product also take fp64, for analysis.
#include <cblas.h>
#include <math.h>

#include "kernels/cpu/directions.h"
#include "kernels/cpu/gemm.h"
#include "runtime/integers.h"

enum {
    CHUNKS = 64,      // of the rows of one matrix, over which sums are taken
    TILES_LEAST = 32, // of a batch: its matrices are cut further until there are so many
    BLOCK = 16,       // sides of what is mirrored at a time
};

// ---- momentum ----

typedef struct {
    float *out; // (segments, R, C)
    const Update *update;
} Mix;

static void mix_part(const void *context, Part part) {
    const Mix *mix = context;
    float *out = mix->out + part.index * part.segment->count + part.from;
    DirectionScalars scalars = direction_scalars(mix->update, &part);
    DirectionPiece piece = direction_piece(mix->update, &part, 0, part.count);
    direction_take(DIRECTION_MOMENTUM, out, &piece, &scalars);
}

void cpu_momentum_mix(Tensor out, const Update *update) {
    REQUIRE(tensor_contiguous(out), "strided mix of %ld matrices", (long)out.shape[0]);
    if (cpu_doubles(update->status)[STATUS_SKIP] != 0) cpu_fill_zero(out);
    else segments_visit(update->segments, mix_part, &(Mix){cpu_floats(out), update});
}

// ---- rows ----

// An element of a batch (K, R, C).
static void *place(Tensor t, int64_t k, int64_t row, int64_t column) {
    return (char *)t.data + (k * t.stride[0] + row * t.stride[1] + column) * (int64_t)dtype_bytes(t.dtype);
}

#define SQUARES                                      \
    double sum = 0;                                  \
    _Pragma("omp simd reduction(+ : sum)")           \
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
static double float_squares(const float *x, int64_t n) { SQUARES return sum; }
static double double_squares(const double *x, int64_t n) { SQUARES return sum; }

static double row_squares(Tensor t, int64_t k, int64_t row) {
    const void *x = place(t, k, row, 0);
    return t.dtype == DTYPE_F64 ? double_squares(x, t.shape[2]) : float_squares(x, t.shape[2]);
}

// out = factor in, rounded once; out may be in.
static void scale_floats(float *out, const float *in, double factor, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = (float)(factor * (double)in[i]);
}
static void scale_doubles(double *out, const double *in, double factor, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = factor * in[i];
}

static void scale_row(void *out, const void *in, DType dtype, double factor, int64_t n) {
    if (dtype == DTYPE_F64) scale_doubles(out, in, factor, n);
    else scale_floats(out, in, factor, n);
}

static void require_floats(Tensor t) {
    REQUIRE(t.dtype == DTYPE_F32 || t.dtype == DTYPE_F64, "the CPU backend computes in fp32, here also in fp64, not %s",
            dtype_name(t.dtype));
    REQUIRE(t.rank == 3, "rank %d where matrices belong", t.rank);
}

// ---- norms ----

static double quotient(double a, double b) { return b == 0 ? 0 : a / b; }

static double matrix_norm(Tensor t, int64_t k) {
    double partial[CHUNKS], sum = 0;
    int64_t rows = t.shape[1];
#pragma omp parallel for num_threads(cpu_team(rows * t.shape[2]))
    for (int64_t i = 0; i < CHUNKS; i++) {
        partial[i] = 0;
        for (int64_t r = i * rows / CHUNKS; r < (i + 1) * rows / CHUNKS; r++) partial[i] += row_squares(t, k, r);
    }
    for (int64_t i = 0; i < CHUNKS; i++) sum += partial[i];
    return sqrt(sum);
}

// One matrix after the other, so that it is still in cache when it is scaled.
void cpu_matrix_normalise(Tensor matrices, const MatrixNorm *norm) {
    int64_t rows = matrices.shape[1], columns = matrices.shape[2];
    require_floats(matrices);
    for (int64_t k = 0; k < matrices.shape[0]; k++) {
        double size = norm->factor * matrix_norm(matrices, k);
        double divisor = norm->add_epsilon ? size + norm->epsilon : size > norm->epsilon ? size : norm->epsilon;
        double factor = quotient(norm->target, divisor);
#pragma omp parallel for num_threads(cpu_team(rows * columns))
        for (int64_t r = 0; r < rows; r++) {
            void *row = place(matrices, k, r, 0);
            scale_row(row, row, matrices.dtype, factor, columns);
        }
    }
}

// |o|^2 and |n|^2 of the rows so far.
typedef struct {
    double in, out;
} NeuronSquares;

static double neuron_factor(float v, const RecipeScalars *r) { return quotient(1, sqrt((double)v) + r->epsilon); }

static NeuronSquares move_neurons(Tensor o, int64_t k, float *v, const RecipeScalars *r, int64_t begin, int64_t end) {
    NeuronSquares sum = {0};
    for (int64_t row = begin; row < end; row++) {
        double squares = row_squares(o, k, row);
        v[row] = (float)(r->beta2 * (double)v[row] + (1 - r->beta2) * squares / (double)o.shape[2]);
        sum.in += squares;
        sum.out += squares * neuron_factor(v[row], r) * neuron_factor(v[row], r);
    }
    return sum;
}

static NeuronSquares move_all_neurons(Tensor o, int64_t k, float *v, const RecipeScalars *r) {
    NeuronSquares partial[CHUNKS], sum = {0};
    int64_t rows = o.shape[1];
#pragma omp parallel for num_threads(cpu_team(rows * o.shape[2]))
    for (int64_t i = 0; i < CHUNKS; i++)
        partial[i] = move_neurons(o, k, v, r, i * rows / CHUNKS, (i + 1) * rows / CHUNKS);
    for (int64_t i = 0; i < CHUNKS; i++) sum.in += partial[i].in, sum.out += partial[i].out;
    return sum;
}

static void normalise_neurons(Tensor o, int64_t k, bool unit, float *v, const RecipeScalars *r) {
    int64_t rows = o.shape[1], columns = o.shape[2];
    NeuronSquares squares = move_all_neurons(o, k, v, r);
    double size = sqrt(squares.out);
    double whole = unit ? sqrt((double)(rows * columns)) / fmax(size, 1e-12)
                        : quotient(sqrt(squares.in), size + r->epsilon);
#pragma omp parallel for num_threads(cpu_team(rows * columns))
    for (int64_t row = 0; row < rows; row++) {
        float *x = place(o, k, row, 0);
        scale_floats(x, x, whole * neuron_factor(v[row], r), columns);
    }
}

void cpu_neuron_normalise(Tensor matrices, bool unit, const Update *update) {
    REQUIRE(matrices.rank == 3 && matrices.shape[0] == update->segments.count, "rank %d, %ld matrices of %ld segments",
            matrices.rank, (long)matrices.shape[0], (long)update->segments.count);
    cpu_floats(matrices);
    for (int64_t k = 0; k < matrices.shape[0] && cpu_doubles(update->status)[STATUS_SKIP] == 0; k++) {
        const Segment *segment = &update->segments.items[k];
        normalise_neurons(matrices, k, unit, cpu_floats(update->state) + segment->slot[1],
                          &update->scalars->recipe[segment->route]);
    }
}

// ---- products ----

static void begin_tile(const MatrixProduct *p, int64_t k, Tile tile) {
    for (int64_t row = tile.row; row < tile.row + tile.rows; row++)
        scale_row(place(p->out, k, row, tile.column), place(p->c, k, row, tile.column), p->out.dtype, p->beta,
                  tile.columns);
}

// out = alpha a b in the tile, or += where it adds.
static void multiply_tile(const MatrixProduct *p, int64_t k, Tile tile, bool add) {
    const void *a = p->a_transposed ? place(p->a, k, 0, tile.row) : place(p->a, k, tile.row, 0);
    const void *b = p->b_transposed ? place(p->b, k, tile.column, 0) : place(p->b, k, 0, tile.column);
    void *out = place(p->out, k, tile.row, tile.column);
    blasint rows = (blasint)tile.rows, columns = (blasint)tile.columns;
    blasint inner = (blasint)p->a.shape[p->a_transposed ? 1 : 2], a_stride = (blasint)p->a.stride[1];
    blasint b_stride = (blasint)p->b.stride[1], out_stride = (blasint)p->out.stride[1];
    CBLAS_TRANSPOSE turn_a = p->a_transposed ? CblasTrans : CblasNoTrans;
    CBLAS_TRANSPOSE turn_b = p->b_transposed ? CblasTrans : CblasNoTrans;
    if (p->out.dtype == DTYPE_F64)
        cblas_dgemm(CblasRowMajor, turn_a, turn_b, rows, columns, inner, p->alpha, a, a_stride, b, b_stride, add, out,
                    out_stride);
    else
        cblas_sgemm(CblasRowMajor, turn_a, turn_b, rows, columns, inner, (float)p->alpha, a, a_stride, b, b_stride,
                    add, out, out_stride);
}

static void product_tile(const MatrixProduct *p, int64_t k, Tile tile) {
    if (p->beta != 0) begin_tile(p, k, tile);
    multiply_tile(p, k, tile, p->beta != 0);
}

// ---- a matrix times its own transpose ----

static bool is_gram(const MatrixProduct *p) {
    return p->a.data == p->b.data && p->a_transposed != p->b_transposed && p->out.shape[1] == p->out.shape[2] &&
           p->a.stride[0] == p->b.stride[0] && p->a.stride[1] == p->b.stride[1];
}

// A tile on the diagonal, below it.
static void half_tile(const MatrixProduct *p, int64_t k, Tile tile) {
    const void *a = p->a_transposed ? place(p->a, k, 0, tile.row) : place(p->a, k, tile.row, 0);
    void *out = place(p->out, k, tile.row, tile.column);
    blasint rows = (blasint)tile.rows, inner = (blasint)p->a.shape[p->a_transposed ? 1 : 2];
    blasint a_stride = (blasint)p->a.stride[1], out_stride = (blasint)p->out.stride[1];
    CBLAS_TRANSPOSE turn = p->a_transposed ? CblasTrans : CblasNoTrans;
    if (p->out.dtype == DTYPE_F64)
        cblas_dsyrk(CblasRowMajor, CblasLower, turn, rows, inner, p->alpha, a, a_stride, 0, out, out_stride);
    else
        cblas_ssyrk(CblasRowMajor, CblasLower, turn, rows, inner, (float)p->alpha, a, a_stride, 0, out, out_stride);
}

// A block below the diagonal or on it, and its mirror image, + beta c in both. By way of `image`, so that each cache
// line is touched once.
#define MIRROR(type)                                                                                              \
    static void mirror_##type(const MatrixProduct *p, int64_t k, Tile block) {                                    \
        type image[BLOCK][BLOCK];                                                                                 \
        bool diagonal = block.row == block.column, adds = p->beta != 0;                                           \
        for (int64_t i = 0; i < block.rows; i++) {                                                                \
            type *row = place(p->out, k, block.row + i, block.column);                                            \
            const type *c = adds ? place(p->c, k, block.row + i, block.column) : row;                             \
            int64_t n = diagonal ? i + 1 : block.columns;                                                         \
            for (int64_t j = 0; j < n; j++) image[j][i] = row[j];                                                 \
            for (int64_t j = 0; j < n && adds; j++) row[j] = (type)((double)row[j] + p->beta * (double)c[j]);     \
        }                                                                                                         \
        for (int64_t j = 0; j < block.columns; j++) {                                                             \
            type *row = place(p->out, k, block.column + j, block.row);                                            \
            const type *c = adds ? place(p->c, k, block.column + j, block.row) : row;                             \
            for (int64_t i = diagonal ? j + 1 : 0; i < block.rows; i++)                                           \
                row[i] = adds ? (type)((double)image[j][i] + p->beta * (double)c[i]) : image[j][i];               \
        }                                                                                                         \
    }
MIRROR(float)
MIRROR(double)

static void mirror_tile(const MatrixProduct *p, int64_t k, Tile tile) {
    for (int64_t row = tile.row; row < tile.row + tile.rows; row += BLOCK)
        for (int64_t column = tile.column; column < least(tile.column + tile.columns, row + 1); column += BLOCK) {
            Tile block = {row, least(BLOCK, tile.row + tile.rows - row), column,
                          least(BLOCK, tile.column + tile.columns - column)};
            if (p->out.dtype == DTYPE_F64) mirror_double(p, k, block);
            else mirror_float(p, k, block);
        }
}

// Tiles are squares; those above the diagonal come with those below it.
static void gram_tile(const MatrixProduct *p, int64_t k, Tile tile) {
    if (tile.column > tile.row) return;
    if (tile.column == tile.row) half_tile(p, k, tile);
    else multiply_tile(p, k, tile, false);
    mirror_tile(p, k, tile);
}

// ---- all of them ----

static void require_product(const MatrixProduct *p, int64_t inner) {
    require_floats(p->out), require_floats(p->a), require_floats(p->b);
    int a_rows = p->a_transposed ? 2 : 1, b_rows = p->b_transposed ? 2 : 1;
    REQUIRE(p->a.shape[a_rows] == p->out.shape[1] && p->b.shape[3 - b_rows] == p->out.shape[2] &&
                p->b.shape[b_rows] == inner && p->a.shape[0] == p->out.shape[0] && p->b.shape[0] == p->out.shape[0],
            "(%ld, %ld) from an inner side of %ld", (long)p->out.shape[1], (long)p->out.shape[2], (long)inner);
    REQUIRE(p->a.dtype == p->out.dtype && p->b.dtype == p->out.dtype, "%s from %s and %s", dtype_name(p->out.dtype),
            dtype_name(p->a.dtype), dtype_name(p->b.dtype));
    REQUIRE(p->beta == 0 || (p->c.dtype == p->out.dtype && tensor_same_shape(p->c, p->out)), "%s of rank %d is added",
            dtype_name(p->c.dtype), p->c.rank);
}

// All tiles of all matrices in one parallel region.
void cpu_matrix_product(const MatrixProduct *p) {
    int64_t matrices = p->out.shape[0], rows = p->out.shape[1], columns = p->out.shape[2];
    int64_t inner = p->a.shape[p->a_transposed ? 1 : 2];
    require_product(p, inner);
    bool gram = is_gram(p);
    Tile side = gemm_tile(rows, columns, divide_up(TILES_LEAST, matrices));
    if (gram) side.rows = side.columns = least(side.rows, side.columns);
    int64_t down = divide_up(rows, side.rows), across = divide_up(columns, side.columns);
    int team = cpu_team(matrices * rows * columns * inner / MULTIPLY_ADDS);
#pragma omp parallel for schedule(dynamic) num_threads(team)
    for (int64_t i = 0; i < matrices * down * across; i++) {
        int64_t k = i / (down * across), r = i / across % down, c = i % across;
        Tile tile = {.row = r * side.rows, .column = c * side.columns};
        tile.rows = least(side.rows, rows - tile.row);
        tile.columns = least(side.columns, columns - tile.column);
        (gram ? gram_tile : product_tile)(p, k, tile);
    }
}
