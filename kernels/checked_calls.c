// Checks around a call, and its tally. A letter of a shape stands for one size throughout a call.
#include "kernels/checked_calls.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/checked.h"
#include "runtime/memory.h"

_Static_assert((int)OPERATIONS <= (int)CHECKED_TALLIES, "more operations than tallies");

static const char *const names[OPERATIONS] = {
#define K(result, operation, parameters) #operation,
    KERNELS(K)
#undef K
};
static const char *const kind_names[] = {"compute", "wide", "float", "f32", "f64", "i32"};

const Kernels *checked_inner;
Cost checked_cost;
static bool want_finite;
static Tally tallies[OPERATIONS];

// ---- checks ----

static void describe(Text *out, Tensor t) {
    text_printf(out, "%s (", tensor_present(t) ? dtype_name(t.dtype) : "none");
    for (int i = 0; i < t.rank; i++) text_printf(out, "%s%ld", i ? ", " : "", (long)t.shape[i]);
    text_add(out, ")");
}

// What the role asks for, with the letters' sizes as far as they are known.
static void describe_wanted(Text *out, const Role *role, const int64_t size[]) {
    text_printf(out, "%s (", kind_names[role->kind]);
    for (const char *letter = role->shape; letter && *letter; letter++) {
        text_printf(out, "%s%c", letter > role->shape ? ", " : "", *letter);
        if (isupper((unsigned char)*letter) && size[(int)*letter]) text_printf(out, " = %ld", (long)size[(int)*letter]);
    }
    text_printf(out, ")%s", role->optional ? " or none" : "");
}

static _Noreturn void refuse(const Call *call, const Role *role, const int64_t size[], const char *why) {
    Text text = {0};
    describe(&text, role->tensor);
    text_add(&text, ", expected ");
    describe_wanted(&text, role, size);
    DIE(EXIT_INTERNAL, "%s: %s %s: it is %s", names[call->operation], role->name, why, text_string(&text));
}

bool is_float(DType dtype) { return dtype == DTYPE_F32 || dtype == DTYPE_BF16 || dtype == DTYPE_F64; }

static bool kind_allows(Kind kind, DType dtype) {
    switch (kind) {
    case COMPUTE: case FLOATS: return is_float(dtype);
    case WIDE: return dtype == DTYPE_F32 || dtype == DTYPE_F64;
    case F32: return dtype == DTYPE_F32;
    case F64: return dtype == DTYPE_F64;
    case I32: return dtype == DTYPE_I32;
    }
    return false;
}

// Rows are contiguous; tensors of fewer than four dimensions are also evenly spaced rows.
static bool well_laid(Tensor t) {
    if (t.shape[t.rank - 1] > 1 && t.stride[t.rank - 1] != 1) return false;
    for (int i = 0; i + 2 < t.rank && t.rank < TENSOR_RANK; i++)
        if (t.shape[i] > 1 && t.stride[i] != t.stride[i + 1] * t.shape[i + 1]) return false;
    return t.rank == 1 || t.shape[t.rank - 2] == 1 || t.stride[t.rank - 2] >= t.shape[t.rank - 1];
}

// Letters without a size yet take it from this tensor.
static bool shape_matches(const Role *role, int64_t size[]) {
    if (!role->shape) return true;
    if (role->tensor.rank != (int)strlen(role->shape)) return false;
    for (int i = 0; i < role->tensor.rank; i++) {
        int letter = role->shape[i];
        int64_t *wanted = &size[letter];
        if (*wanted == 0) *wanted = role->tensor.shape[i];
        if (*wanted != role->tensor.shape[i]) return false;
    }
    return true;
}

static bool dtypes_agree(DType compute, DType wide) { return wide == (compute == DTYPE_F64 ? DTYPE_F64 : DTYPE_F32); }

// One compute and one wide dtype in a call, and the one that belongs to the other.
static void check_dtypes(const Call *call, const int64_t size[]) {
    const Role *first[] = {[COMPUTE] = NULL, [WIDE] = NULL};
    for (int i = 0; i < call->count; i++) {
        const Role *role = &call->roles[i];
        if (!tensor_present(role->tensor) || role->kind > WIDE) continue;
        const Role **leader = &first[role->kind];
        if (!*leader) *leader = role;
        if (role->tensor.dtype != (*leader)->tensor.dtype) refuse(call, role, size, "differs in dtype from another");
    }
    if (first[COMPUTE] && first[WIDE] && !dtypes_agree(first[COMPUTE]->tensor.dtype, first[WIDE]->tensor.dtype))
        refuse(call, first[WIDE], size, "has a dtype that does not go with the activations'");
}

void begin_call(Call *call) {
    int64_t size[128] = {['1'] = 1, ['2'] = 2, ['S'] = STATUS_COUNT, ['W'] = WINDOW_SIZE};
    for (int i = 0; i < call->count; i++) {
        const Role *role = &call->roles[i];
        if (role->optional && !tensor_present(role->tensor)) continue;
        if (!tensor_present(role->tensor)) refuse(call, role, size, "is missing");
        if (!role->tensor.data) refuse(call, role, size, "has no memory");
        if (!kind_allows(role->kind, role->tensor.dtype)) refuse(call, role, size, "has the wrong dtype");
        if (!shape_matches(role, size)) refuse(call, role, size, "has the wrong shape");
        if (!well_laid(role->tensor)) refuse(call, role, size, "does not have contiguous rows");
    }
    check_dtypes(call, size);
    call->start = clock_seconds();
}

static double host_float(const void *data, DType dtype, int64_t i) {
    if (dtype == DTYPE_F64) return ((const double *)data)[i];
    return dtype == DTYPE_F32 ? ((const float *)data)[i] : bf16_to_float(((const uint16_t *)data)[i]);
}

// Element `i` of the first dimension.
static Tensor part_of(Tensor t, int64_t i) {
    t = tensor_slice(t, 0, i, 1);
    for (int dim = 0; dim + 1 < t.rank; dim++) t.shape[dim] = t.shape[dim + 1], t.stride[dim] = t.stride[dim + 1];
    t.rank--;
    return t;
}

static void check_finite(const Call *call, const Role *role, Tensor t) {
    if (!tensor_contiguous(t)) {
        for (int64_t i = 0; i < t.shape[0]; i++) check_finite(call, role, part_of(t, i));
        return;
    }
    void *host = memory_grow(NULL, (int64_t)tensor_size_bytes(t), 1, "a look for NaN");
    checked_inner->download(host, t);
    for (int64_t i = 0; i < tensor_count(t); i++)
        REQUIRE(isfinite(host_float(host, t.dtype, i)), "%s wrote %g to %s", names[call->operation],
                host_float(host, t.dtype, i), role->name);
    free(host);
}

// Each tensor once for each direction.
static double bytes_of(const Call *call) {
    double bytes = 0;
    for (int i = 0; i < call->count; i++) {
        const Role *role = &call->roles[i];
        int ways = role->read + role->written;
        if (tensor_present(role->tensor)) bytes += ways * (double)tensor_size_bytes(role->tensor);
    }
    return bytes;
}

void end_call(const Call *call) {
    checked_inner->finish();
    Tally *tally = &tallies[call->operation];
    tally->calls++;
    tally->seconds += clock_seconds() - call->start;
    tally->flops += checked_cost.flops;
    tally->bytes += checked_cost.bytes > 0 ? checked_cost.bytes : bytes_of(call);
    checked_cost.flops = checked_cost.bytes = 0;
    for (int i = 0; i < call->count && want_finite; i++) {
        const Role *role = &call->roles[i];
        if (role->written && tensor_present(role->tensor) && is_float(role->tensor.dtype))
            check_finite(call, role, role->tensor);
    }
}

// ---- tallies ----

void checked_want_finite(bool wanted) { want_finite = wanted; }

static int by_seconds(const void *a, const void *b) {
    const Tally *x = a, *y = b;
    if (x->seconds != y->seconds) return x->seconds > y->seconds ? -1 : 1;
    return strcmp(x->operation, y->operation);
}

int checked_take_tallies(Tally out[CHECKED_TALLIES]) {
    int count = 0;
    for (int i = 0; i < OPERATIONS; i++) {
        tallies[i].operation = names[i];
        if (tallies[i].calls > 0) out[count++] = tallies[i];
        tallies[i] = (Tally){0};
    }
    qsort(out, (size_t)count, sizeof *out, by_seconds);
    return count;
}
