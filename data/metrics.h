// metrics.jsonl: one JSON object per line, appended with one write each.
#pragma once

#include "runtime/error.h"

typedef struct {
    int descriptor; // -1: closed
    char path[4096];
    int64_t size;   // bytes in the file so far, and
    Text unwritten; // whole lines behind them that could not be written yet: what a checkpoint records
    bool torn;      // the file holds a part of them
} Metrics;

// Opens for appending, for a run that goes on at `step` from its first `keep` bytes: what stands behind them is kept as
// metrics.<step>.orphan.jsonl and cut off. A file shorter than that is told in `errors` and no failure. `unwritten`
// stays as it is, and is written with the next line.
bool metrics_open(Metrics *metrics, const char *run_dir, int64_t keep, int64_t step, Errors *errors);
// The same for one that is open and goes back to `step`; one that was removed is restored before.
bool metrics_go_back(Metrics *metrics, const char *run_dir, int64_t keep, int64_t step, Errors *errors);
// Adds the newline. A line that cannot be written waits for the next call, and no half line stays; the first failure of
// several is told. One that finds 1 MiB waiting is lost, and told.
bool metrics_write(Metrics *metrics, const char *json_line, Errors *errors);
bool metrics_flush(Metrics *metrics, Errors *errors); // true if every line is in the file
// A file that was removed or replaced under the run is written again, from what is still open.
bool metrics_restore(Metrics *metrics, Errors *errors);
bool metrics_sync(Metrics *metrics, Errors *errors); // before a checkpoint counts on what was written
void metrics_close(Metrics *metrics);
