// The step: gradient norm, the decision to move, and AdamW over the flat buffers in one pass.
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

enum {
    BLOCK = 1 << 16,   // elements of the flat buffer that one thread moves at a time
    SUM_CHUNKS = 1024, // of sum_squares
};

static double squares(const float *x, int64_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

// The first segment that ends after `offset`.
static int64_t find_segment(Segments segments, int64_t offset) {
    int64_t low = 0, high = segments.count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        const Segment *segment = &segments.items[middle];
        if (segment->offset + segment->count > offset) high = middle;
        else low = middle + 1;
    }
    return low;
}

// The part of a segment that lies in [begin, end).
typedef struct {
    const Segment *segment;
    int64_t begin, count;
} Part;

// The next one, from segment *next on; false after the last.
static bool next_part(Part *part, Segments segments, int64_t *next, int64_t begin, int64_t end) {
    if (*next == segments.count || segments.items[*next].offset >= end) return false;
    const Segment *segment = &segments.items[(*next)++];
    int64_t from = segment->offset > begin ? segment->offset : begin;
    *part = (Part){segment, from, least(segment->offset + segment->count, end) - from};
    return true;
}

static double range_squares(const float *x, Segments segments, int64_t begin, int64_t end) {
    double sum = 0;
    int64_t next = find_segment(segments, begin);
    for (Part part; next_part(&part, segments, &next, begin, end);) sum += squares(x + part.begin, part.count);
    return sum;
}

void cpu_sum_squares(Tensor out, Tensor values, Segments segments) {
    const float *x = cpu_floats(values);
    int64_t count = tensor_count(values);
    REQUIRE(tensor_contiguous(values), "squares of %ld strided numbers", (long)count);
    double partial[SUM_CHUNKS], sum = 0;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(count))
    for (int64_t i = 0; i < SUM_CHUNKS; i++)
        partial[i] = range_squares(x, segments, i * count / SUM_CHUNKS, (i + 1) * count / SUM_CHUNKS);
    for (int64_t i = 0; i < SUM_CHUNKS; i++) sum += partial[i];
    *cpu_doubles(out) = sum;
}

void cpu_step_decide(Tensor status_tensor, const StepScalars *scalars) {
    double *status = cpu_doubles(status_tensor), norm = sqrt(status[STATUS_GRAD_SQUARES]), clip = scalars->clip;
    double factor = clip > 0 && norm > clip ? clip / norm : 1;
    bool usable = isfinite(norm) && norm * factor <= GRAD_NORM_LIMIT && isfinite(status[STATUS_LOSS_SUM]);
    status[STATUS_GRAD_NORM] = norm;
    status[STATUS_CLIP_FACTOR] = factor;
    status[STATUS_SKIP] = usable ? 0 : 1;
}

typedef struct {
    float clip_factor;
    float beta1, rest1, inverse_correction1; // rest = 1 - beta
    float beta2, rest2, inverse_correction2;
    float epsilon, eta, decay; // decay includes eta
} AdamwScalars;

static AdamwScalars segment_scalars(const Segment *segment, const AdamwUpdate *update) {
    const RecipeScalars *r = &update->scalars->recipe[segment->route];
    double eta = r->eta * segment->lr_scale;
    return (AdamwScalars){
        .clip_factor = (float)cpu_doubles(update->status)[STATUS_CLIP_FACTOR],
        .beta1 = (float)r->beta1, .rest1 = (float)(1 - r->beta1), .inverse_correction1 = (float)(1 / r->correction1),
        .beta2 = (float)r->beta2, .rest2 = (float)(1 - r->beta2), .inverse_correction2 = (float)(1 / r->correction2),
        .epsilon = (float)r->epsilon, .eta = (float)eta, .decay = (float)(eta * r->decay * segment->decay_scale),
    };
}

typedef struct {
    float *z, *m, *v;
    const float *grads;
} AdamwState;

static void move(AdamwState p, int64_t n, AdamwScalars s) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = p.grads[i] * s.clip_factor;
        float m = s.beta1 * p.m[i] + s.rest1 * g;
        float v = s.beta2 * p.v[i] + s.rest2 * g * g;
        float root = sqrtf(v * s.inverse_correction2) + s.epsilon;
        float direction = m * s.inverse_correction1 / (root == 0 ? INFINITY : root); // x / 0 = 0, without a branch
        p.m[i] = m;
        p.v[i] = v;
        p.z[i] -= s.eta * direction + s.decay * p.z[i];
    }
}

static void move_range(const AdamwUpdate *update, int64_t begin, int64_t end) {
    int64_t next = find_segment(update->segments, begin);
    for (Part part; next_part(&part, update->segments, &next, begin, end);) {
        AdamwState state = {.z = cpu_floats(update->z) + part.begin, .m = cpu_floats(update->m) + part.begin,
                            .v = cpu_floats(update->v) + part.begin, .grads = cpu_floats(update->grads) + part.begin};
        move(state, part.count, segment_scalars(part.segment, update));
    }
}

void cpu_adamw_update(const AdamwUpdate *update) {
    int64_t count = tensor_count(update->z);
    float *z = cpu_floats(update->z), *weights = cpu_floats(update->weights);
    bool skip = cpu_doubles(update->status)[STATUS_SKIP] != 0;
    REQUIRE(tensor_count(update->weights) == count, "%ld weights of %ld", (long)tensor_count(update->weights),
            (long)count);
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(count))
    for (int64_t begin = 0; begin < count; begin += BLOCK) {
        int64_t end = least(begin + BLOCK, count);
        if (!skip) move_range(update, begin, end);
        if (weights != z) memcpy(weights + begin, z + begin, (size_t)(end - begin) * sizeof *z);
    }
}
