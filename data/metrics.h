// metrics.jsonl: one JSON object per line, appended with one write each.
#pragma once

#include "runtime/error.h"

typedef struct {
    int descriptor; // -1: closed
    char path[4096];
    int64_t size; // bytes so far: what a checkpoint records
} Metrics;

// Opens for appending, for a run that goes on at `step` from its first `keep` bytes: what stands behind them is kept as
// metrics.<step>.orphan.jsonl and cut off. A file shorter than that is told in `errors` and no failure.
bool metrics_open(Metrics *metrics, const char *run_dir, int64_t keep, int64_t step, Errors *errors);
bool metrics_write(Metrics *metrics, const char *json_line, Errors *errors); // adds the newline; whole or not at all
bool metrics_sync(Metrics *metrics, Errors *errors); // before a checkpoint counts on what was written
void metrics_close(Metrics *metrics);
