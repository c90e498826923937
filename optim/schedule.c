#include "optim/schedule.h"

#include <math.h>

static const double PI = 3.14159265358979323846;

// Each on progress in [0, 1] from the end of warmup to the end of the run.
static double constant(const Schedule *s, double progress) { return (void)s, (void)progress, 1; }

static double linear(const Schedule *s, double progress) { return 1 - (1 - s->final) * progress; }

static double cosine(const Schedule *s, double progress) {
    return s->final + (1 - s->final) * 0.5 * (1 + cos(PI * progress));
}

// Each from 1 to 0 while `left`, the share of the decay that is still to come, goes from 1 to 0.
static double shape_linear(double left) { return left; }
static double shape_sqrt(double left) { return sqrt(left); }
static double shape_1_sqrt(double left) { return 1 - sqrt(1 - left); }
static double shape_square(double left) { return left * left; }
static double shape_cosine(double left) { return 0.5 * (1 - cos(PI * left)); }

static double (*const shapes[])(double) = {
    [SHAPE_LINEAR] = shape_linear, [SHAPE_SQRT] = shape_sqrt,     [SHAPE_1_SQRT] = shape_1_sqrt,
    [SHAPE_SQUARE] = shape_square, [SHAPE_COSINE] = shape_cosine, [SHAPE_EXP] = NULL,
};

// Warmup, stable, decay. The exponential one falls by equal factors, which cannot end at 0.
static double stable_then(const Schedule *s, double progress, DecayShape shape) {
    const double least = 1e-3;
    double share = s->steps > s->warmup ? s->decay_fraction * (double)s->steps / (double)(s->steps - s->warmup) : 1;
    double begin = share < 1 ? 1 - share : 0;
    if (progress <= begin) return 1;
    double left = (1 - progress) / (1 - begin);
    if (shape == SHAPE_EXP) return pow(s->final > 0 ? s->final : least, 1 - left);
    return s->final + (1 - s->final) * shapes[shape](left);
}

static double wsd(const Schedule *s, double progress) { return stable_then(s, progress, s->shape); }
static double trapezoid(const Schedule *s, double progress) { return stable_then(s, progress, SHAPE_LINEAR); }

static double inverse_sqrt(const Schedule *s, double progress) { // 1 at the end of warmup, or at step 1
    double first = s->warmup > 0 ? (double)s->warmup : 1;
    double t = (double)s->warmup + progress * ((double)s->steps - (double)s->warmup);
    return sqrt(first / (t > first ? t : first));
}

static double (*const curves[])(const Schedule *, double) = {
    [SCHEDULE_CONSTANT] = constant, [SCHEDULE_LINEAR] = linear,       [SCHEDULE_COSINE] = cosine,
    [SCHEDULE_WSD] = wsd,           [SCHEDULE_TRAPEZOID] = trapezoid, [SCHEDULE_INVERSE_SQRT] = inverse_sqrt,
};

double schedule_factor(const Schedule *s, int64_t t) {
    if (t < 0) t = 0;
    if (s->warmup > 0 && t <= s->warmup) return (double)t / (double)s->warmup;
    double progress = s->steps > s->warmup ? (double)(t - s->warmup) / (double)(s->steps - s->warmup) : 1;
    return curves[s->kind](s, progress < 1 ? progress : 1);
}
