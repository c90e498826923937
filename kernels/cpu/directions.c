#include "kernels/cpu/directions.h"

#include <math.h>

DirectionScalars direction_scalars(const Update *update, const Part *part) {
    const RecipeScalars *r = &update->scalars->recipe[part->segment->route];
    bool cuts = part->segment->direction == DIRECTION_MARS;
    double norm = cuts ? sqrt(cpu_doubles(update->squares)[part->index]) : 0;
    return (DirectionScalars){
        .clip = (float)cpu_doubles(update->status)[STATUS_CLIP_FACTOR],
        .momentum = (float)r->momentum, .feed = (float)r->feed,
        .mix_momentum = (float)r->mix_momentum, .mix_gradient = (float)r->mix_gradient,
        .beta1 = (float)r->beta1, .rest1 = (float)(1 - r->beta1), .inverse_correction1 = (float)(1 / r->correction1),
        .beta2 = (float)r->beta2, .rest2 = (float)(1 - r->beta2), .inverse_correction2 = (float)(1 / r->correction2),
        .beta3 = (float)r->beta3, .rest3 = (float)(1 - r->beta3),
        .epsilon = (float)r->epsilon, .alpha = (float)r->alpha, .gamma = (float)r->gamma,
        .rescale = (float)r->rescale, .cut = (float)(norm > 1 ? 1 / norm : 1),
    };
}

DirectionPiece direction_piece(const Update *update, const Part *part, int64_t from, int64_t count) {
    const Segment *segment = part->segment;
    DirectionPiece piece = {.count = count};
    if (tensor_present(update->grads)) piece.gradient = cpu_floats(update->grads) + part->begin + from;
    if (tensor_present(update->directions))
        piece.given = cpu_floats(update->directions) + part->index * segment->count + part->from + from;
    for (int i = 0; i < SEGMENT_SLOTS; i++)
        if (segment->slot[i] >= 0) piece.slot[i] = cpu_floats(update->state) + segment->slot[i] + part->from + from;
    return piece;
}

// ---- what they are made of ----

static inline float mean_of(float mean, float value, float beta, float rest) { return beta * mean + rest * value; }
static inline float square_of(float square, float value, DirectionScalars s) {
    return s.beta2 * square + s.rest2 * value * value;
}

// mean / (root of the square + epsilon); x / 0 = 0, without a branch.
static inline float adaptive(float mean, float square, DirectionScalars s) {
    float root = sqrtf(square * s.inverse_correction2) + s.epsilon;
    return mean / (root == 0 ? INFINITY : root);
}

static inline float sign(float x) { return (float)((x > 0) - (x < 0)); }

// ---- one by one ----

#define DIRECTION(name) \
    static const float *direction_##name(float *d, const DirectionPiece *p, const DirectionScalars s)
#define EACH_ELEMENT _Pragma("omp simd") for (int64_t i = 0; i < n; i++)

DIRECTION(GIVEN) { return (void)d, (void)s, p->given; }

DIRECTION(GRADIENT) {
    const float *g = p->gradient;
    int64_t n = p->count;
    EACH_ELEMENT d[i] = s.clip * g[i];
    return d;
}

DIRECTION(MOMENTUM) {
    const float *g = p->gradient;
    float *m = p->slot[0];
    int64_t n = p->count;
    EACH_ELEMENT {
        float gradient = s.clip * g[i];
        m[i] = mean_of(m[i], gradient, s.momentum, s.feed);
        d[i] = s.mix_momentum * m[i] + s.mix_gradient * gradient;
    }
    return d;
}

DIRECTION(SIGNUM) {
    int64_t n = p->count;
    direction_MOMENTUM(d, p, s);
    EACH_ELEMENT d[i] = sign(d[i]);
    return d;
}

DIRECTION(LION) {
    const float *g = p->gradient;
    float *m = p->slot[0];
    int64_t n = p->count;
    EACH_ELEMENT {
        float gradient = s.clip * g[i];
        d[i] = sign(mean_of(m[i], gradient, s.beta1, s.rest1));
        m[i] = mean_of(m[i], gradient, s.beta2, s.rest2);
    }
    return d;
}

DIRECTION(ADAM) {
    const float *g = p->gradient;
    float *m = p->slot[0], *v = p->slot[1];
    int64_t n = p->count;
    EACH_ELEMENT {
        float gradient = s.clip * g[i];
        m[i] = mean_of(m[i], gradient, s.beta1, s.rest1);
        v[i] = square_of(v[i], gradient, s);
        d[i] = adaptive(m[i] * s.inverse_correction1, v[i], s);
    }
    return d;
}

DIRECTION(ADAM_WITHOUT_MEAN) {
    const float *g = p->gradient;
    float *v = p->slot[0];
    int64_t n = p->count;
    EACH_ELEMENT {
        float gradient = s.clip * g[i];
        v[i] = square_of(v[i], gradient, s);
        d[i] = adaptive(gradient, v[i], s);
    }
    return d;
}

DIRECTION(ADEMAMIX) {
    const float *g = p->gradient;
    float *m = p->slot[0], *slow = p->slot[1], *v = p->slot[2];
    int64_t n = p->count;
    EACH_ELEMENT {
        float gradient = s.clip * g[i];
        m[i] = mean_of(m[i], gradient, s.beta1, s.rest1);
        slow[i] = mean_of(slow[i], gradient, s.beta3, s.rest3);
        v[i] = square_of(v[i], gradient, s);
        d[i] = adaptive(m[i] * s.inverse_correction1 + s.alpha * slow[i], v[i], s);
    }
    return d;
}

DIRECTION(ADAMX) {
    const float *g = p->gradient;
    float *m = p->slot[0], *v = p->slot[1], *v_max = p->slot[2];
    int64_t n = p->count;
    EACH_ELEMENT {
        float gradient = s.clip * g[i], largest = s.rescale * v_max[i];
        m[i] = mean_of(m[i], gradient, s.beta1, s.rest1);
        v[i] = square_of(v[i], gradient, s);
        v_max[i] = largest > v[i] ? largest : v[i];
        d[i] = adaptive(m[i] * s.inverse_correction1, v_max[i], s);
    }
    return d;
}

DIRECTION(MARS) {
    const float *g = p->gradient;
    float *m = p->slot[0], *v = p->slot[1], *previous = p->slot[2];
    int64_t n = p->count;
    EACH_ELEMENT {
        float gradient = s.clip * g[i], corrected = (gradient + s.gamma * (gradient - previous[i])) * s.cut;
        previous[i] = gradient;
        m[i] = mean_of(m[i], corrected, s.beta1, s.rest1);
        v[i] = square_of(v[i], corrected, s);
        d[i] = adaptive(m[i] * s.inverse_correction1, v[i], s);
    }
    return d;
}

const float *direction_take(Direction direction, float *room, const DirectionPiece *piece,
                            const DirectionScalars *scalars) {
    static const float *(*const take[DIRECTION_COUNT])(float *, const DirectionPiece *, DirectionScalars) = {
#define D(name, slots) [DIRECTION_##name] = direction_##name,
        DIRECTIONS(D)
#undef D
    };
    return take[direction](room, piece, *scalars);
}
