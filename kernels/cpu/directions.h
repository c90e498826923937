// Directions: what is done with a gradient before it moves a parameter, a piece of a segment at a time.
#pragma once

#include "kernels/cpu/segments.h"

// Of one segment in one step.
typedef struct {
    float clip; // of the gradient
    float momentum, feed, mix_momentum, mix_gradient;
    float beta1, rest1, inverse_correction1; // rest = 1 - beta
    float beta2, rest2, inverse_correction2;
    float beta3, rest3;
    float epsilon, alpha, gamma, rescale;
    float cut; // of DIRECTION_MARS: at most 1 over the norm
} DirectionScalars;

typedef struct {
    const float *gradient; // before the clip
    const float *given;    // of DIRECTION_GIVEN
    float *slot[SEGMENT_SLOTS];
    int64_t count;
} DirectionPiece;

DirectionScalars direction_scalars(const Update *update, const Part *part);

// `count` elements from element `from` of the part on.
DirectionPiece direction_piece(const Update *update, const Part *part, int64_t from, int64_t count);

// Moves the slots and returns d: in `room`, or where it was given.
const float *direction_take(Direction direction, float *room, const DirectionPiece *piece,
                            const DirectionScalars *scalars);
