// metrics.jsonl: one JSON object per line, appended with one write each.
#pragma once

#include "data/growing_file.h"

typedef struct {
    GrowingFile file;
    Text unwritten; // whole lines behind it that could not be written yet: what a checkpoint records besides file.size
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
void metrics_close(Metrics *metrics);

// The lines one behind the other, in the file and those that wait, for who reads along: bytes of all of them; where the
// first line stands from which on all are of `step` or later ones; and the whole lines from an offset on, about `most`
// bytes of them. A file that cannot be read has none.
int64_t metrics_end(const Metrics *metrics);
int64_t metrics_find(const Metrics *metrics, int64_t step);
void metrics_read(const Metrics *metrics, int64_t offset, int64_t most, Text *out);
