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
    int64_t seen;          // the last one whose result the host had looked at when it queued this one
    double inverse_weight; // 1 / total weight of the step's tokens, over all ranks
    double clip;           // largest global gradient norm; 0: no clipping
    double readout;        // e += readout (x - e)
    double spike_sigma;    // deviations above the mean of the window that make a spike; 0: none is looked for
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
    STATUS_SKIP,        // a Skip: but for SKIP_NONE nothing may be updated
    STATUS_COUNT
};

// Why a step moves nothing.
typedef enum {
    SKIP_NONE,
    SKIP_NOT_FINITE, // loss or norm is not finite, or the clipped norm beyond GRAD_NORM_LIMIT
    SKIP_SPIKE,      // loss or norm lies far above those of the window
    SKIP_HELD,       // a step before it was bad and the host had not seen that yet: it is to be done again
} Skip;

// What a spike is judged by, on the device, as f64: rings of the last accepted losses and norms. Those of skipped steps
// never come in, so that neither a NaN nor a spike blinds it.
enum { SPIKE_WINDOW = 128 };
enum {
    WINDOW_COUNT,  // accepted so far; the next one goes to place count % SPIKE_WINDOW
    WINDOW_BAD,    // the attempted step that was skipped last and not held; 0: none
    WINDOW_LOSSES, // loss sum / weight sum
    WINDOW_NORMS = WINDOW_LOSSES + SPIKE_WINDOW,
    WINDOW_SIZE = WINDOW_NORMS + SPIKE_WINDOW
};

// A deviation is taken for no less than this part of the mean: numbers that hardly move have spikes at every move.
#define SPIKE_FLOOR 1e-3
