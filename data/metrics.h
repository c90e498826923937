// metrics.jsonl: one JSON object per line, appended with one write each.
#pragma once

#include "runtime/error.h"

typedef struct {
    int descriptor; // -1: closed
    char path[4096];
    int64_t size; // bytes so far: what a checkpoint records
} Metrics;

// Opens for appending. `keep` >= 0: the file is cut to that many bytes first, and what stood behind is kept as
// metrics.<step>.orphan.jsonl (for a resume at `step`).
bool metrics_open(Metrics *metrics, const char *run_dir, int64_t keep, int64_t step, Errors *errors);
bool metrics_write(Metrics *metrics, const char *json_line, Errors *errors); // adds the newline
void metrics_close(Metrics *metrics);
