#include "runtime/tensor.h"

#include <math.h>
#include <string.h>

#include "runtime/error.h"

static const struct {
    const char *name;
    size_t bytes;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_F32] = {"f32", 4}, [DTYPE_BF16] = {"bf16", 2}, [DTYPE_F64] = {"f64", 8},
    [DTYPE_I32] = {"i32", 4}, [DTYPE_I64] = {"i64", 8},   [DTYPE_F16] = {"f16", 2},
};

size_t dtype_bytes(DType dtype) { return dtypes[dtype].bytes; }
const char *dtype_name(DType dtype) { return dtypes[dtype].name; }
bool dtype_is_float(DType dtype) { return dtype != DTYPE_I32 && dtype != DTYPE_I64; }

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

// ---- numbers ----

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t bf16_from_float(float value) {
    uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u); // a NaN stays one
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float bf16_to_float(uint16_t bits) { return float_of((uint32_t)bits << 16); }

uint16_t f16_from_float(float value) {
    enum { TOO_LARGE = 0x477ff000, NORMAL = 0x38800000, HALF = 0x3f000000, REBIAS = 112 << 23 };
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (size >> 13 & 0x3ffu));
    if (size >= TOO_LARGE) return (uint16_t)(sign | 0x7c00u);
    if (size < NORMAL) return (uint16_t)(sign | (bits_of(float_of(size) + 0.5f) - HALF)); // units of 2^-24
    size -= REBIAS;
    return (uint16_t)(sign | (size + 0xfffu + (size >> 13 & 1u)) >> 13);
}

float f16_to_float(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000u) << 16, wide = (uint32_t)(bits & 0x7fffu) << 13;
    bool finite = (bits & 0x7c00u) != 0x7c00u;
    return float_of(sign | (finite ? bits_of(float_of(wide) * 0x1p112f) : wide | 0x7f800000u));
}

// What lies between two floats becomes the one whose last bit is set, so that rounding it again is rounding once.
static float float_from_double(double value) {
    float nearest = (float)value;
    if (nearest == value || value != value) return nearest;
    uint32_t bits = bits_of(nearest);
    if (fabs((double)nearest) > fabs(value)) bits--; // towards 0
    return float_of(bits | 1u);
}

// Elements are copied in and out, because the data of a mapped file begins at any byte.
#define LOOP(to_type, from_type, expression)                                       \
    for (int64_t i = 0; i < count; i++) {                                          \
        from_type x;                                                               \
        memcpy(&x, from_bytes + i * (int64_t)sizeof x, sizeof x);                  \
        to_type y = (expression);                                                  \
        memcpy(to_bytes + i * (int64_t)sizeof(to_type), &y, sizeof y);             \
    }                                                                              \
    break

void dtype_convert(void *out, DType to, const void *in, DType from, int64_t count) {
    const char *from_bytes = in;
    char *to_bytes = out;
    REQUIRE(dtype_is_float(to) && dtype_is_float(from), "%s to %s", dtype_name(from), dtype_name(to));
    switch (to == from ? -1 : (int)from * DTYPE_COUNT + (int)to) {
    case -1: memcpy(out, in, (size_t)count * dtype_bytes(to)); break;
    case DTYPE_F32 * DTYPE_COUNT + DTYPE_F64: LOOP(double, float, x);
    case DTYPE_F32 * DTYPE_COUNT + DTYPE_BF16: LOOP(uint16_t, float, bf16_from_float(x));
    case DTYPE_F32 * DTYPE_COUNT + DTYPE_F16: LOOP(uint16_t, float, f16_from_float(x));
    case DTYPE_F64 * DTYPE_COUNT + DTYPE_F32: LOOP(float, double, (float)x);
    case DTYPE_F64 * DTYPE_COUNT + DTYPE_BF16: LOOP(uint16_t, double, bf16_from_float(float_from_double(x)));
    case DTYPE_F64 * DTYPE_COUNT + DTYPE_F16: LOOP(uint16_t, double, f16_from_float(float_from_double(x)));
    case DTYPE_BF16 * DTYPE_COUNT + DTYPE_F32: LOOP(float, uint16_t, bf16_to_float(x));
    case DTYPE_BF16 * DTYPE_COUNT + DTYPE_F64: LOOP(double, uint16_t, bf16_to_float(x));
    case DTYPE_BF16 * DTYPE_COUNT + DTYPE_F16: LOOP(uint16_t, uint16_t, f16_from_float(bf16_to_float(x)));
    case DTYPE_F16 * DTYPE_COUNT + DTYPE_F32: LOOP(float, uint16_t, f16_to_float(x));
    case DTYPE_F16 * DTYPE_COUNT + DTYPE_F64: LOOP(double, uint16_t, f16_to_float(x));
    case DTYPE_F16 * DTYPE_COUNT + DTYPE_BF16: LOOP(uint16_t, uint16_t, bf16_from_float(f16_to_float(x)));
    }
}

// Tile by tile, so that both sides stay in cache.
#define TURN(type)                                                                                         \
    for (int64_t r0 = 0; r0 < rows; r0 += TILE)                                                            \
        for (int64_t c0 = 0; c0 < columns; c0 += TILE)                                                     \
            for (int64_t c = c0; c < columns && c < c0 + TILE; c++)                                        \
                for (int64_t r = r0; r < rows && r < r0 + TILE; r++)                                       \
                    memcpy(to + (c * rows + r) * (int64_t)sizeof(type),                                    \
                           from + (r * stride + c) * (int64_t)sizeof(type), sizeof(type))

void elements_transpose(void *out, const void *in, int64_t rows, int64_t columns, int64_t stride, size_t bytes) {
    enum { TILE = 32 };
    const char *from = in;
    char *to = out;
    REQUIRE(bytes == 2 || bytes == 4 || bytes == 8, "elements of %zu bytes", bytes);
    if (bytes == 2) TURN(uint16_t);
    if (bytes == 4) TURN(uint32_t);
    if (bytes == 8) TURN(uint64_t);
}
