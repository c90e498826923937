// Learning-rate curves: pure functions of the step.
#pragma once

#include <stdint.h>

#include "optim/optim_options.h"

typedef struct {
    ScheduleKind kind;
    int64_t warmup;        // steps of linear warmup
    int64_t steps;         // of the run
    double final;          // last value of a decaying curve
    double decay_fraction; // share of the run in which wsd and trapezoid decay
    DecayShape shape;      // of wsd's decay
} Schedule;

// What step t = 1, 2, ... multiplies the learning rate by: t / warmup up to t = warmup, then the curve, which reaches
// `final` at t = steps. May be asked for any step: before the first one, where the run begins; after the last, its end.
double schedule_factor(const Schedule *schedule, int64_t t);
