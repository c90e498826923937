// What a run directory tells: its configuration, how it came about, what was measured along it.
#pragma once

#include "data/metric.h"
#include "data/metrics_table.h"
#include "report/curve.h"
#include "report/scale.h"

// What is drawn along a run: one row each in run_facts.c.
typedef enum {
    TRACE_METRIC, // of evaluations: val_loss, or what a sweep is about
    TRACE_LOSS,
    TRACE_RATE_OF_LEARNING,
    TRACE_NORM,
    TRACE_SPEED,
    TRACE_MFU,
    TRACE_POWER,
    TRACE_UTILIZATION,
    TRACE_TEMPERATURE,
    TRACE_CLOCK,
    TRACE_MEMORY,
    TRACE_BITS,
    TRACE_HELLASWAG,
    TRACES
} Trace;

typedef struct {
    Metric metric;
    const char *title, *label;
    Unit unit;
    bool log;
    bool smooth;       // noisy: drawn smoothed
} TraceRow;
extern const TraceRow trace_rows[TRACES];

typedef struct {
    char *dir, *name;    // run_dir_name
    TextList keys, values; // of the configuration, nested keys with points
    TextList command;
    char *program, *host, *device;
    double parameters, flops_per_token, step_tokens; // NaN: not known
    bool anytime;        // known to be so: no schedule that ends with the run
    Curve traces[TRACES];
    int64_t steps, rows; // reached; of the metrics
    double tokens, seconds, speed, energy, planned_steps; // NaN: not known
    double last, best, best_step; // of the metric; NaN: none
    double last_loss, skipped;
    int64_t reach;       // steps to both sides over which the loss is smoothed
    TextList events;     // "spike at step 80", at most so many as are worth telling
    int64_t event_count;
    Errors trouble;      // what could not be read
} RunFacts;

// How it is read: at most `points` of a curve and `metric_points` of the metric's; which metric, and whether more is
// better.
typedef struct {
    const char *metric;
    bool maximise;
    int64_t points, metric_points;
} FactsRequest;

char *run_dir_name(const char *dir); // the last part of its path, for . and .. that of what they stand for; to be freed
bool run_dir_is(const char *path); // it has a run.json or metrics
// What is there is read; the rest is in `trouble`. Always to be closed.
void run_facts_read(RunFacts *facts, const char *dir, const FactsRequest *request);
void run_facts_close(RunFacts *facts);
const char *run_facts_setting(const RunFacts *facts, const char *key); // "": none
void run_facts_model(const RunFacts *facts, Text *out);                // "gpt2-124m", "4 layers of 192"
