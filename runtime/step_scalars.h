// What changes from step to step. The host writes one record per step and uploads it in stream order; kernels read it
// by pointer, so that a recorded step can be replayed.
#pragma once

#include <stdint.h>

enum { RECIPE_MATRIX, RECIPE_OTHER, RECIPE_ROUTES }; // routes: which parameters a recipe serves

typedef struct {
    double eta;         // learning rate of this step
    double decay;       // decoupled weight decay, before eta
    double beta1, beta2;
    double epsilon;     // may be 0; 0 / 0 counts as 0
    double correction1; // 1 - beta1^t
    double correction2; // 1 - beta2^t
} RecipeScalars;

typedef struct {
    int64_t t;             // attempted step, from 1
    double inverse_weight; // 1 / total weight of the step's tokens, over all ranks
    double clip;           // largest global gradient norm; 0: no clipping
    RecipeScalars recipe[RECIPE_ROUTES];
} StepScalars;

// A gradient longer than this, after clipping, is taken for one that is not finite: its square is not in fp32, and the
// second moment would never come back.
#define GRAD_NORM_LIMIT 1e19

// What a step leaves behind, on the device, as f64. Accumulators are zeroed with the gradients.
enum {
    STATUS_LOSS_SUM,     // weighted sum of token losses
    STATUS_WEIGHT_SUM,   // sum of token weights
    STATUS_GRAD_SQUARES, // sum of squares of the gradient
    STATUS_GRAD_NORM,
    STATUS_CLIP_FACTOR, // gradient multiplier, <= 1
    STATUS_SKIP,        // 1: loss or norm is not finite, or the norm beyond GRAD_NORM_LIMIT; nothing may be updated
    STATUS_COUNT
};
