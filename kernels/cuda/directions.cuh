// Directions: what is done with one element's gradient before it moves a parameter. Fused multiply-adds are written
// out, so that an element comes out the same wherever it is computed.
#pragma once

#include "kernels/cuda/segments.cuh"

constexpr int DIRECTION_SLOTS = 3; // the most that a direction has

// Of one route in one step, rounded as elements are moved with them.
struct RouteScalars {
    float clip; // of the gradient
    float momentum, feed, mix_momentum, mix_gradient;
    float beta1, rest1, inverse_correction1; // rest = 1 - beta
    float beta2, rest2, inverse_correction2;
    float beta3, rest3;
    float epsilon, alpha, gamma, rescale;
    float stretch, c, b, b_next;
    double eta, decay;
};

__device__ __forceinline__ RouteScalars route_scalars(const RecipeScalars &r, const double *status) {
    return {
        float(status[STATUS_CLIP_FACTOR]),
        float(r.momentum), float(r.feed), float(r.mix_momentum), float(r.mix_gradient),
        float(r.beta1), float(1 - r.beta1), float(1 / r.correction1),
        float(r.beta2), float(1 - r.beta2), float(1 / r.correction2),
        float(r.beta3), float(1 - r.beta3),
        float(r.epsilon), float(r.alpha), float(r.gamma), float(r.rescale),
        float(r.stretch), float(r.c), float(r.b), float(r.b_next),
        r.eta, r.decay,
    };
}

// Those of all routes, for the block; they may be read behind the next barrier.
__device__ __forceinline__ void share_scalars(RouteScalars *routes, const StepScalars *scalars, const double *status) {
    if (threadIdx.x < RECIPE_ROUTES) routes[threadIdx.x] = route_scalars(scalars->recipe[threadIdx.x], status);
}

// ---- what they are made of ----

__device__ __forceinline__ float mean_of(float mean, float value, float beta, float rest) {
    return fmaf(beta, mean, rest * value);
}
// What is new is rounded by itself: near the smallest numbers of fp32 the sum would lose it, and steps grow long.
__device__ __forceinline__ float square_of(float square, float value, const RouteScalars &s) {
    return fmaf(s.beta2, square, s.rest2 * value * value);
}

// mean / (root of the square + epsilon); x / 0 = 0, without a branch.
__device__ __forceinline__ float adaptive(float mean, float square, const RouteScalars &s) {
    float root = sqrtf(square * s.inverse_correction2) + s.epsilon;
    return mean / (root == 0 ? INFINITY : root);
}

__device__ __forceinline__ float sign_of(float x) { return static_cast<float>((x > 0) - (x < 0)); }

__device__ __forceinline__ float corrected_gradient(float gradient, float previous, const RouteScalars &s) {
    return fmaf(s.gamma, gradient - previous, gradient);
}

// ---- all of them ----

__device__ __forceinline__ float momentum_of(float gradient, float &m, const RouteScalars &s) {
    m = mean_of(m, gradient, s.momentum, s.feed);
    return fmaf(s.mix_momentum, m, s.mix_gradient * gradient);
}

// Moves the slots. `gradient` is the clipped one; `cut` is that of DIRECTION_MARS, at most 1 over the norm.
template <int DIRECTION>
__device__ __forceinline__ float direction_of(float gradient, float (&slot)[DIRECTION_SLOTS], const RouteScalars &s,
                                              float cut) {
    if constexpr (DIRECTION == DIRECTION_MOMENTUM) {
        return momentum_of(gradient, slot[0], s);
    } else if constexpr (DIRECTION == DIRECTION_SIGNUM) {
        return sign_of(momentum_of(gradient, slot[0], s));
    } else if constexpr (DIRECTION == DIRECTION_LION) {
        float d = sign_of(mean_of(slot[0], gradient, s.beta1, s.rest1));
        slot[0] = mean_of(slot[0], gradient, s.beta2, s.rest2);
        return d;
    } else if constexpr (DIRECTION == DIRECTION_ADAM) {
        slot[0] = mean_of(slot[0], gradient, s.beta1, s.rest1);
        slot[1] = square_of(slot[1], gradient, s);
        return adaptive(slot[0] * s.inverse_correction1, slot[1], s);
    } else if constexpr (DIRECTION == DIRECTION_ADAM_WITHOUT_MEAN) {
        slot[0] = square_of(slot[0], gradient, s);
        return adaptive(gradient, slot[0], s);
    } else if constexpr (DIRECTION == DIRECTION_ADEMAMIX) {
        slot[0] = mean_of(slot[0], gradient, s.beta1, s.rest1);
        slot[1] = mean_of(slot[1], gradient, s.beta3, s.rest3);
        slot[2] = square_of(slot[2], gradient, s);
        return adaptive(fmaf(s.alpha, slot[1], slot[0] * s.inverse_correction1), slot[2], s);
    } else if constexpr (DIRECTION == DIRECTION_ADAMX) {
        float largest = s.rescale * slot[2];
        slot[0] = mean_of(slot[0], gradient, s.beta1, s.rest1);
        slot[1] = square_of(slot[1], gradient, s);
        slot[2] = largest > slot[1] ? largest : slot[1];
        return adaptive(slot[0] * s.inverse_correction1, slot[2], s);
    } else if constexpr (DIRECTION == DIRECTION_MARS) {
        float corrected = corrected_gradient(gradient, slot[2], s) * cut;
        slot[0] = mean_of(slot[0], corrected, s.beta1, s.rest1);
        slot[1] = square_of(slot[1], corrected, s);
        slot[2] = gradient;
        return adaptive(slot[0] * s.inverse_correction1, slot[1], s);
    } else {
        static_assert(DIRECTION == DIRECTION_GRADIENT, "a direction without a formula");
        return gradient;
    }
}
