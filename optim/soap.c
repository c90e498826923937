#include "optim/soap.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/linear_algebra.h"
#include "runtime/memory.h"

enum { SLOT_M, SLOT_V, SLOT_L0, SLOT_Q0, SLOT_L1, SLOT_Q1 };

// One matrix in one step, and where its state lies: matrices (1, rows, columns), factors and bases (1, n, n) or none.
typedef struct {
    const Kernels *kernels;
    const RecipeScalars *scalars;
    const SoapRoom *room;
    Tensor m, v, factor[2], basis[2];
} Soap;

void soap_place(SoapRoom *room, Arena *arena, DType wide, int64_t rows, int64_t columns, const HyperOptions *hyper) {
    Tensor matrix = tensor_3d(NULL, wide, 1, rows, columns), *const matrices[] = {&room->direction, &room->turned,
                                                                                 &room->half_turned};
    int64_t sides[] = {rows, columns}, longest = 0;
    for (int s = 0; s < 2; s++)
        if (sides[s] <= hyper->precondition_max && sides[s] > longest) longest = sides[s];
    for (int i = 0; i < 3; i++) *matrices[i] = arena_tensor(arena, "SOAP", matrix);
    for (int i = 0; i < 3 && longest > 0; i++)
        room->square[i] = arena_tensor(arena, "SOAP", tensor_3d(NULL, DTYPE_F64, 1, longest, longest));
}

// ---- elements ----

static double get(Tensor t, int64_t i) {
    return t.dtype == DTYPE_F64 ? ((const double *)t.data)[i] : (double)((const float *)t.data)[i];
}

static void set(Tensor t, int64_t i, double value) {
    if (t.dtype == DTYPE_F64) ((double *)t.data)[i] = value;
    else ((float *)t.data)[i] = (float)value;
}

static void mean_add(Tensor mean, int64_t i, double value, double beta) {
    set(mean, i, beta * get(mean, i) + (1 - beta) * value);
}

static double quotient(double a, double b) { return b == 0 ? 0 : a / b; }

// A matrix of the state; none where the slot is.
static Tensor slot_view(const Update *update, int slot, int64_t rows, int64_t columns) {
    int64_t begin = update->segments.items->slot[slot];
    if (begin < 0) return TENSOR_NONE;
    return tensor_reshape(tensor_slice(update->state, 0, begin, rows * columns), 1, rows, columns, 0);
}

// The head of square[i] as a matrix (1, n, n) of this dtype.
static Tensor square_view(const Soap *s, int i, DType dtype, int64_t n) {
    return tensor_3d(s->room->square[i].data, dtype, 1, n, n);
}

// ---- turning ----

// out = Q0' x Q1, or back: Q0 x Q1'. Neither x nor out is half_turned.
static void turn(const Soap *s, Tensor out, Tensor x, bool back) {
    const Kernels *k = s->kernels;
    bool left = tensor_present(s->basis[0]), right = tensor_present(s->basis[1]);
    Tensor middle = left && right ? s->room->half_turned : left ? out : x;
    if (left)
        k->matrix_product(&(MatrixProduct){.out = middle, .a = s->basis[0], .b = x, .a_transposed = !back, .alpha = 1});
    if (right)
        k->matrix_product(&(MatrixProduct){.out = out, .a = middle, .b = s->basis[1], .b_transposed = back,
                                           .alpha = 1});
    if (!left && !right) k->copy(out, x);
}

// L0 = mean of g g', L1 = mean of g' g.
static void move_factor(const Soap *s, int side, Tensor g) {
    Tensor factor = s->factor[side], next = square_view(s, 0, factor.dtype, factor.shape[1]);
    double beta = s->scalars->beta3;
    s->kernels->matrix_product(&(MatrixProduct){.out = next, .a = g, .b = g, .c = factor, .a_transposed = side == 1,
                                                .b_transposed = side == 0, .alpha = 1 - beta, .beta = beta});
    s->kernels->copy(factor, next);
}

// g, in room->direction, becomes sqrt(1 - beta2^k) / (1 - beta1^k) Q0 (Q0' m Q1 / (sqrt(v) + epsilon)) Q1': epsilon
// stands beside the root that is not corrected. v is that of the turned gradient.
static void move_moments(const Soap *s) {
    const RecipeScalars *r = s->scalars;
    Tensor g = s->room->direction, turned = s->room->turned;
    int64_t count = tensor_count(g);
    turn(s, turned, g, false);
    for (int64_t i = 0; i < count; i++) {
        mean_add(s->m, i, get(g, i), r->beta1);
        mean_add(s->v, i, get(turned, i) * get(turned, i), r->beta2);
    }
    turn(s, turned, s->m, false);
    double correction = sqrt(r->correction2) / r->correction1;
    for (int64_t i = 0; i < count; i++)
        set(turned, i, correction * quotient(get(turned, i), sqrt(get(s->v, i)) + r->epsilon));
    turn(s, s->room->direction, turned, true);
}

// ---- bases ----

static _Noreturn void die_of_lapack(int64_t n) {
    DIE(EXIT_INTERNAL, "soap: LAPACK finds no basis for a side of %ld; set optim.precondition_max below it", (long)n);
}

// Rows `rank` .. n - 1 of an orthonormal q (n, n): what the rows before leave of the coordinate axes, the axis of which
// most is left first. This is Cholesky with pivots of the projector on the null space: other than the null vectors of a
// solver it does not hang on rounding, and SOAP's steps depend on it.
static void complete_basis(double *q, int64_t rank, int64_t n) {
    double *left = memory_take(n, sizeof *left, "columns of a basis"); // the projector's diagonal
    for (int64_t i = 0; i < n; i++) left[i] = 1;
    for (int64_t j = 0; j < n; j++) {
        double *row = q + j * n;
        if (j >= rank) {
            int64_t pivot = 0;
            for (int64_t i = 1; i < n; i++)
                if (left[i] > left[pivot]) pivot = i;
            double root = sqrt(left[pivot]);
            for (int64_t i = 0; i < n; i++) row[i] = i == pivot;
            for (int64_t before = 0; before < j; before++) {
                const double *other = q + before * n;
                for (int64_t i = 0; i < n; i++) row[i] -= other[pivot] * other[i];
            }
            for (int64_t i = 0; i < n; i++) row[i] /= root;
        }
        for (int64_t i = 0; i < n; i++) left[i] -= row[i] * row[i];
    }
    free(left);
}

// Q = eigenvectors of L, those with the largest values first.
static void begin_basis(const Soap *s, int side) {
    const double rank_tolerance = 1e-5;
    int64_t n = s->factor[side].shape[1], rank = 0;
    Tensor rows = square_view(s, 0, DTYPE_F64, n);
    double *q = rows.data, *values = memory_take(n, sizeof *values, "columns of a basis");
    s->kernels->copy(rows, s->factor[side]);
    if (!eigenvectors(q, values, n)) die_of_lapack(n);
    while (rank < n && values[rank] > rank_tolerance * values[0]) rank++;
    complete_basis(q, rank, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) set(s->basis[side], i * n + j, q[j * n + i]);
    free(values);
}

typedef struct {
    double value;
    int64_t column;
} Rank;

static int by_value(const void *a, const void *b) { // largest first, equal ones as they stood
    const Rank *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? 1 : -1;
    return (x->column > y->column) - (x->column < y->column);
}

// v's rows (side 0) or columns (side 1) in the order of the basis; room->turned is free.
static void permute(const Soap *s, int side, const Rank *order) {
    int64_t rows = s->v.shape[1], columns = s->v.shape[2];
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            int64_t from = side == 0 ? order[i].column * columns + j : i * columns + order[j].column;
            set(s->room->turned, i * columns + j, get(s->v, from));
        }
    s->kernels->copy(s->v, s->room->turned);
}

// One orthogonal iteration: columns in the order of their Rayleigh quotients q' L q, then Q = QR((L + shift max) Q).
static void move_basis(const Soap *s, int side, double shift) {
    int64_t n = s->factor[side].shape[1];
    Tensor factor = square_view(s, 0, DTYPE_F64, n), basis = square_view(s, 1, DTYPE_F64, n);
    Tensor product = square_view(s, 2, DTYPE_F64, n);
    s->kernels->copy(factor, s->factor[side]);
    s->kernels->copy(basis, s->basis[side]);
    s->kernels->matrix_product(&(MatrixProduct){.out = product, .a = factor, .b = basis, .alpha = 1});
    const double *q = basis.data, *lq = product.data;
    double *next = factor.data;
    Rank *order = memory_take(n, sizeof *order, "columns of a basis");
    for (int64_t j = 0; j < n; j++) order[j].column = j;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) order[j].value += q[i * n + j] * lq[i * n + j];
    qsort(order, (size_t)n, sizeof *order, by_value);
    permute(s, side, order);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            int64_t from = i * n + order[j].column;
            next[i * n + j] = lq[from] + shift * order[0].value * q[from];
        }
    free(order);
    if (!orthogonal_columns(next, n, n)) die_of_lapack(n);
    s->kernels->copy(s->basis[side], factor);
}

// ---- a step ----

static bool is_zero(Tensor t) {
    for (int64_t i = 0, n = tensor_count(t); i < n; i++)
        if (get(t, i) != 0) return false;
    return true;
}

// Whether no step before this one counted: a basis is never zero.
static bool is_first(const Soap *s, int64_t t) {
    for (int side = 0; side < 2; side++)
        if (tensor_present(s->basis[side])) return is_zero(s->basis[side]);
    return t == 1;
}

bool soap_direction(const Kernels *kernels, const Update *update, const HyperOptions *hyper, const SoapRoom *room) {
    const Segment *segment = update->segments.items;
    const double *status = update->status.data;
    int64_t rows = room->direction.shape[1], columns = room->direction.shape[2], t = update->scalars->t;
    REQUIRE(update->segments.count == 1 && segment->count == rows * columns, "%ld segments, %ld elements of (%ld, %ld)",
            (long)update->segments.count, (long)segment->count, (long)rows, (long)columns);
    if (status[STATUS_SKIP] != 0) return false;
    Soap s = {.kernels = kernels, .scalars = &update->scalars->recipe[segment->route], .room = room,
              .m = slot_view(update, SLOT_M, rows, columns), .v = slot_view(update, SLOT_V, rows, columns),
              .factor = {slot_view(update, SLOT_L0, rows, rows), slot_view(update, SLOT_L1, columns, columns)},
              .basis = {slot_view(update, SLOT_Q0, rows, rows), slot_view(update, SLOT_Q1, columns, columns)}};
    bool first = is_first(&s, t), turns = (t - 1) % hyper->precondition_every == 0;
    for (int64_t i = 0; i < segment->count; i++)
        set(room->direction, i, status[STATUS_CLIP_FACTOR] * get(update->grads, segment->offset + i));
    for (int side = 0; side < 2; side++)
        if (tensor_present(s.factor[side])) move_factor(&s, side, room->direction);
    if (!first) move_moments(&s);
    for (int side = 0; side < 2; side++) {
        if (!tensor_present(s.factor[side])) continue;
        if (first) begin_basis(&s, side);
        else if (turns) move_basis(&s, side, hyper->precondition_shift);
    }
    return !first;
}
