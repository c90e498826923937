// Tensor: a borrowed, strided view of numbers. It owns nothing and may be copied freely.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// F16 is of files alone: kernels never see it.
typedef enum { DTYPE_F32, DTYPE_BF16, DTYPE_F64, DTYPE_I32, DTYPE_I64, DTYPE_F16 } DType;
enum { DTYPE_COUNT = DTYPE_F16 + 1, TENSOR_RANK = 4 };

size_t dtype_bytes(DType dtype);
const char *dtype_name(DType dtype); // "f32", "bf16", ...
bool dtype_is_float(DType dtype);

typedef struct {
    void *data; // NULL: absent
    DType dtype;
    int rank;                    // 0..4; rank 0 is an absent tensor
    int64_t shape[TENSOR_RANK];  // leading dimensions first
    int64_t stride[TENSOR_RANK]; // in elements; the last is 1
    const float *scale;          // optional device pointer to one factor, for 8-bit formats
} Tensor;

// A contiguous tensor over `data`. Trailing dimensions are given as 0 when unused: tensor_of(p, DTYPE_F32, n, 0, 0, 0).
Tensor tensor_of(void *data, DType dtype, int64_t a, int64_t b, int64_t c, int64_t d);
#define tensor_1d(data, dtype, a) tensor_of(data, dtype, a, 0, 0, 0)
#define tensor_2d(data, dtype, a, b) tensor_of(data, dtype, a, b, 0, 0)
#define tensor_3d(data, dtype, a, b, c) tensor_of(data, dtype, a, b, c, 0)
#define tensor_4d(data, dtype, a, b, c, d) tensor_of(data, dtype, a, b, c, d)
#define TENSOR_NONE ((Tensor){0})

static inline bool tensor_present(Tensor t) { return t.rank > 0; }
int64_t tensor_count(Tensor t);       // elements
size_t tensor_size_bytes(Tensor t);   // elements times element size
bool tensor_contiguous(Tensor t);
bool tensor_same_shape(Tensor a, Tensor b);

// Views. `slice` keeps [begin, begin + count) of dimension `dim`; `reshape` needs a contiguous tensor;
// `split_last` turns a last dimension of a * b into two dimensions (a, b) at any strides;
// `merge_rows` makes (rows, last) of a tensor whose leading dimensions are evenly strided.
Tensor tensor_slice(Tensor t, int dim, int64_t begin, int64_t count);
Tensor tensor_reshape(Tensor t, int64_t a, int64_t b, int64_t c, int64_t d);
Tensor tensor_split_last(Tensor t, int64_t a, int64_t b);
Tensor tensor_merge_rows(Tensor t);

static inline int64_t tensor_rows(Tensor t) { return tensor_count(t) / t.shape[t.rank - 1]; }
static inline int64_t tensor_columns(Tensor t) { return t.shape[t.rank - 1]; }

// `count` numbers from one float dtype to another, on the host, each rounded once, to nearest even. Neither side need
// be aligned.
void dtype_convert(void *out, DType to, const void *in, DType from, int64_t count);

// (columns, rows) from (rows, columns) elements of 2, 4 or 8 bytes on the host, whose rows are `stride` elements apart.
void elements_transpose(void *out, const void *in, int64_t rows, int64_t columns, int64_t stride, size_t bytes);

// bf16 is the upper half of an fp32; rounding is to nearest even. NaNs stay NaNs.
uint16_t bf16_from_float(float value);
float bf16_to_float(uint16_t bits);
uint16_t f16_from_float(float value); // IEEE half precision, subnormals included
float f16_to_float(uint16_t bits);
