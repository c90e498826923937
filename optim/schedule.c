#include "optim/schedule.h"

#include <math.h>

// Each on progress in [0, 1] from the end of warmup to the end of the run.
static double constant(const Schedule *s, double progress) { return (void)s, (void)progress, 1; }

static double linear(const Schedule *s, double progress) { return 1 - (1 - s->final) * progress; }

static double cosine(const Schedule *s, double progress) {
    return s->final + (1 - s->final) * 0.5 * (1 + cos(3.14159265358979323846 * progress));
}

static double wsd(const Schedule *s, double progress) { // warmup, stable, linear decay
    double share = s->steps > s->warmup ? s->decay_fraction * (double)s->steps / (double)(s->steps - s->warmup) : 1;
    double begin = share < 1 ? 1 - share : 0;
    return progress <= begin ? 1 : linear(s, (progress - begin) / (1 - begin));
}

static double inverse_sqrt(const Schedule *s, double progress) { // 1 at the end of warmup
    double first = s->warmup > 0 ? (double)s->warmup : 1;
    double t = first + progress * ((double)s->steps - first);
    return sqrt(first / (t > first ? t : first));
}

static double (*const curves[])(const Schedule *, double) = {
    [SCHEDULE_CONSTANT] = constant, [SCHEDULE_LINEAR] = linear,
    [SCHEDULE_COSINE] = cosine,     [SCHEDULE_WSD] = wsd,
    [SCHEDULE_INVERSE_SQRT] = inverse_sqrt,
};

double schedule_factor(const Schedule *s, int64_t t) {
    if (t < 0) t = 0;
    if (s->warmup > 0 && t <= s->warmup) return (double)t / (double)s->warmup;
    double progress = s->steps > s->warmup ? (double)(t - s->warmup) / (double)(s->steps - s->warmup) : 1;
    return curves[s->kind](s, progress < 1 ? progress : 1);
}
