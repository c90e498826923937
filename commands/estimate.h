// Estimate: what a planned run will take, by what `bench` measured on this device (measurements.h).
#pragma once

#include "commands/measurements.h"
#include "commands/run.h"

typedef enum {
    ESTIMATE_RULE,     // nothing was: the step's own products, at a share of the rate of a large one
    ESTIMATE_SCALED,   // another model, micro-batch or number of threads was, on this device and in this precision
    ESTIMATE_MEASURED, // this configuration was measured here
} EstimateHow;

typedef struct {
    EstimateHow how;
    int64_t last_step;         // of this process: run_last_step
    double step_seconds;       // of one step, all ranks beside each other; what they send is not in it
    double training_seconds;   // of the steps that are left
    double evaluation_seconds; // of the evaluations that are left, roughly: 0 where there are none
    double stop_seconds;       // of both up to train.stop_at, where that comes before the end; else NaN
    double max_seconds;        // train.max_seconds; 0: none
    double save_seconds;       // of these, kept for the last checkpoint
    double product_flops;      // a second, of a large product, as it was measured for this; 0: it was not
    Measurement from;          // what was scaled, or was measured
} Estimate;

// Of a run after run_plan, at state.step. `product_flops`: of one rank's device, where the caller has measured it; else
// 0, and it is measured where it is needed. Times are NaN where there is no memory for that. What is wrong with the
// file of measurements is told once.
void estimate_run_at(const Run *planned, double product_flops, Estimate *out);
void estimate_run(const Run *planned, Estimate *out);

// "about 1m53s, as bench measured ...; 4% of it evaluation", and what will end this process before. `command`: what
// stands behind `train_gpt bench` to measure this run, for the advice to do so; NULL: no advice.
void estimate_print(const Estimate *estimate, const char *command, Text *out);
void estimate_date(const Measurement *measurement, char out[16]); // "2031-01-31", UTC
const char *estimate_how(const Estimate *estimate); // "measured", "scaled", "rule"

// What sets this run's step apart, without the times.
void estimate_describe(const Run *planned, Measurement *out);

// Steps of large networks reach this share of the machine's matrix product rate, about: what `bench` prints for the
// presets.
#define EXPECTED_SHARE 0.8
