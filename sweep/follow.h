// Where a run stands: its metrics.jsonl, read as far as it has come, and on from there the next time.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *metric;
    bool maximise;
    int64_t offset; // bytes that were read
    int64_t step;
    double loss, value, best; // of the last step, of the last evaluation, and the best one; NaN: none
    bool valued, finite;      // there was a value; the last one, or else the last loss, is a number
    double tokens_per_second, seconds;
    double energy; // joules, of all processes of the run; NaN: not known
} Follow;

Follow follow_begin(const char *metric, bool maximise);
// Reads what is new. A run that went back, so that the file is shorter than before, is read from its beginning.
void follow_read(Follow *follow, const char *run_dir);
