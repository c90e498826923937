// Kernels under comparison. A case builds its tensors as twins, one copy per side, and makes the same calls on both
// sides; then every twin must agree, untouched parts and guard bands included. One case so serves as the test against
// the reference and as the test that the number of threads changes nothing.
#pragma once

#include "kernels/kernels.h"

// The sizes of a case, as far as it reads them.
typedef struct {
    int64_t b, t;                     // sequences, tokens
    int64_t in, out;                  // columns; rows of tables
    int64_t heads, kv_heads, width;   // of attention
    int64_t keys;                     // tokens of k and v
    int variant;                      // which way of calling; the case says what it means
} Sizes;

typedef void Case(const Sizes *sizes);

// Runs the case on the CPU backend and on the reference in fp32 and bf16, each against the reference in fp64. Elements
// may differ by `multiple` times the unit roundoff of the activations times the largest element of their tensor.
void compare_backends(Case *run, const Sizes *sizes, double multiple);

// With a multiple for each dtype, where fp32 needs one that would let everything pass in bf16.
void compare_backends_by_dtype(Case *run, const Sizes *sizes, double fp32, double bf16);

// Runs the case with one and with two threads: equal, bit for bit.
void compare_threads(Case *run, const Sizes *sizes);

#define COMPARE_BACKENDS(run, list, multiple)                                                         \
    for (size_t size = 0; size < sizeof list / sizeof list[0]; size++) compare_backends(run, &list[size], multiple)
#define COMPARE_THREADS(run, list)                                                                    \
    for (size_t size = 0; size < sizeof list / sizeof list[0]; size++) compare_threads(run, &list[size])

// What a tensor holds at first. Overwritten outputs begin as NaN, and outputs that are added to as 10.
typedef enum { NORMAL, POSITIVE, POISON, TEN } Fill;
typedef enum { COMPUTE, WIDE, WEIGHTS, STATUS, INTEGERS } Kind; // by side; f32; f64; i32

typedef struct {
    Tensor on[2];
} Twin;

Twin twin(const char *name, Fill fill, Kind kind, int64_t a, int64_t b, int64_t c);
Twin twin_of_integers(const char *name, const int32_t *values, int64_t a, int64_t b);
Twin twin_of_order(const char *name, const int32_t *ids, int64_t count); // of rows, sorting ids
Twin twin_of_bytes(const char *name, const void *bytes, size_t size); // the same on both sides; a multiple of 8
extern const Twin TWIN_NONE;

// The twin that was made last: each of its elements is made of so many numbers, itself among them, that are rounded to
// the dtype of activations, each perhaps to the other side than the reference has it.
void twin_roundings(int count);

// An element by its place in a contiguous twin; and many, from there on.
void twin_set(Twin twin, int64_t index, double value);
double twin_get(Twin twin, int side, int64_t index);
void twin_set_all(Twin twin, int64_t index, const double *values, int64_t count);
void twin_get_all(Twin twin, int side, int64_t index, double *values, int64_t count);

// Views, as Tensor has them. `twin_heads`: columns [begin, begin + heads width) of (B, T, columns), as the network
// sees q, k and v in one buffer.
Twin twin_slice(Twin twin, int dim, int64_t begin, int64_t count);
Twin twin_heads(Twin twin, int64_t begin, int64_t heads, int64_t width);
Twin twin_reshape(Twin twin, int64_t a, int64_t b, int64_t c);

// Runs a statement on each side: BOTH(k, s) k->copy(out.on[s], in.on[s]);
#define BOTH(k, s) \
    for (int s = 0; s < 2; s++)                                                    \
        for (const Kernels *k = side_kernels(s); k; k = NULL)

const Kernels *side_kernels(int side); // opened as the comparison says, its calls checked

// For tests of the reference alone: twins are fp64 there, and `on[0]` can be read and written directly.
void reference_begin(void);
void reference_end(void);
