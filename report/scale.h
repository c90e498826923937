// Scales: from values to places on an axis, with round ticks.
#pragma once

#include <stdbool.h>

#include "runtime/text.h"

// What an axis counts in: the label names the multiple that fits ("tokens (millions)"), ticks stay short.
typedef enum { UNIT_PLAIN, UNIT_COUNT, UNIT_SECONDS, UNIT_FLOPS, UNIT_BYTES, UNIT_SHARE, UNITS } Unit;

typedef struct {
    double low, high; // low < high; positive where log
    bool log;
    double divisor;   // what a tick's value is divided by
    const char *unit; // "millions"; "": none
} Scale;

enum { SCALE_TICKS = 16 };

// That shows all from low to high, which may be equal; `most` of the ticks that fit. Not finite or, on a log scale, not
// positive: 0 to 1, or 1 to 10.
Scale scale_of(double low, double high, bool log, Unit unit);
bool scale_shows(const Scale *scale, double value); // it has a place, if perhaps beyond the ends
double scale_place(const Scale *scale, double value); // 0 at low, 1 at high
int scale_ticks(const Scale *scale, int most, double ticks[SCALE_TICKS]);
const char *scale_tick_label(const Scale *scale, double tick, char out[TEXT_NUMBER]);
