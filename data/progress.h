// A progress bar on a terminal, and nothing elsewhere.
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *what; // "" or "counting "
    bool on;
    int64_t total;         // units of `done`; -1: not known
    double begun, shown;   // seconds
} Progress;

Progress progress_begin(const char *what, int64_t total, bool quiet);
// `done` of the total; `bytes` of text, whose rate is shown; -1: none.
void progress_show(Progress *progress, int64_t done, int64_t bytes);
void progress_end(const Progress *progress); // takes the bar away
