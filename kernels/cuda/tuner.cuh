// Choices by measuring: which algorithm a product takes, and whether what follows it is fused into it.
//
// They are made in the first run of a recorded program, on the operands it has; see cuda_measuring().
#pragma once

#include "kernels/cuda/gemm.cuh"

// Chooses among the library's algorithms for this product, where measuring is on.
void tuner_measure(const Gemm *gemm, GemmPlan *plan);

// An operation that can be done in several ways: way 0 apart from the product, way i with the i-th fused product.
enum { TUNER_WAYS = 3, TUNER_SAVED = 2 };
typedef struct {
    const Gemm *fused[TUNER_WAYS];
    int count; // of `fused`
    void (*run)(const void *context, int way);
    const void *context;
    Tensor accumulated[TUNER_SAVED]; // what `run` adds to; absent ones are skipped
} Ways;
void tuner_run(const Ways *ways);

// THALWEG_FUSE: 0 fuses nothing, a number the way of that number or the last there is, auto what is faster.
bool tuner_configure(Errors *errors);
