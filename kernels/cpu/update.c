// The step over the flat buffers: gradient norm, the decision to move, and the update in one pass over memory.
#include <math.h>
#include <string.h>

#include "kernels/cpu/directions.h"

enum {
    PIECE = 256,       // elements whose direction stays in the first cache until it is applied
    SUM_CHUNKS = 1024, // of sum_squares
    NORM_CHUNKS = 64,  // of one segment's squares
    LINE = 16,         // elements of a cache line
    STREAM_BLOCK = 1 << 16,
    STREAM_TENSORS = 16,
};

// ---- sums, and the decision ----

// Four quarters side by side: one stream alone waits for memory.
static double squares(const float *x, int64_t n) {
    int64_t quarter = n / 4;
    const float *y = x + quarter, *z = y + quarter, *w = z + quarter;
    double first = 0, second = 0, third = 0, fourth = 0;
#pragma omp simd reduction(+ : first, second, third, fourth)
    for (int64_t i = 0; i < quarter; i++) {
        first += (double)x[i] * x[i], second += (double)y[i] * y[i];
        third += (double)z[i] * z[i], fourth += (double)w[i] * w[i];
    }
    for (int64_t i = 4 * quarter; i < n; i++) first += (double)x[i] * x[i];
    return (first + second) + (third + fourth);
}

static double range_squares(const float *x, Segments segments, int64_t begin, int64_t end) {
    double sum = 0;
    int64_t next = segments_find(segments, begin);
    for (Part part; segments_next(&part, segments, &next, begin, end);) sum += squares(x + part.begin, part.count);
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

// Whether `value` lies far above those of a ring. In two passes: a variance is never negative.
static bool is_spike(double value, const double *ring, double accepted, double sigma) {
    int64_t count = accepted < SPIKE_WINDOW ? (int64_t)accepted : SPIKE_WINDOW;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++) sum += ring[i];
    double mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++) squares += (ring[i] - mean) * (ring[i] - mean);
    return value > mean + sigma * fmax(sqrt(squares / (double)count), SPIKE_FLOOR * fabs(mean));
}

static Skip judge(const double *status, const double *window, double loss, const StepScalars *scalars) {
    double norm = status[STATUS_GRAD_NORM], count = window[WINDOW_COUNT], sigma = scalars->spike_sigma;
    if (window[WINDOW_BAD] > (double)scalars->seen) return SKIP_HELD;
    bool usable = isfinite(norm) && norm * status[STATUS_CLIP_FACTOR] <= GRAD_NORM_LIMIT && isfinite(loss);
    if (!usable) return SKIP_NOT_FINITE;
    bool spike = sigma > 0 && count >= SPIKE_WINDOW / 2 && (is_spike(loss, window + WINDOW_LOSSES, count, sigma) ||
                                                            is_spike(norm, window + WINDOW_NORMS, count, sigma));
    return spike ? SKIP_SPIKE : SKIP_NONE;
}

void cpu_step_decide(Tensor status_tensor, Tensor window_tensor, const StepScalars *scalars) {
    double *status = cpu_doubles(status_tensor), *window = cpu_doubles(window_tensor);
    double norm = sqrt(status[STATUS_GRAD_SQUARES]), clip = scalars->clip, weight = status[STATUS_WEIGHT_SUM];
    double loss = weight > 0 ? status[STATUS_LOSS_SUM] / weight : status[STATUS_LOSS_SUM];
    status[STATUS_GRAD_NORM] = norm;
    status[STATUS_CLIP_FACTOR] = clip > 0 && norm > clip ? clip / norm : 1;
    Skip skip = judge(status, window, loss, scalars);
    status[STATUS_SKIP] = skip;
    if (skip == SKIP_NOT_FINITE || skip == SKIP_SPIKE) window[WINDOW_BAD] = (double)scalars->t;
    if (skip != SKIP_NONE) return;
    int64_t place = (int64_t)window[WINDOW_COUNT] % SPIKE_WINDOW;
    window[WINDOW_LOSSES + place] = loss;
    window[WINDOW_NORMS + place] = norm;
    window[WINDOW_COUNT]++;
}

static double corrected_squares_of(const DirectionPiece *piece, DirectionScalars s) {
    const float *g = piece->gradient, *previous = piece->slot[2];
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < piece->count; i++) {
        float gradient = s.clip * g[i], corrected = gradient + s.gamma * (gradient - previous[i]);
        sum += (double)corrected * corrected;
    }
    return sum;
}

static double corrected_squares(const Update *update, Part whole) {
    DirectionScalars scalars = direction_scalars(update, &whole);
    double partial[NORM_CHUNKS], sum = 0;
#pragma omp parallel for num_threads(cpu_team(whole.count))
    for (int64_t i = 0; i < NORM_CHUNKS; i++) {
        int64_t begin = i * whole.count / NORM_CHUNKS, end = (i + 1) * whole.count / NORM_CHUNKS;
        DirectionPiece piece = direction_piece(update, &whole, begin, end - begin);
        partial[i] = corrected_squares_of(&piece, scalars);
    }
    for (int64_t i = 0; i < NORM_CHUNKS; i++) sum += partial[i];
    return sum;
}

void cpu_corrected_squares(Tensor squares_tensor, const Update *update) {
    Update own = *update;
    double *squares = cpu_doubles(squares_tensor);
    own.squares = squares_tensor; // read, and of no effect, before they are known
    for (int64_t i = 0; i < update->segments.count; i++) {
        const Segment *segment = &update->segments.items[i];
        squares[i] = 0;
        if (segment->direction == DIRECTION_MARS && segment->count > 0)
            squares[i] = corrected_squares(&own, (Part){segment, i, segment->offset, segment->count, 0});
    }
}

// ---- the iterates ----

static void require_same(Tensor values, const char *name, Tensor others) {
    REQUIRE(tensor_count(values) == tensor_count(others), "%ld %s of %ld", (long)tensor_count(values), name,
            (long)tensor_count(others));
}

static bool skipped(const Update *update) { return cpu_doubles(update->status)[STATUS_SKIP] != 0; }

static float *part_z(Tensor z, const Part *part) { return cpu_floats(z) + part->segment->z + part->from; }

// The part's elements of x - z, or NULL where its route does not average.
static float *part_gap(const Update *update, const Part *part) {
    int64_t first = part->segment->gap;
    return first < 0 ? NULL : cpu_floats(update->state) + first + part->from;
}

// out may be z where there is no gap.
static void between(float *out, const float *z, const float *gap, float share, int64_t n) {
    if (!gap) {
        if (out != z) memcpy(out, z, (size_t)n * sizeof *out);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) out[i] = z[i] + share * gap[i];
}

typedef struct {
    Tensor out;
    const Update *update;
    float share[RECIPE_ROUTES];
} Interpolation;

static void interpolate_part(const void *context, Part part) {
    const Interpolation *c = context;
    between(cpu_floats(c->out) + part.begin, part_z(c->update->z, &part), part_gap(c->update, &part),
            c->share[part.segment->route], part.count);
}

void cpu_interpolate(Tensor out, const Update *update, const double share[RECIPE_ROUTES]) {
    Interpolation context = {.out = out, .update = update};
    for (int i = 0; i < RECIPE_ROUTES; i++) context.share[i] = (float)share[i];
    require_same(out, "outputs", update->weights);
    segments_visit(update->segments, interpolate_part, &context);
}

typedef struct {
    Tensor readout;
    const Update *update;
} Readout;

static void readout_part(const void *context, Part part) {
    const Readout *c = context;
    float *e = part_z(c->readout, &part), share = (float)c->update->scalars->readout;
    const float *z = part_z(c->update->z, &part), *gap = part_gap(c->update, &part);
    if (gap) {
#pragma omp simd
        for (int64_t i = 0; i < part.count; i++) e[i] += share * (z[i] + gap[i] - e[i]);
    } else {
#pragma omp simd
        for (int64_t i = 0; i < part.count; i++) e[i] += share * (z[i] - e[i]);
    }
}

void cpu_readout_add(Tensor readout, const Update *update) {
    require_same(readout, "averages", update->z);
    if (!skipped(update)) segments_visit(update->segments, readout_part, &(Readout){readout, update});
}

// ---- the update ----

typedef struct {
    float step, decay; // of d and of P; both include eta
    float b;           // P = z + b gap
    float stretch, c, b_next;
} MoveScalars;

static MoveScalars move_scalars(const Update *update, const Segment *segment) {
    const RecipeScalars *r = &update->scalars->recipe[segment->route];
    double eta = r->eta * segment->lr_scale;
    return (MoveScalars){
        .step = (float)(eta * segment->move_scale), .decay = (float)(eta * r->decay * segment->decay_scale),
        .b = segment->decay_at == DECAY_AT_Y ? (float)r->b : 0,
        .stretch = (float)r->stretch, .c = (float)r->c, .b_next = (float)r->b_next,
    };
}

typedef struct {
    float *z, *gap, *weights; // weights may be z where there is no gap
} Iterates;

// One loop for each kind of segment: `gapped` and `after` are constants wherever this is called.
__attribute__((always_inline)) static inline void move(Iterates p, const float *d, int64_t n, MoveScalars s,
                                                       bool gapped, bool after) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float z = p.z[i], gap = gapped ? p.gap[i] : 0, at = gapped ? z + s.b * gap : z;
        float stepped = z - s.step * d[i];
        float moved = after ? stepped - s.decay * stepped : z - (s.step * d[i] + s.decay * at);
        float stretched = s.stretch * gap + (z - moved), rest = stretched - s.c * stretched;
        p.z[i] = moved;
        if (gapped) p.gap[i] = rest;
        p.weights[i] = gapped ? moved + s.b_next * rest : moved;
    }
}

static void move_piece(Iterates p, const float *d, int64_t n, const MoveScalars *s, bool after) {
    if (p.gap && after) move(p, d, n, *s, true, true);
    else if (p.gap) move(p, d, n, *s, true, false);
    else if (after) move(p, d, n, *s, false, true);
    else move(p, d, n, *s, false, false);
}

static void update_part(const void *context, Part part) {
    const Update *update = context;
    const Segment *segment = part.segment;
    DirectionScalars scalars = direction_scalars(update, &part);
    MoveScalars moves = move_scalars(update, segment);
    float *room = cpu_scratch(), *z = part_z(update->z, &part), *gap = part_gap(update, &part);
    float *weights = cpu_floats(update->weights) + part.begin;
    for (int64_t from = 0; from < part.count; from += PIECE) {
        int64_t count = least(PIECE, part.count - from);
        DirectionPiece piece = direction_piece(update, &part, from, count);
        const float *d = direction_take(segment->direction, room, &piece, &scalars);
        Iterates iterates = {z + from, gap ? gap + from : NULL, weights + from};
        move_piece(iterates, d, count, &moves, segment->decay_at == DECAY_AFTER);
    }
}

void cpu_update(const Update *update) {
    require_same(update->weights, "weights", update->grads);
    if (skipped(update)) {
        const RecipeScalars *r = update->scalars->recipe;
        const double share[RECIPE_ROUTES] = {r[RECIPE_MATRIX].b_next, r[RECIPE_OTHER].b_next};
        cpu_interpolate(update->weights, update, share);
    } else {
        segments_visit(update->segments, update_part, update);
    }
}

// ---- a pass to compare with ----

typedef float Lane __attribute__((vector_size(32), aligned(sizeof(float)), may_alias)); // eight elements of a tensor

typedef struct {
    float *data[STREAM_TENSORS];
    int64_t count, first_updated, first_overwritten;
    float share; // of what is read, in its mean
} Stream;

static Lane *lane(const Stream *s, int64_t t, int64_t i) { return (Lane *)(s->data[t] + i); }

// A cache line of every tensor at a time, in registers: what is written is the mean of what was read.
static void stream_lines(const Stream *s, int64_t begin, int64_t end) {
    Lane total = {0}; // so that what is only read is read
    for (int64_t i = begin; i < end; i += LINE) {
        Lane first = {0}, second = {0};
        for (int64_t t = 0; t < s->first_overwritten; t++) first += *lane(s, t, i), second += *lane(s, t, i + 8);
        total += first + second;
        first *= s->share, second *= s->share;
        for (int64_t t = s->first_updated; t < s->count; t++) *lane(s, t, i) = first, *lane(s, t, i + 8) = second;
    }
    *(Lane *)cpu_scratch() = total;
}

static void stream_rest(const Stream *s, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
        float sum = 0;
        for (int64_t t = 0; t < s->first_overwritten; t++) sum += s->data[t][i];
        for (int64_t t = s->first_updated; t < s->count; t++) s->data[t][i] = s->share * sum;
    }
}

void cpu_stream(const Tensor *tensors, int64_t count, int64_t first_updated, int64_t first_overwritten) {
    Stream stream = {.count = count, .first_updated = first_updated, .first_overwritten = first_overwritten,
                     .share = first_overwritten > 0 ? 1.0f / (float)first_overwritten : 0};
    int64_t elements = tensor_count(tensors[0]), whole = elements / LINE * LINE;
    REQUIRE(count <= STREAM_TENSORS, "%ld tensors, at most %d", (long)count, STREAM_TENSORS);
    for (int64_t t = 0; t < count; t++) stream.data[t] = cpu_floats(tensors[t]);
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(elements))
    for (int64_t begin = 0; begin < whole; begin += STREAM_BLOCK)
        stream_lines(&stream, begin, least(begin + STREAM_BLOCK, whole));
    stream_rest(&stream, whole, elements);
}
