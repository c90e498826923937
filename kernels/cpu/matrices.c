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
    else segments_visit(update->segments, tensor_count(update->grads), mix_part, &(Mix){cpu_floats(out), update});
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
    for (int64_t row = tile.row; row < tile.row + tile.rows && p->beta != 0; row++)
        scale_row(place(p->out, k, row, tile.column), place(p->c, k, row, tile.column), p->out.dtype, p->beta,
                  tile.columns);
}

static void add_tile(const MatrixProduct *p, int64_t k, Tile tile) {
    const void *a = p->a_transposed ? place(p->a, k, 0, tile.row) : place(p->a, k, tile.row, 0);
    const void *b = p->b_transposed ? place(p->b, k, tile.column, 0) : place(p->b, k, 0, tile.column);
    void *out = place(p->out, k, tile.row, tile.column);
    blasint rows = (blasint)tile.rows, columns = (blasint)tile.columns;
    blasint inner = (blasint)p->a.shape[p->a_transposed ? 1 : 2], a_stride = (blasint)p->a.stride[1];
    blasint b_stride = (blasint)p->b.stride[1], out_stride = (blasint)p->out.stride[1];
    CBLAS_TRANSPOSE turn_a = p->a_transposed ? CblasTrans : CblasNoTrans;
    CBLAS_TRANSPOSE turn_b = p->b_transposed ? CblasTrans : CblasNoTrans;
    double keep = p->beta != 0;
    if (p->out.dtype == DTYPE_F64)
        cblas_dgemm(CblasRowMajor, turn_a, turn_b, rows, columns, inner, p->alpha, a, a_stride, b, b_stride, keep, out,
                    out_stride);
    else
        cblas_sgemm(CblasRowMajor, turn_a, turn_b, rows, columns, inner, (float)p->alpha, a, a_stride, b, b_stride,
                    (float)keep, out, out_stride);
}

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
    Tile side = gemm_tile(rows, columns, divide_up(TILES_LEAST, matrices));
    int64_t down = divide_up(rows, side.rows), across = divide_up(columns, side.columns);
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(matrices * rows * columns * inner))
    for (int64_t i = 0; i < matrices * down * across; i++) {
        int64_t k = i / (down * across), r = i / across % down, c = i % across;
        Tile tile = {.row = r * side.rows, .column = c * side.columns};
        tile.rows = least(side.rows, rows - tile.row);
        tile.columns = least(side.columns, columns - tile.column);
        begin_tile(p, k, tile);
        add_tile(p, k, tile);
    }
}
