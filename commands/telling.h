// Telling: what a training run says of its steps, its samples and its end, on the console and in metrics.jsonl.
#pragma once

#include "commands/console.h"
#include "commands/steps.h"

typedef enum { SPENT_TRAINING, SPENT_EVALUATING, SPENT_SAVING, SPENT_SAMPLING, SPENT_KINDS } Spent;

// Seconds in which training waited for it, or trained.
typedef struct {
    double all, last;
    int64_t times;
} Spending;

typedef struct {
    double product_flops;     // a second, of a large product on one rank's device
    double step_seconds;      // smoothed; the first step does not count
    double smoothing;         // total weight of what was smoothed so far
    double tokens_per_second; // at that
    int64_t steps;            // that this process made
    Spending spent[SPENT_KINDS];
} Telling;

Telling tell_begin(Run *run); // measures, and tells how long the run will take
void tell_spent(Telling *telling, Spent what, double seconds);

// Of the step that was just counted. `saving`: seconds of one checkpoint, as far as they are known; `due` for a line in
// the metrics and the log.
void tell_step(Run *run, const StepResult *result, Telling *telling, double saving, bool due);
void tell_sample(Run *run, Telling *telling); // all ranks come here; rank 0 makes it

// How the run ends with this exit code: what it took, what it reached, where it is kept (of step `saved`), what comes
// next. What ended it was told, unless it ended by itself, was stopped or had too many bad steps.
void tell_end(const Run *run, const Telling *telling, int64_t saved, int exit_code);
