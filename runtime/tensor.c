#include "runtime/tensor.h"

#include <string.h>

#include "runtime/error.h"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_F32] = {"f32", 4}, [DTYPE_BF16] = {"bf16", 2}, [DTYPE_F64] = {"f64", 8},
    [DTYPE_I32] = {"i32", 4}, [DTYPE_I64] = {"i64", 8},
};

size_t dtype_bytes(DType dtype) { return dtypes[dtype].bytes; }
const char *dtype_name(DType dtype) { return dtypes[dtype].name; }

static void set_contiguous(Tensor *t) {
    int64_t stride = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        t->stride[i] = stride;
        stride *= t->shape[i];
    }
}

Tensor tensor_of(void *data, DType dtype, int64_t a, int64_t b, int64_t c, int64_t d) {
    Tensor t = {.data = data, .dtype = dtype, .shape = {a, b, c, d}};
    while (t.rank < TENSOR_RANK && t.shape[t.rank] > 0) t.rank++;
    for (int i = t.rank; i < TENSOR_RANK; i++) REQUIRE(t.shape[i] == 0, "shape %ld %ld %ld %ld", a, b, c, d);
    set_contiguous(&t);
    return t;
}

int64_t tensor_count(Tensor t) {
    if (t.rank == 0) return 0;
    int64_t count = 1;
    for (int i = 0; i < t.rank; i++) count *= t.shape[i];
    return count;
}

size_t tensor_size_bytes(Tensor t) { return (size_t)tensor_count(t) * dtype_bytes(t.dtype); }

bool tensor_contiguous(Tensor t) {
    int64_t stride = 1;
    for (int i = t.rank - 1; i >= 0; i--) {
        if (t.shape[i] != 1 && t.stride[i] != stride) return false;
        stride *= t.shape[i];
    }
    return true;
}

bool tensor_same_shape(Tensor a, Tensor b) {
    return a.rank == b.rank && memcmp(a.shape, b.shape, sizeof a.shape[0] * (size_t)a.rank) == 0;
}

Tensor tensor_slice(Tensor t, int dim, int64_t begin, int64_t count) {
    REQUIRE(dim < t.rank && begin >= 0 && count > 0 && begin + count <= t.shape[dim],
            "dimension %d of rank %d, %ld + %ld of %ld", dim, t.rank, begin, count, t.shape[dim]);
    if (t.data) t.data = (char *)t.data + begin * t.stride[dim] * (int64_t)dtype_bytes(t.dtype);
    t.shape[dim] = count;
    return t;
}

Tensor tensor_reshape(Tensor t, int64_t a, int64_t b, int64_t c, int64_t d) {
    Tensor view = tensor_of(t.data, t.dtype, a, b, c, d);
    view.scale = t.scale;
    REQUIRE(tensor_contiguous(t) && tensor_count(view) == tensor_count(t), "%ld elements as (%ld, %ld, %ld, %ld)",
            tensor_count(t), a, b, c, d);
    return view;
}

Tensor tensor_split_last(Tensor t, int64_t a, int64_t b) {
    int last = t.rank - 1;
    REQUIRE(t.rank >= 1 && t.rank < TENSOR_RANK && t.shape[last] == a * b, "%ld as (%ld, %ld)", t.shape[last], a, b);
    t.shape[last] = a;
    t.shape[last + 1] = b;
    t.stride[last + 1] = t.stride[last];
    t.stride[last] = b * t.stride[last + 1];
    t.rank++;
    return t;
}

Tensor tensor_merge_rows(Tensor t) {
    REQUIRE(t.rank >= 1, "rank %d", t.rank);
    int last = t.rank - 1;
    Tensor rows = {.data = t.data, .dtype = t.dtype, .rank = 2, .scale = t.scale};
    rows.shape[0] = tensor_rows(t);
    rows.shape[1] = t.shape[last];
    rows.stride[0] = last > 0 ? t.stride[last - 1] : t.shape[last];
    rows.stride[1] = t.stride[last];
    for (int i = 0; i + 1 < last; i++)
        REQUIRE(t.stride[i] == t.stride[i + 1] * t.shape[i + 1], "dimension %d is not evenly strided", i);
    return rows;
}

uint16_t bf16_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u); // a NaN stays one
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float bf16_to_float(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

// Elements are copied in and out, because the data of a mapped file begins at any byte.
static double load(const char *in, DType dtype, int64_t i) {
    float single = 0;
    double value = 0;
    uint16_t bits = 0;
    if (dtype == DTYPE_F32) memcpy(&single, in + (int64_t)sizeof single * i, sizeof single);
    if (dtype == DTYPE_F64) memcpy(&value, in + (int64_t)sizeof value * i, sizeof value);
    if (dtype == DTYPE_BF16) memcpy(&bits, in + (int64_t)sizeof bits * i, sizeof bits);
    return dtype == DTYPE_F32 ? single : dtype == DTYPE_F64 ? value : bf16_to_float(bits);
}

static void store(char *out, DType dtype, int64_t i, double value) {
    float single = (float)value;
    uint16_t bits = bf16_from_float(single);
    if (dtype == DTYPE_F32) memcpy(out + (int64_t)sizeof single * i, &single, sizeof single);
    if (dtype == DTYPE_F64) memcpy(out + (int64_t)sizeof value * i, &value, sizeof value);
    if (dtype == DTYPE_BF16) memcpy(out + (int64_t)sizeof bits * i, &bits, sizeof bits);
}

void dtype_convert(void *out, DType to, const void *in, DType from, int64_t count) {
    REQUIRE(to <= DTYPE_F64 && from <= DTYPE_F64, "%s to %s", dtype_name(from), dtype_name(to));
    if (to == from) memcpy(out, in, (size_t)count * dtype_bytes(to));
    for (int64_t i = 0; to != from && i < count; i++) store(out, to, i, load(in, from, i));
}
