// The reference backend on the step: norm, decision, the update of every segment, and what matrices need besides.
#include "tests/reference/numbers.h"

// ---- the decision ----

void reference_sum_squares(Tensor out, Tensor values, Segments segments) {
    double sum = 0;
    for (int64_t s = 0; s < segments.count; s++)
        for (int64_t i = 0; i < segments.items[s].count; i++)
            sum += pow(get(values, AT(segments.items[s].offset + i)), 2);
    set(out, AT(0), sum);
}

static double far_above(Tensor window, int64_t ring, double sigma) {
    int64_t accepted = (int64_t)get(window, AT(WINDOW_COUNT)), count = accepted < 128 ? accepted : 128;
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < count; i++) mean += get(window, AT(ring + i)) / (double)count;
    for (int64_t i = 0; i < count; i++) variance += pow(get(window, AT(ring + i)) - mean, 2) / (double)count;
    double deviation = sqrt(variance), least = fabs(mean) / 1000;
    return mean + sigma * (deviation > least ? deviation : least);
}

static bool is_spike(Tensor window, double loss, double norm, double sigma) {
    if (sigma == 0 || get(window, AT(WINDOW_COUNT)) < 64) return false;
    return loss > far_above(window, WINDOW_LOSSES, sigma) || norm > far_above(window, WINDOW_NORMS, sigma);
}

void reference_step_decide(Tensor status, Tensor window, const StepScalars *scalars) {
    double norm = sqrt(get(status, AT(STATUS_GRAD_SQUARES))), count = get(window, AT(WINDOW_COUNT));
    double factor = scalars->clip > 0 && norm > scalars->clip ? scalars->clip / norm : 1;
    double loss = get(status, AT(STATUS_LOSS_SUM)), weight = get(status, AT(STATUS_WEIGHT_SUM));
    if (weight > 0) loss /= weight;
    bool usable = isfinite(norm) && isfinite(loss) && norm * factor <= GRAD_NORM_LIMIT;
    bool spike = usable && is_spike(window, loss, norm, scalars->spike_sigma);
    bool held = get(window, AT(WINDOW_BAD)) > (double)scalars->seen;
    set(status, AT(STATUS_GRAD_NORM), norm);
    set(status, AT(STATUS_CLIP_FACTOR), factor);
    set(status, AT(STATUS_SKIP), held ? SKIP_HELD : !usable ? SKIP_NOT_FINITE : spike ? SKIP_SPIKE : SKIP_NONE);
    if (held) return;
    if (!usable || spike) {
        set(window, AT(WINDOW_BAD), (double)scalars->t);
        return;
    }
    set(window, AT(WINDOW_LOSSES + (int64_t)count % 128), loss);
    set(window, AT(WINDOW_NORMS + (int64_t)count % 128), norm);
    set(window, AT(WINDOW_COUNT), count + 1);
}

static bool skipped(const Update *u) { return get(u->status, AT(STATUS_SKIP)) != 0; }

// ---- one element of one segment ----

typedef struct {
    const Update *update;
    const Segment *segment;
    const RecipeScalars *r;
    int64_t s, i; // of the segment in the list, of the element in the segment
} Element;

static void for_elements(const Update *u, void (*call)(const void *context, Element at), const void *context) {
    for (int64_t s = 0; s < u->segments.count; s++) {
        const Segment *segment = &u->segments.items[s];
        for (int64_t i = 0; i < segment->count; i++)
            call(context, (Element){u, segment, &u->scalars->recipe[segment->route], s, i});
    }
}

static int64_t flat(Element e) { return e.segment->offset + e.i; }

static double gradient(Element e) {
    return get(e.update->grads, AT(flat(e))) * get(e.update->status, AT(STATUS_CLIP_FACTOR));
}

static double slot(Element e, int number) { return get(e.update->state, AT(e.segment->slot[number] + e.i)); }

static double set_slot(Element e, int number, double value) {
    set(e.update->state, AT(e.segment->slot[number] + e.i), value);
    return value;
}

static double average(Element e, int number, double beta, double value) {
    return set_slot(e, number, beta * slot(e, number) + (1 - beta) * value);
}

static double gap(Element e) {
    return e.segment->gap < 0 ? 0 : get(e.update->state, AT(e.segment->gap + e.i));
}

static int64_t packed(Element e) { return e.segment->z + e.i; } // in z and in the readout

static double z_of(Element e) { return get(e.update->z, AT(packed(e))); }

static double between(Element e, double share) { return z_of(e) + share * gap(e); }

// ---- directions ----

static double quotient(double a, double b) { return b == 0 ? 0 : a / b; }

static double sign(double x) { return (x > 0) - (x < 0); }

static double adaptive(Element e, double mean, double square) {
    return quotient(mean, sqrt(square / e.r->correction2) + e.r->epsilon);
}

static double momentum(Element e) {
    double g = gradient(e), m = set_slot(e, 0, e.r->momentum * slot(e, 0) + e.r->feed * g);
    return e.r->mix_momentum * m + e.r->mix_gradient * g;
}

static double lion(Element e) {
    double d = sign(e.r->beta1 * slot(e, 0) + (1 - e.r->beta1) * gradient(e));
    average(e, 0, e.r->beta2, gradient(e));
    return d;
}

static double adam(Element e, double g) {
    double m = average(e, 0, e.r->beta1, g), v = average(e, 1, e.r->beta2, g * g);
    return adaptive(e, m / e.r->correction1, v);
}

static double ademamix(Element e) {
    double g = gradient(e), m = average(e, 0, e.r->beta1, g), slow = average(e, 1, e.r->beta3, g);
    return adaptive(e, m / e.r->correction1 + e.r->alpha * slow, average(e, 2, e.r->beta2, g * g));
}

static double adamx(Element e) {
    double g = gradient(e), m = average(e, 0, e.r->beta1, g), v = average(e, 1, e.r->beta2, g * g);
    return adaptive(e, m / e.r->correction1, set_slot(e, 2, fmax(e.r->rescale * slot(e, 2), v)));
}

static double corrected(Element e) { return gradient(e) + e.r->gamma * (gradient(e) - slot(e, 2)); }

static double mars(Element e) {
    double u = corrected(e) / fmax(1, sqrt(get(e.update->squares, AT(e.s))));
    set_slot(e, 2, gradient(e));
    return adam(e, u);
}

// (segments, rows, columns)
static double given(Element e) {
    int64_t columns = e.update->directions.shape[2];
    return get(e.update->directions, AT(e.s, e.i / columns, e.i % columns));
}

static double direction(Element e) {
    switch ((Direction)e.segment->direction) {
    case DIRECTION_GIVEN: return given(e);
    case DIRECTION_GRADIENT: return gradient(e);
    case DIRECTION_MOMENTUM: return momentum(e);
    case DIRECTION_SIGNUM: return sign(momentum(e));
    case DIRECTION_LION: return lion(e);
    case DIRECTION_ADAM: return adam(e, gradient(e));
    case DIRECTION_ADAM_WITHOUT_MEAN: return adaptive(e, gradient(e), average(e, 0, e.r->beta2, pow(gradient(e), 2)));
    case DIRECTION_ADEMAMIX: return ademamix(e);
    case DIRECTION_ADAMX: return adamx(e);
    case DIRECTION_MARS: return mars(e);
    case DIRECTION_COUNT: break;
    }
    DIE(EXIT_INTERNAL, "direction %d", e.segment->direction);
}

// ---- iterates ----

static void move(Element e) {
    double eta = e.r->eta * e.segment->lr_scale, decay = eta * e.r->decay * e.segment->decay_scale;
    double z = z_of(e), y = between(e, e.r->b), step = eta * e.segment->move_scale * direction(e);
    double moved = z;
    switch ((DecayPoint)e.segment->decay_at) {
    case DECAY_AT_Z: moved = z - (step + decay * z); break;
    case DECAY_AT_Y: moved = z - (step + decay * y); break;
    case DECAY_AFTER: moved = (z - step) - decay * (z - step); break;
    }
    double stretched = e.r->stretch * gap(e) + (z - moved);
    if (e.segment->gap >= 0) set(e.update->state, AT(e.segment->gap + e.i), stretched - e.r->c * stretched);
    set(e.update->z, AT(packed(e)), moved);
}

static void update_element(const void *context, Element e) {
    const Update *u = context;
    if (!skipped(u)) move(e);
    set(u->weights, AT(flat(e)), between(e, e.r->b_next));
}

void reference_update(const Update *update) { for_elements(update, update_element, update); }

void reference_corrected_squares(Tensor out, const Update *update) {
    for (int64_t s = 0; s < update->segments.count; s++) {
        const Segment *segment = &update->segments.items[s];
        double squares = 0;
        for (int64_t i = 0; i < segment->count && segment->direction == DIRECTION_MARS; i++)
            squares += pow(corrected((Element){update, segment, &update->scalars->recipe[segment->route], s, i}), 2);
        set(out, AT(s), squares);
    }
}

typedef struct {
    Tensor out;
    const double *share;
} Interpolation;

static void interpolate_element(const void *context, Element e) {
    const Interpolation *c = context;
    set(c->out, AT(flat(e)), between(e, c->share[e.segment->route]));
}

void reference_interpolate(Tensor out, const Update *update, const double share[RECIPE_ROUTES]) {
    for_elements(update, interpolate_element, &(Interpolation){out, share});
}

static void readout_element(const void *context, Element e) {
    const Tensor *readout = context;
    add(*readout, AT(packed(e)), e.update->scalars->readout * (between(e, 1) - get(*readout, AT(packed(e)))));
}

void reference_readout_add(Tensor readout, const Update *update) {
    if (!skipped(update)) for_elements(update, readout_element, &readout);
}

// ---- matrices ----

static void mix_element(const void *context, Element e) {
    const Tensor *out = context;
    set(*out, AT(e.s, e.i / out->shape[2], e.i % out->shape[2]), skipped(e.update) ? 0 : momentum(e));
}

void reference_momentum_mix(Tensor out, const Update *update) { for_elements(update, mix_element, &out); }

static double row_squares(Tensor t, int64_t k, int64_t row) {
    double sum = 0;
    for (int64_t c = 0; c < t.shape[2]; c++) sum += pow(get(t, AT(k, row, c)), 2);
    return sum;
}

void reference_matrix_normalise(Tensor matrices, const MatrixNorm *norm) {
    for (int64_t k = 0; k < matrices.shape[0]; k++) {
        double squares = 0;
        for (int64_t r = 0; r < matrices.shape[1]; r++) squares += row_squares(matrices, k, r);
        double size = norm->factor * sqrt(squares);
        double divisor = norm->add_epsilon ? size + norm->epsilon : fmax(size, norm->epsilon);
        for (int64_t r = 0; r < matrices.shape[1]; r++)
            for (int64_t c = 0; c < matrices.shape[2]; c++)
                set(matrices, AT(k, r, c), quotient(norm->target, divisor) * get(matrices, AT(k, r, c)));
    }
}

static double factor_of(bool transposed, Tensor t, int64_t k, int64_t row, int64_t column) {
    return transposed ? get(t, AT(k, column, row)) : get(t, AT(k, row, column));
}

void reference_matrix_product(const MatrixProduct *p) {
    int64_t inner = p->a.shape[p->a_transposed ? 1 : 2];
    for (int64_t k = 0; k < p->out.shape[0]; k++)
        for (int64_t m = 0; m < p->out.shape[1]; m++)
            for (int64_t n = 0; n < p->out.shape[2]; n++) {
                double sum = 0;
                for (int64_t i = 0; i < inner; i++)
                    sum += factor_of(p->a_transposed, p->a, k, m, i) * factor_of(p->b_transposed, p->b, k, i, n);
                double kept = p->beta == 0 ? 0 : p->beta * get(p->c, AT(k, m, n));
                set(p->out, AT(k, m, n), p->alpha * sum + kept);
            }
}

static double neuron_factor(Tensor state, int64_t v, const RecipeScalars *r) {
    return quotient(1, sqrt(get(state, AT(v))) + r->epsilon);
}

static void normalise_neurons(Tensor o, int64_t k, bool unit, const Update *update) {
    const Segment *segment = &update->segments.items[k];
    const RecipeScalars *r = &update->scalars->recipe[segment->route];
    double rows = (double)o.shape[1], columns = (double)o.shape[2], squares = 0, normalised = 0;
    for (int64_t row = 0; row < o.shape[1]; row++) {
        int64_t v = segment->slot[1] + row;
        double own = row_squares(o, k, row);
        set(update->state, AT(v), r->beta2 * get(update->state, AT(v)) + (1 - r->beta2) * own / columns);
        squares += own;
        normalised += own * pow(neuron_factor(update->state, v, r), 2);
    }
    double factor = unit ? sqrt(rows * columns) / fmax(sqrt(normalised), 1e-12)
                         : quotient(sqrt(squares), sqrt(normalised) + r->epsilon);
    for (int64_t row = 0; row < o.shape[1]; row++)
        for (int64_t c = 0; c < o.shape[2]; c++)
            set(o, AT(k, row, c), factor * neuron_factor(update->state, segment->slot[1] + row, r) *
                                      get(o, AT(k, row, c)));
}

void reference_neuron_normalise(Tensor matrices, bool unit, const Update *update) {
    for (int64_t k = 0; k < matrices.shape[0] && !skipped(update); k++) normalise_neurons(matrices, k, unit, update);
}

// ---- a pass over memory ----

void reference_stream(const Tensor *tensors, int64_t count, int64_t first_updated, int64_t first_overwritten) {
    for (int64_t i = 0; i < tensors[0].shape[0]; i++) {
        double sum = 0;
        for (int64_t t = 0; t < first_overwritten; t++) sum += get(tensors[t], AT(i));
        for (int64_t t = first_updated; t < count; t++)
            set(tensors[t], AT(i), quotient(sum, (double)first_overwritten));
    }
}
