// Choices by measuring: which algorithm a product takes, and whether what follows it is fused into it.
//
// They are made in the first run of a recorded program, on the operands it has; see cuda_measuring(). What cannot be
// measured then is settled as well, on the library's first choice and on nothing fused: it is not chosen again later.
#pragma once

#include "kernels/cuda/gemm.cuh"

// Chooses among the library's algorithms for this product, where that is to be done now.
void tuner_settle(const Gemm *gemm, GemmPlan *plan);

// An operation that is a product and what follows it, and may be one fused product.
enum { TUNER_SAVED = 2 };
typedef struct {
    const Gemm *fused;                            // or NULL
    bool (*run)(const void *context, bool fused); // false, and nothing is done: the library refuses what is fused
    const void *context;
    Tensor accumulated[TUNER_SAVED]; // what `run` adds to; absent ones are skipped
} Ways;
void tuner_run(const Ways *ways);

// THALWEG_FUSE: 0 fuses nothing, 1 all that the library has, auto what is faster.
// THALWEG_MEASURE: 0 settles everything without measuring, so that processes choose alike.
bool tuner_configure(Errors *errors);
