// What changes from step to step. The host writes one record per step and uploads it in stream order; kernels read it
// by pointer, so that a recorded step can be replayed.
#pragma once

#include <stdint.h>

enum { RECIPE_MATRIX, RECIPE_OTHER, RECIPE_ROUTES }; // routes: which parameters a recipe serves

// Of one route. What its recipe does not read is 0, or 1 where it multiplies.
typedef struct {
    double eta;     // learning rate of this step
    double decay;   // decoupled weight decay, before eta
    double c;       // averaging weight: x' = x + c (z' - x); 1 where nothing is averaged
    double b;       // the gradient was taken at y = z + b gap
    double b_next;  // and the next one will be at z' + b_next gap'
    double stretch; // of gap before the step; 1 but in AMUSE as released

    double momentum, feed;             // m = momentum m + feed g
    double mix_momentum, mix_gradient; // what is used of it: mix_momentum m + mix_gradient g
    double beta1, beta2, beta3;        // decay of mean, square and slow mean
    double correction1, correction2;   // 1 - beta^t, or 1
    double epsilon;                    // may be 0; 0 / 0 counts as 0
    double alpha;                      // of the slow mean
    double gamma;                      // of the gradient's change: g + gamma (g - g_previous)
    double rescale;                    // of the largest square so far
} RecipeScalars;

typedef struct {
    int64_t t;             // attempted step, from 1
    double inverse_weight; // 1 / total weight of the step's tokens, over all ranks
    double clip;           // largest global gradient norm; 0: no clipping
    double readout;        // e += readout (x - e)
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
