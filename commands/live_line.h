// The line that shows where a run is, laid out for a terminal's width or as a plain line of a log. Nothing but text.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/text.h"

// Numbers that are NaN are not known, and are left out.
typedef struct {
    int64_t step, steps;
    double loss, lr, grad_norm;
    double tokens_per_second;
    double share;        // of the limit, 0..1
    double seconds_left; // until this process ends
    int64_t stop_at;     // the step that train.stop_at ends it with; 0: it goes on to the last one
    bool timed;          // train.max_seconds ends it before either
    bool at_least;       // something is still to come that was not measured yet
    bool skipped;
    const char *doing;   // what goes on between two steps: "evaluating"; NULL: steps go on
    double done;         // of that, 0..1
} LiveLine;

typedef struct {
    int columns;          // that may be filled
    bool colour, unicode; // escape sequences for colours; bars of more than ASCII
} LiveStyle;

// For a terminal: at most `columns` wide. What there is no room for goes in this order: share of the limit, gradient
// norm, learning rate, bar, tokens/s, share of the steps, loss, ETA, "SKIPPED", what goes on; the step stays, cut at
// last.
void live_line(const LiveLine *line, const LiveStyle *style, Text *out);

// For everything else: all of it, without a bar.
void live_plain(const LiveLine *line, Text *out);
