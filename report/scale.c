#include "report/scale.h"

#include <math.h>

#include "report/markup.h"

typedef struct {
    double divisor;
    const char *name;
    double from; // of the scale's upper end
} Multiple;

enum { MULTIPLES = 7 };
static const Multiple multiples[UNITS][MULTIPLES] = {
    [UNIT_COUNT] = {{1e12, "trillions", 1e13}, {1e9, "billions", 1e10}, {1e6, "millions", 1e7},
                    {1e3, "thousands", 1e4}},
    [UNIT_SECONDS] = {{86400, "days", 4 * 86400}, {3600, "hours", 3 * 3600}, {60, "minutes", 180}, {1, "seconds", 0}},
    [UNIT_FLOPS] = {{1e24, "10^24", 1e24}, {1e21, "10^21", 1e21}, {1e18, "10^18", 1e18}, {1e15, "10^15", 1e15},
                    {1e12, "10^12", 1e12}, {1e9, "10^9", 1e9}, {1e6, "10^6", 1e6}},
    [UNIT_BYTES] = {{0x1p30, "GiB", 0x1p30}, {0x1p20, "MiB", 0x1p20}, {1, "bytes", 0}},
    [UNIT_SHARE] = {{0.01, "%", 0}},
};

// Values whose differences and ratios are finite.
static bool is_sound(double value) { return fabs(value) < 1e150; }

Scale scale_of(double low, double high, bool log, Unit unit) {
    Scale s = {.low = low, .high = high, .log = log, .divisor = 1, .unit = ""};
    bool sound = is_sound(low) && is_sound(high) && low <= high;
    if (!sound || (log && low < 1e-150)) s.low = log ? 1 : 0, s.high = log ? 10 : 1;
    if (s.high - s.low <= 1e-12 * fabs(s.high)) { // one value alone stands in the middle
        double room = log ? 0 : s.high != 0 ? fabs(s.high) / 2 : 1;
        s.low = log ? s.low / 2 : s.low - room;
        s.high = log ? s.high * 2 : s.high + room;
    }
    for (const Multiple *m = multiples[unit]; m < multiples[unit] + MULTIPLES && m->name; m++) {
        if (fmax(fabs(s.low), fabs(s.high)) < m->from) continue;
        s.divisor = m->divisor;
        s.unit = m->name;
        break;
    }
    return s;
}

bool scale_shows(const Scale *scale, double value) { return is_sound(value) && (!scale->log || value > 0); }

double scale_place(const Scale *s, double value) {
    if (s->log) return (log(value) - log(s->low)) / (log(s->high) - log(s->low));
    return (value - s->low) / (s->high - s->low);
}

// ---- ticks ----

// The smallest of 1, 2, 2.5, 5, 10 times a power of ten that is no smaller.
static double round_step(double least) {
    static const double steps[] = {1, 2, 2.5, 5, 10};
    double power = pow(10, floor(log10(least)));
    for (int i = 0; i < 5; i++)
        if (steps[i] * power >= least * (1 - 1e-9)) return steps[i] * power;
    return 10 * power;
}

// In multiples of the divisor, whose ticks are round then.
static int linear_ticks(const Scale *s, int most, double ticks[SCALE_TICKS]) {
    double low = s->low / s->divisor, high = s->high / s->divisor, step = round_step((high - low) / most);
    int count = 0;
    for (double k = ceil(low / step - 1e-6); k * step <= high + 1e-6 * step && count < SCALE_TICKS; k++)
        ticks[count++] = k == 0 ? 0 : k * step * s->divisor;
    return count;
}

static int decade_ticks(const Scale *s, const double *digits, int count, int every, double ticks[SCALE_TICKS]) {
    int found = 0;
    double first = floor(log10(s->low / s->divisor)), last = floor(log10(s->high / s->divisor) + 1e-9);
    for (double decade = first; decade <= last; decade++)
        for (int i = 0; i < count; i++) {
            double tick = digits[i] * pow(10, decade) * s->divisor;
            bool inside = tick >= s->low * (1 - 1e-9) && tick <= s->high * (1 + 1e-9);
            bool wanted = inside && fmod(decade - first, every) == 0;
            if (wanted && found < SCALE_TICKS) ticks[found++] = tick;
        }
    return found;
}

int scale_ticks(const Scale *s, int most, double ticks[SCALE_TICKS]) {
    static const double digits[] = {1, 3};
    static const double ordered[] = {1, 2, 3, 5};
    if (most > SCALE_TICKS) most = SCALE_TICKS;
    if (!s->log) return linear_ticks(s, most, ticks);
    double decades = log10(s->high / s->low);
    int every = (int)ceil(decades / most);
    int count = decades * 4 <= most + 1 ? decade_ticks(s, ordered, 4, 1, ticks)
                : decades * 2 <= most + 2 ? decade_ticks(s, digits, 2, 1, ticks)
                                      : decade_ticks(s, digits, 1, every > 1 ? every : 1, ticks);
    return count >= 2 ? count : linear_ticks(s, most, ticks); // less than a decade
}

const char *scale_tick_label(const Scale *scale, double tick, char out[TEXT_NUMBER]) {
    return markup_number(out, tick / scale->divisor, 6);
}
